import { until } from './cluster.ts';

interface Client {
  sql(text: string): Promise<unknown[][]>;
}
/** Where commits wait: a TestNode, or a database alike. */
export interface Place extends Client {
  connect(): Promise<Client & AsyncDisposable>;
}

/**
 * Makes commits of users wait for a standby that never comes: they have their time and are on the log, and nobody sees them. A server whose
 * sessions know the setting does not obey it yet: its checkpointer says when, and may be at a checkpoint.
 */
export async function commitsWait(at: Place, wait: boolean): Promise<void> {
  await at.sql(
    `ALTER SYSTEM ${wait ? `SET synchronous_standby_names = 'nobody'` : 'RESET synchronous_standby_names'}`,
  );
  await at.sql(`SELECT pg_reload_conf()`);
  await until('the setting to hold', async () => {
    const [row] = await at.sql('SHOW synchronous_standby_names');
    return row?.[0] === (wait ? 'nobody' : '');
  });
  if (wait) await until('a commit to wait', () => aCommitWaits(at));
}

/** Commits something that nobody looks at; returns whether that had to wait. */
async function aCommitWaits(at: Place): Promise<boolean> {
  await using client = await at.connect();
  await client.sql(`SET synchronous_commit = 'on'`);
  const [own] = await client.sql('SELECT pg_backend_pid()');
  let returned = false;
  const commit = client.sql(`SELECT pg_logical_emit_message(true, 'test', '')`).finally(() => {
    returned = true;
  });
  const waits = async () => (await committing(at)).includes(own?.[0]);
  let waited = false;
  while (!returned && !waited) waited = await waits();
  if (waited) await at.sql(`SELECT pg_cancel_backend(${String(own?.[0])})`);
  await commit;
  return waited;
}

/** The backends whose commits wait. */
async function committing(at: Client): Promise<unknown[]> {
  const rows = await at.sql(`SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'`);
  return rows.map(([pid]) => pid);
}

/** Begins a commit that waits, and returns once it does. */
export async function waitingCommit(
  at: Place,
  sql: string,
): Promise<AsyncDisposable & { readonly done: Promise<unknown> }> {
  const user = await at.connect();
  const [own] = await user.sql('SELECT pg_backend_pid()');
  const done = user.sql(sql);
  done.catch(() => undefined);
  await until('the commit to wait', async () => (await committing(at)).includes(own?.[0]));
  return { done, [Symbol.asyncDispose]: () => user[Symbol.asyncDispose]() };
}

/** While users' commits wait. */
export const NOT_WAITING = 'SET synchronous_commit = local';
