import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { LOCAL, OTHER, PROVIDER } from '../../test/support/apply-writers.ts';
import { openNewDatabase, openSession } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import type { Lsn } from '../base/lsn.ts';
import type { PgTime } from '../base/pg-time.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Session } from '../postgres/session.ts';
import { recordConflicts, type ConflictRecord } from './conflict-history.ts';
import {
  readConflicts,
  readHistoryHorizon,
  readMoment,
  readNumberBefore,
  readTableName,
  type ConflictFilter,
} from './read-conflicts.ts';

const NOON = 845_000_000_123_456 as PgTime;

const RECORD: ConflictRecord = {
  table: { schema: 'public', name: 'item' },
  key: '{"id":1,"part":"x"}',
  type: 'update_update',
  resolution: 'last_update_wins_keep_local',
  policy: 'last_update_wins',
  rule: 'greater_version',
  action: 'skip',
  certainlyConcurrent: true,
  local: { row: '{"id":1}', xmin: '9', version: { time: NOON, writer: LOCAL } },
  remote: {
    row: '{"big": 12345678901234567890,\n "small": 1}',
    node: PROVIDER.id,
    xid: 4_000_000_000,
    commitTime: (NOON - 1) as PgTime,
    commitLsn: 0x1268 as Lsn,
  },
};
const ALL: ConflictFilter = { table: undefined, since: undefined };

let server: EmbeddedServer;
let session: Session;

beforeAll(async () => {
  server = await startServer();
  session = await openNewDatabase(server, 'app');
  await session.script(`
    CREATE TABLE public.item (id integer PRIMARY KEY);
    INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid) VALUES ('7', 1, 1);
    INSERT INTO bdr.bdr_nodes (node_sysid, node_timeline, node_dboid, node_status, node_name)
    VALUES ('7', 1, ${LOCAL.id.dboid}, 'r', 'one'), ('7', 1, ${PROVIDER.id.dboid}, 'k', 'two')`);
});
afterAll(async () => {
  await session?.close();
  await server?.[Symbol.asyncDispose]();
});
beforeEach(() => session.script('TRUNCATE bdr.bdr_conflict_history RESTART IDENTITY'));

const record = (...records: readonly Partial<ConflictRecord>[]) =>
  recordConflicts(
    session,
    LOCAL.id,
    records.map((one) => ({ ...RECORD, ...one })),
  );
const read = (filter = ALL, after = 0, except: readonly number[] = [], most = 10) =>
  readConflicts(session, filter, { after, except, most });

test('a conflict is read with the names of its nodes, and as JSON in one line without loss', async () => {
  await record({});
  const [conflict] = await read();
  const at = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/) as string;
  expect(conflict).toMatchObject({
    id: 1,
    at,
    schema: 'public',
    table: 'item',
    key: 'id=1, part=x',
    type: 'update_update',
    resolution: 'last_update_wins_keep_local',
    action: 'skip',
    certainlyConcurrent: true,
    local: 'one',
    // Parted, and known all the same.
    remote: 'two',
  });
  expect(conflict?.json).not.toContain('\n');
  expect(conflict?.json).toContain('12345678901234567890');
  expect(JSON.parse(conflict?.json ?? '')).toMatchObject({
    id: 1,
    at,
    schema: 'public',
    table: 'item',
    key: { id: 1, part: 'x' },
    policy: 'last_update_wins',
    rule: 'greater_version',
    certainlyConcurrent: true,
    local: { node: 'one', committedAt: '2026-10-11T02:13:20.123456Z', row: { id: 1 } },
    remote: {
      node: 'two',
      committedAt: '2026-10-11T02:13:20.123455Z',
      xid: '4000000000',
      commitLsn: '0/1268',
      row: { small: 1 },
    },
  });
});

test('what is not there is null, and a node without a name has its identity', async () => {
  await record({
    key: null,
    local: { row: null, xmin: null, version: null },
    remote: { ...RECORD.remote, row: null, node: OTHER.id },
  });
  const [conflict] = await read();
  expect(conflict).toMatchObject({ key: null, local: null, remote: '7:1:3' });
  expect(JSON.parse(conflict?.json ?? '')).toMatchObject({
    key: null,
    local: { node: null, committedAt: null, row: null },
    remote: { row: null },
  });
});

