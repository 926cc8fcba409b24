import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  createGroup,
  joinGroup,
  openNewDatabase,
  openSession,
  startAgent,
} from '../../test/support/agents.ts';
import { until } from '../../test/support/cluster.ts';
import { startServer } from '../../test/support/servers.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Session } from '../postgres/session.ts';
import { readStatus, type ActiveStatus } from './status.ts';

let server: EmbeddedServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => server[Symbol.asyncDispose]());

/** A DSN with a password, which nobody checks here and nobody may see. */
const secretDsn = (database: string) => `${server.dsn(database)} password=geheim`;

async function active(session: Session): Promise<ActiveStatus> {
  const status = await readStatus(session);
  if (!status.active) throw new Error('the database is no node');
  return status;
}

test('a database that is no node says what is there', async () => {
  await using bare = await openSession(server);
  expect(await readStatus(bare)).toEqual({
    active: false,
    at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as string,
    database: 'postgres',
    postgres: server.version,
    bdr: null,
    extensionAvailable: expect.any(Boolean) as boolean,
    nodeDatabases: [],
  });
  await using installed = await openNewDatabase(server, 'installed');
  expect(await readStatus(installed)).toMatchObject({
    active: false,
    bdr: expect.stringContaining('1.0') as string,
  });
});

test('two nodes see themselves and each other, up to date, without passwords', async () => {
  await using a = await openNewDatabase(server, 'pair_a');
  await using b = await openNewDatabase(server, 'pair_b');
  {
    await using _agent = startAgent(server);
    await createGroup(a, 'alpha', secretDsn('pair_a'));
    await joinGroup(b, 'beta', secretDsn('pair_b'), secretDsn('pair_a'));
    await until('both links report that they are up to date', async () =>
      (await Promise.all([active(a), active(b)])).every(
        ({ links, slots }) =>
          links.length === 1 &&
          links.every(({ status, lagMs }) => status === 'streaming' && (lagMs ?? 1e9) < 3000) &&
          slots.length === 1 &&
          slots.every((slot) => slot.active),
      ),
    );

    const status = await active(b);
    expect(status).toMatchObject({
      database: 'pair_b',
      postgres: server.version,
      agentPid: expect.any(Number) as number,
      name: 'beta',
      status: 'r',
      statusWord: 'ready',
      applyPaused: false,
      join: null,
      nodes: [
        { name: 'alpha', statusWord: 'ready', sequence: 1, isLocal: false, error: null },
        { name: 'beta', statusWord: 'ready', sequence: 2, isLocal: true, error: null },
      ],
      links: [{ from: 'alpha', status: 'streaming', error: null }],
      slots: [{ to: 'alpha', active: true, walStatus: 'reserved' }],
    });
    const text = JSON.stringify(status);
    expect(text).not.toContain('geheim');
    expect(status.nodes[0]?.dsn).toContain('password=***');

    await b.query('SELECT bdr.bdr_apply_pause()');
    await until('the link says that it is paused', async () =>
      (await active(b)).links.every((link) => link.status === 'paused'),
    );
    expect((await active(b)).applyPaused).toBe(true);
    await b.query('SELECT bdr.bdr_apply_resume()');

    const { conflicts: before } = await active(a);
    await a.script(`
      INSERT INTO bdr.bdr_conflict_history (
          local_node_sysid, local_conflict_xid, local_conflict_lsn, local_conflict_time, remote_node_sysid, remote_txid,
          remote_commit_time, remote_commit_lsn, conflict_type, conflict_resolution, policy, rule, action, certainly_concurrent
      )
      SELECT '1', '1', '0/1', clock_timestamp() - age, '1', '1', now(), '0/1', 'update_update', 'skip_change',
             'last_update_wins', 'greater_version', 'skip', true
      FROM unnest(ARRAY[interval '1 minute', '2 hours']) AS age
    `);
    expect((await active(a)).conflicts).toEqual({
      total: before.total + 2,
      lastHour: before.lastHour + 1,
    });
  }
  expect((await active(a)).agentPid).toBeNull();
});

test('a join shows where it is and why it does not go on', async () => {
  await using c = await openNewDatabase(server, 'lonely');
  await using _agent = startAgent(server);
  await c.query('SELECT bdr.bdr_group_join($1, $2, $3)', [
    'gamma',
    server.dsn('lonely'),
    secretDsn('postgres'),
  ]);
  await until('the join has failed', async () => Boolean((await active(c)).join?.error));
  expect(await active(c)).toMatchObject({
    status: 'b',
    statusWord: 'beginning',
    join: {
      step: 'checking',
      error: {
        message: 'remote node does not appear to be a fully running BDR node',
        retry: false,
      },
    },
  });
});
