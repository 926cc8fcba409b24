import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { openNewDatabase } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import { readEnvironment } from '../config/environment.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { resolveConninfo } from '../postgres/conninfo.ts';
import type { Session } from '../postgres/session.ts';
import { DeletionsLimit } from './deletions-limit.ts';
import { createThreadLog, type LogLine } from './thread-log.ts';

let server: EmbeddedServer;
let session: Session;
let lines: LogLine[];
let limit: DeletionsLimit;
const { signal } = new AbortController();

beforeAll(async () => {
  server = await startServer();
  session = await openNewDatabase(server, 'app');
});
afterAll(async () => {
  await session?.close();
  await server?.[Symbol.asyncDispose]();
});
/** Three nodes; beta is away since it was heard of last, two minutes ago, and three deletions are remembered. */
beforeEach(async () => {
  await session.script(`
    ALTER DATABASE app SET bdr.max_deletions_for_absent = '2';
    TRUNCATE bdr.bdr_nodes, bdr.bdr_links, bdr.bdr_local_node, bdr.own_stream, bdr.tombstone;
    INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid)
    SELECT sysid, timeline, dboid FROM bdr.bdr_get_local_nodeid();
    INSERT INTO bdr.bdr_nodes (node_sysid, node_timeline, node_dboid, node_status, node_name)
    SELECT sysid, timeline, dboid, 'r', 'alpha' FROM bdr.bdr_get_local_nodeid()
    UNION ALL VALUES ('7', 1, 5, 'r', 'beta'), ('8', 1, 5, 'r', 'gamma');
    INSERT INTO bdr.bdr_links (provider_sysid, provider_timeline, provider_dboid, slot_name, origin_name, status, watermark_at)
    VALUES ('7', 1, 5, 'b', 'b', 'down', now() - interval '2 min'), ('8', 1, 5, 'c', 'c', 'streaming', now());
    INSERT INTO bdr.own_stream (status, watermark_at) VALUES ('streaming', now());
    INSERT INTO bdr.tombstone (relation, node_sysid, node_timeline, node_dboid, committed_at)
    SELECT g, '8', 1, 5, now() FROM generate_series(1, 3) AS g`);
  lines = [];
  limit = new DeletionsLimit(
    resolveConninfo(server.dsn('app'), readEnvironment()),
    createThreadLog((line) => lines.push(line)),
  );
});

/** Names of the nodes that are parted after a look. */
async function parted(): Promise<string[]> {
  await limit.look(session, signal);
  const rows = await session.query<{ name: string }>(
    `SELECT node_name AS name FROM bdr.bdr_nodes WHERE node_status = 'k' ORDER BY 1`,
  );
  return rows.map(({ name }) => name);
}

test('the peer that is away is parted, and the log says so', async () => {
  expect(await parted()).toEqual(['beta']);
  expect(lines).toMatchObject([{ fields: { peer: 'beta', 'bdr.max_deletions_for_absent': 2 } }]);
});

test.each([
  ['as many are remembered as are allowed', 'DELETE FROM bdr.tombstone WHERE relation = 1'],
  ['no limit is set', 'ALTER DATABASE app RESET bdr.max_deletions_for_absent'],
  ['0 is set', `ALTER DATABASE app SET bdr.max_deletions_for_absent = '0'`],
  [
    'it is away for half a minute',
    `UPDATE bdr.bdr_links SET watermark_at = now() - interval '30 s' WHERE slot_name = 'b'`,
  ],
  ['it is there, and slow', `UPDATE bdr.bdr_links SET status = 'streaming'`],
  ['apply is paused', `UPDATE bdr.bdr_links SET status = 'paused'`],
  [
    'this node has not read its own log',
    `UPDATE bdr.own_stream SET watermark_at = now() - interval '3 min'`,
  ],
  [
    'a peer that is there has told even less',
    `UPDATE bdr.bdr_links SET watermark_at = now() - interval '3 min' WHERE slot_name = 'c'`,
  ],
  [
    'nothing is known yet of another peer',
    `UPDATE bdr.bdr_links SET watermark_at = NULL WHERE slot_name = 'c'`,
  ],
])('nobody is parted while %s', async (_, script) => {
  await session.script(script);
  expect(await parted()).toEqual([]);
  expect(lines).toEqual([]);
});

test('a limit that is no number is none, and the log says so', async () => {
  await session.script(`ALTER DATABASE app SET bdr.max_deletions_for_absent = 'many'`);
  expect(await parted()).toEqual([]);
  expect(lines).toMatchObject([{ fields: { setting: 'bdr.max_deletions_for_absent' } }]);
});