test('conflicts are read in the order of their numbers, a page at a time, without those that are known', async () => {
  await record({}, {}, {}, {}, {});
  const ids = async (...range: Parameters<typeof read>) =>
    (await read(...range)).map(({ id }) => id);
  expect(await ids(ALL, 0, [], 3)).toEqual([1, 2, 3]);
  expect(await ids(ALL, 3)).toEqual([4, 5]);
  expect(await ids(ALL, 1, [2, 4])).toEqual([3, 5]);
});

test('they are chosen by table and by time', async () => {
  await record(
    {},
    { table: { schema: 'sales', name: 'item' } },
    { table: { schema: 'public', name: 'other' } },
  );
  await session.script(
    `UPDATE bdr.bdr_conflict_history SET local_conflict_time = local_conflict_time - interval '1 hour' WHERE conflict_id = 1`,
  );
  const ids = async (filter: Partial<ConflictFilter>) =>
    (await read({ ...ALL, ...filter })).map(({ id }) => id);
  expect(await ids({ table: { schema: null, name: 'item' } })).toEqual([1, 2]);
  expect(await ids({ table: { schema: 'sales', name: 'item' } })).toEqual([2]);
  const since = await readMoment(session, { ago: '30min' });
  expect(await ids({ since })).toEqual([2, 3]);
  expect(await readNumberBefore(session, since)).toBe(1);
  expect(await ids({ since: await readMoment(session, { ago: '2 hours' }) })).toEqual([1, 2, 3]);
});

test('a table is named as in SQL, and one that nobody knows is none', async () => {
  await record({ table: { schema: 'gone', name: 'Dropped' } });
  expect(await readTableName(session, 'ITEM')).toEqual({ schema: null, name: 'item' });
  expect(await readTableName(session, 'public.item')).toEqual({ schema: 'public', name: 'item' });
  expect(await readTableName(session, 'gone."Dropped"')).toEqual({
    schema: 'gone',
    name: 'Dropped',
  });
  for (const unknown of ['typo', 'other.item', '"ITEM"', 'gone.dropped', 'app.public.item']) {
    expect(await readTableName(session, unknown), unknown).toBeUndefined();
  }
  await expect(readTableName(session, 'a..b')).rejects.toMatchObject({ code: '22023' });
});

test('times and amounts of time are PostgreSQL’s; others are refused', async () => {
  expect(await readMoment(session, { at: '2030-01-02 03:04' })).toBe('2030-01-02 03:04:00+00');
  expect(await readMoment(session, { at: '2030-01-02T03:04+02' })).toBe('2030-01-02 01:04:00+00');
  for (const amount of ['1 hour', '2d', '1h30min', '1.5 weeks', '3 mons', '5m', '1y']) {
    expect(await readMoment(session, { ago: amount })).toMatch(/^\d{4}-/);
  }
  await expect(readMoment(session, { at: 'a while' })).rejects.toMatchObject({ code: '22007' });
});

test('who has drawn a number is among the writers until it can be seen', async () => {
  await record({});
  await using other = await openSession(server, 'app');
  expect(await readHistoryHorizon(session)).toEqual({ last: 1, writers: [] });
  await other.script('BEGIN');
  await recordConflicts(other, LOCAL.id, [RECORD]);
  const [own] = await other.query<{ id: string }>(
    `SELECT virtualtransaction AS id FROM pg_locks WHERE pid = pg_backend_pid() LIMIT 1`,
  );
  // Reading it is not writing.
  await using reader = await openSession(server, 'app');
  await reader.script('BEGIN; SELECT FROM bdr.bdr_conflict_history');
  expect(await readHistoryHorizon(session)).toEqual({ last: 2, writers: [own?.id] });
  await other.script('COMMIT');
  expect(await readHistoryHorizon(session)).toEqual({ last: 2, writers: [] });
  expect(await read()).toHaveLength(2);
});
