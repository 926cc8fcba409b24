import { until, type TestNode } from './cluster.ts';

/** Makes commits of users wait for a standby that never comes: they have their time and are on the log, and nobody sees them. */
export async function commitsWait(node: TestNode, wait: boolean): Promise<void> {
  await node.sql(
    `ALTER SYSTEM ${wait ? `SET synchronous_standby_names = 'nobody'` : 'RESET synchronous_standby_names'}`,
  );
  await node.sql(`SELECT pg_reload_conf()`);
  await until('the setting to hold', async () => {
    const [row] = await node.sql('SHOW synchronous_standby_names');
    return row?.[0] === (wait ? 'nobody' : '');
  });
}

/** Begins a commit that waits, and returns once it does. */
export async function waitingCommit(
  node: TestNode,
  sql: string,
): Promise<AsyncDisposable & { readonly done: Promise<unknown> }> {
  const user = await node.connect();
  const done = user.sql(sql);
  done.catch(() => undefined);
  await until('the commit to wait', async () => {
    const rows = await node.sql(`SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'`);
    return rows.length === 1;
  });
  return { done, [Symbol.asyncDispose]: () => user[Symbol.asyncDispose]() };
}

/** While users' commits wait. */
export const NOT_WAITING = 'SET synchronous_commit = local';
