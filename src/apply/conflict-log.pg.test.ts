import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import {
  commitAs,
  describeNamed,
  LOCAL,
  OTHER,
  peerOrigins,
  PROVIDER,
  providersWriter,
} from '../../test/support/apply-writers.ts';
import { ITEM } from '../../test/support/item-relation.ts';
import { startServer } from '../../test/support/servers.ts';
import type { Lsn } from '../base/lsn.ts';
import { quoteLiteral } from '../base/names.ts';
import { formatPgTime, LONG_AGO, pgTimeSql, type PgTime } from '../base/pg-time.ts';
import { install } from '../catalog/install.ts';
import { readSqlFiles } from '../catalog/sql-files.ts';
import { sqlDir } from '../config/paths.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Writer } from '../conflict/version.ts';
import { nodeKey } from '../model/node.ts';
import type { RowChange, TruncateChange } from '../pgoutput/transaction.ts';
import { tupleOf, type TupleValue, UNCHANGED } from '../pgoutput/tuple-value.ts';
import type { Session } from '../postgres/session.ts';
import { TableMap } from './table-map.ts';
import { MOST_NEWEST } from './truncation.ts';
import type { ChangeWriter } from './writer.ts';
import { Seen } from '../model/seen.ts';

// What the history keeps of a conflict: versions are stated, not waited for.

const HOUR = 3_600_000_000;

let server: EmbeddedServer;
let session: Session;
let user: Session;
let tables: TableMap;
let writer: ChangeWriter;
const history = { isKept: true, withRows: true };
let now: number;
const at = (micros: number) => (now + micros) as PgTime;

beforeAll(async () => {
  server = await startServer();
  [session, user] = [await openSession(server), await openSession(server)];
  await install(session, readSqlFiles(sqlDir()));
  // Beside the table, what create and join make for tables that run code of their owners.
  await session.script(
    'CREATE SCHEMA bdr_guard; CREATE TABLE public.item (id text PRIMARY KEY, v text, big text)',
  );
  const origins = await peerOrigins(session);
  tables = new TableMap(session);
  writer = providersWriter(origins, { session, tables, history });
});
afterAll(async () => {
  await session?.close();
  await user?.close();
  await server?.[Symbol.asyncDispose]();
});
beforeEach(async () => {
  Object.assign(history, { isKept: true, withRows: true });
  await user.script('TRUNCATE public.item, bdr.tombstone, bdr.bdr_conflict_history');
  const [row] = await user.query<{ now: string }>(
    `SELECT ${pgTimeSql('clock_timestamp()')} AS now`,
  );
  now = Number(row?.now);
});

/** A row that the other peer wrote. */
const othersRow = (id: string, time: PgTime) =>
  commitAs(
    user,
    'other',
    time,
    `INSERT INTO public.item VALUES (${quoteLiteral(id)}, 'other', 'b')`,
  );

const insert = (...row: readonly TupleValue[]): RowChange => ({
  kind: 'insert',
  relation: ITEM,
  newTuple: tupleOf(row),
});
const update = (...row: readonly TupleValue[]): RowChange => ({
  kind: 'update',
  relation: ITEM,
  oldTuple: null,
  oldTupleIsKey: false,
  newTuple: tupleOf(row),
});
const remove = (id: string): RowChange => ({
  kind: 'delete',
  relation: ITEM,
  oldTuple: tupleOf([id, null, null]),
  oldTupleIsKey: true,
});

const TRUNCATE: TruncateChange = {
  kind: 'truncate',
  relations: [ITEM],
  cascade: false,
  restartIdentity: false,
};

/** Applies a transaction of the provider, who had seen of each other node what was written up to `seenUpTo`. */
async function applied(
  time: PgTime,
  changes: readonly (RowChange | TruncateChange)[],
  seenUpTo = LONG_AGO,
  end: 'COMMIT' | 'ROLLBACK' = 'COMMIT',
  isCareful = false,
): Promise<void> {
  const seen = new Seen(new Map([LOCAL, OTHER].map(({ id }) => [nodeKey(id), seenUpTo] as const)));
  const context = { xid: 99, commitTime: time, commitLsn: 0x1268 as Lsn, seen };
  await session.script('BEGIN');
  try {
    writer.begin({ isCareful });
    for (const change of changes) {
      if (change.kind === 'truncate') await writer.truncate(change, context);
      else await writer.write(change, context);
    }
    if (end === 'COMMIT') await writer.finish();
    await session.script(end);
  } catch (error) {
    await session.script('ROLLBACK');
    throw error;
  }
}

/** What the history says, without what the database makes up, in the order of the keys. */
async function kept(): Promise<Record<string, unknown>[]> {
  const rows = await user.query<{ row: string }>(`
    SELECT row_to_json(h.*)::text AS row FROM (
        SELECT object_schema || '.' || object_name AS table, row_key AS key, conflict_type AS type,
               conflict_resolution AS resolution, policy, rule, action, certainly_concurrent AS certain,
               local_tuple AS local, local_tuple_origin_dboid AS "localNode",
               ${pgTimeSql('local_commit_time')} AS "localTime",
               remote_tuple AS remote, remote_node_dboid AS "remoteNode",
               ${pgTimeSql('remote_commit_time')} AS "remoteTime"
        FROM bdr.bdr_conflict_history ORDER BY row_key->>'id'
    ) AS h`);
  return rows.map(({ row }) => JSON.parse(row) as Record<string, unknown>);
}

/** By how many statements the conflicts of one transaction were written. */
async function statements(): Promise<number> {
  const [row] = await user.query<{ n: string }>(
    'SELECT count(DISTINCT cmin::text) AS n FROM bdr.bdr_conflict_history',
  );
  return Number(row?.n);
}

const columns = (...names: readonly string[]) =>
  kept().then((rows) => rows.map((row) => names.map((name) => row[name])));

test('a change that loses to a user’s row is kept with both rows, and was certainly concurrent', async () => {
  await user.script(`INSERT INTO public.item VALUES ('1', 'user', 'b')`);
  await applied(at(-HOUR), [update('1', 'remote', UNCHANGED)]);
  const [conflict] = await kept();
  expect(conflict).toEqual({
    table: 'public.item',
    key: { id: '1' },
    type: 'update_update',
    resolution: 'last_update_wins_keep_local',
    policy: 'last_update_wins',
    rule: 'greater_version',
    action: 'skip',
    certain: true,
    local: { id: '1', v: 'user', big: 'b' },
    localNode: String(LOCAL.id.dboid),
    localTime: expect.any(Number) as number,
    // What was not sent is not made up.
    remote: { id: '1', v: 'remote' },
    remoteNode: String(PROVIDER.id.dboid),
    remoteTime: at(-HOUR),
  });
  expect(Number(conflict?.['localTime'])).toBeGreaterThan(at(0));
});

test('a change that wins is kept with the row as it was; its writer may have seen it', async () => {
  await user.script(`INSERT INTO public.item VALUES ('1', 'user', 'b'), ('2', 'user', 'b')`);
  await applied(at(HOUR), [insert('1', 'remote', 'c'), remove('2')]);
  expect(
    await columns('type', 'resolution', 'rule', 'action', 'certain', 'local', 'remote'),
  ).toEqual([
    [
      'insert_insert',
      'last_update_wins_keep_remote',
      'insert_existing',
      'update',
      false,
      { id: '1', v: 'user', big: 'b' },
      { id: '1', v: 'remote', big: 'c' },
    ],
    [
      'update_delete',
      'last_update_wins_keep_remote',
      'delete_existing',
      'delete',
      false,
      { id: '2', v: 'user', big: 'b' },
      { id: '2' },
    ],
  ]);
});

test('of what a third node had seen nothing is certain', async () => {
  await othersRow('1', at(0));
  await applied(at(-1), [update('1', 'remote', 'b')]);
  expect(await columns('action', 'certain', 'localNode', 'localTime')).toEqual([
    ['skip', false, String(OTHER.id.dboid), at(0)],
  ]);
});

/** Deletions that are remembered. */
async function remembered(
  ...deletions: readonly (readonly [id: string, time: PgTime, by: Writer])[]
): Promise<void> {
  const values = deletions.map(
    ([id, time, by]) =>
      `(${quoteLiteral(id)}, ${quoteLiteral(formatPgTime(time))}, ${by.id.dboid})`,
  );
  await user.script(`
    INSERT INTO bdr.tombstone (relation, key_hash, row_key, committed_at, node_sysid, node_timeline, node_dboid)
    SELECT 'public.item'::regclass, hash_record_extended(ROW(id), 0), ARRAY[id], at::timestamptz, '7', 1, node::oid
    FROM (VALUES ${values.join(', ')}) AS v (id, at, node)`);
}

test('where the row is missing, the deletion that is remembered stands in its place', async () => {
  await remembered(['1', at(5), LOCAL], ['2', at(5), OTHER], ['3', at(-5), OTHER]);
  await applied(at(0), [
    update('1', 'remote', 'b'),
    update('2', 'remote', 'b'),
    update('3', 'remote', 'b'),
    update('4', 'remote', 'b'),
    remove('5'),
  ]);
  expect(
    await columns('resolution', 'rule', 'action', 'certain', 'local', 'localNode', 'localTime'),
  ).toEqual([
    ['skip_change', 'update_missing', 'skip', true, null, String(LOCAL.id.dboid), at(5)],
    ['skip_change', 'update_missing', 'skip', false, null, String(OTHER.id.dboid), at(5)],
    ['apply_change', 'update_missing', 'insert', false, null, String(OTHER.id.dboid), at(-5)],
    ['apply_change', 'update_missing', 'insert', false, null, null, null],
    ['skip_change', 'delete_missing', 'skip', false, null, null, null],
  ]);
});

test.each([
  ['at once', false],
  ['row by row', true],
])('an insert that comes to where users have deleted its key is kept, %s', async (_, isCareful) => {
  await remembered(['1', at(5), LOCAL], ['2', at(5), OTHER], ['3', at(-5), LOCAL]);
  const changes = ['1', '2', '3'].map((id) => insert(id, 'remote', 'b'));
  await applied(at(0), changes, at(0), 'COMMIT', isCareful);
  expect(
    await columns('type', 'resolution', 'rule', 'action', 'certain', 'local', 'remote'),
  ).toEqual([
    [
      'update_delete',
      'skip_change',
      'insert_deleted',
      'skip',
      true,
      null,
      { id: '1', v: 'remote', big: 'b' },
    ],
  ]);
  expect(await columns('key', 'localNode', 'localTime', 'remoteTime')).toEqual([
    [{ id: '1' }, String(LOCAL.id.dboid), at(5), at(0)],
  ]);
  expect(await user.query('SELECT id FROM public.item')).toEqual([{ id: '3' }]);
});

test('of rows that a TRUNCATE takes those of users are kept that its writer may not have had', async () => {
  await othersRow('1', at(0));
  await user.script(`INSERT INTO public.item VALUES ('2', 'user', 'b')`);
  const [row] = await user.query<{ now: string }>(
    `SELECT ${pgTimeSql('clock_timestamp()')} AS now`,
  );
  await user.script(`INSERT INTO public.item VALUES ('3', 'user', 'b')`);
  await applied(at(HOUR), [TRUNCATE], Number(row?.now) as PgTime);
  expect(
    await columns('key', 'type', 'resolution', 'rule', 'action', 'local', 'remote', 'remoteTime'),
  ).toEqual([
    [
      { id: '3' },
      'update_delete',
      'last_update_wins_keep_remote',
      'truncated',
      'delete',
      { id: '3', v: 'user', big: 'b' },
      { id: '3' },
      at(HOUR),
    ],
  ]);
  expect(await user.query('SELECT id FROM public.item')).toEqual([]);
});

test('however many blocks they are in, and none that stays', async () => {
  await user.script(`
    ALTER TABLE public.item SET (fillfactor = 10);
    INSERT INTO public.item SELECT g::text, 'user', 'b' FROM generate_series(1, 4000) AS g`);
  await applied(at(-HOUR), [TRUNCATE], at(-2 * HOUR));
  expect(await kept()).toEqual([]);
  await applied(at(HOUR), [TRUNCATE], at(-2 * HOUR));
  await user.script('ALTER TABLE public.item RESET (fillfactor)');
  expect(await kept()).toHaveLength(4000);
  expect(await statements()).toBe(4);
});

test('where nothing is known of what its writer had, of the newest only', async () => {
  await user.script(`INSERT INTO public.item VALUES ('old', 'user', 'b')`);
  await user.script(
    `INSERT INTO public.item SELECT g::text, 'user', 'b' FROM generate_series(1, ${MOST_NEWEST - 1}) AS g`,
  );
  await user.script(`INSERT INTO public.item VALUES ('new', 'user', 'b')`);
  await applied(at(HOUR), [TRUNCATE]);
  const [row] = await user.query<{ all: string; old: string }>(`
    SELECT count(*) AS all, count(*) FILTER (WHERE row_key ->> 'id' = 'old') AS old FROM bdr.bdr_conflict_history`);
  expect(row).toEqual({ all: String(MOST_NEWEST), old: '0' });
  expect(await user.query('SELECT id FROM public.item')).toEqual([]);
});

test('rows that a trigger keeps stay', async () => {
  await user.script(`
    CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
    CREATE TRIGGER keep BEFORE DELETE ON public.item FOR EACH ROW EXECUTE FUNCTION public.keep();
    ALTER TABLE public.item ENABLE ALWAYS TRIGGER keep;
    INSERT INTO public.item VALUES ('1', 'user', 'b')`);
  tables.forget();
  try {
    await applied(at(HOUR), [TRUNCATE]);
    expect(await columns('key')).toEqual([[{ id: '1' }]]);
    expect(await user.query('SELECT id FROM public.item')).toEqual([{ id: '1' }]);
  } finally {
    await user.script('DROP TRIGGER keep ON public.item; DROP FUNCTION public.keep()');
    tables.forget();
  }
});

test('a table whose rows have no key is no exception', async () => {
  await user.script('CREATE TABLE public.note (v text)');
  try {
    const relation = await describeNamed(user, 'public.note');
    const noted = (v: string): RowChange => ({ kind: 'insert', relation, newTuple: tupleOf([v]) });
    await user.script(`INSERT INTO public.note VALUES ('users')`);
    await applied(at(HOUR), [{ ...TRUNCATE, relations: [relation] }]);
    await user.script(`UPDATE bdr.tombstone SET node_dboid = ${LOCAL.id.dboid}`);
    await applied(at(0), [noted('comes late')]);
    await applied(at(HOUR + 1), [noted('stays')]);
    expect(await columns('table', 'key', 'rule', 'local', 'remote')).toEqual([
      ['public.note', null, 'truncated', { v: 'users' }, null],
      ['public.note', null, 'insert_deleted', null, { v: 'comes late' }],
    ]);
    expect(await user.query('SELECT v FROM public.note')).toEqual([{ v: 'stays' }]);
  } finally {
    await user.script('DROP TABLE public.note');
    tables.forget();
  }
});

test('an update that is to become an insert, and cannot because the provider has lost the row, did nothing', async () => {
  // Nothing can be read from the provider here.
  await applied(at(0), [update('1', 'remote', UNCHANGED)]);
  expect(await columns('resolution', 'action')).toEqual([['apply_change', 'skip']]);
});

test('nothing is kept where the writer had seen the other’s write', async () => {
  await othersRow('1', at(0));
  await othersRow('2', at(0));
  await user.script(`
    INSERT INTO bdr.tombstone (relation, key_hash, row_key, committed_at, node_sysid, node_timeline, node_dboid)
    SELECT 'public.item'::regclass, hash_record_extended(ROW('3'::text), 0), ARRAY['3'],
           ${quoteLiteral(formatPgTime(at(0)))}, '7', 1, ${OTHER.id.dboid}`);
  await applied(at(1), [update('1', 'a', 'b'), remove('2'), update('3', 'c', 'd')], at(0));
  expect(await kept()).toEqual([]);
  // The same, one microsecond less seen.
  await othersRow('2', at(2));
  await applied(at(3), [remove('2')], at(1));
  expect(await columns('key')).toEqual([[{ id: '2' }]]);
});

test('conflicts of an attempt that is undone are not kept by the next one', async () => {
  await user.script(`INSERT INTO public.item VALUES ('1', 'user', 'b'), ('2', 'user', 'b')`);
  await applied(at(-HOUR), [update('1', 'remote', 'b')], LONG_AGO, 'ROLLBACK');
  await applied(at(-HOUR), [update('2', 'remote', 'b')]);
  expect(await columns('key')).toEqual([[{ id: '2' }]]);
});

test('many conflicts are written by few statements, none is lost, and each keeps its rows', async () => {
  await user.script(
    `INSERT INTO public.item SELECT lpad(g::text, 5, '0'), 'user ' || g, 'b' FROM generate_series(1, 2500) AS g`,
  );
  const changes = Array.from({ length: 2500 }, (_, index) =>
    insert(String(index + 1).padStart(5, '0'), `remote ${index + 1}`, 'c'),
  );
  await applied(at(HOUR), changes);
  const [row] = await user.query<{ all: string; right: string }>(`
    SELECT count(*) AS all,
           count(*) FILTER (WHERE local_tuple->>'v' = 'user ' || (row_key->>'id')::integer
                              AND remote_tuple->>'v' = 'remote ' || (row_key->>'id')::integer) AS right
    FROM bdr.bdr_conflict_history`);
  expect(row).toEqual({ all: '2500', right: '2500' });
  expect(await statements()).toBe(3);
});

test('rows that are large are not gathered for long', async () => {
  const large = 'x'.repeat(400_000);
  await user.script(
    `INSERT INTO public.item SELECT g::text, 'user', 'b' FROM generate_series(1, 6) AS g`,
  );
  await applied(
    at(HOUR),
    ['1', '2', '3', '4', '5', '6'].map((id) => insert(id, large, 'c')),
  );
  expect(await statements()).toBe(2);
});

test('without rows there is the key, and without the history nothing', async () => {
  await user.script(
    `INSERT INTO public.item SELECT g::text, 'user', 'b' FROM generate_series(1, 3) AS g`,
  );
  history.withRows = false;
  await applied(at(-HOUR), [update('1', 'remote', 'b'), remove('7')]);
  expect(await columns('key', 'action', 'local', 'remote')).toEqual([
    [{ id: '1' }, 'skip', null, null],
    [{ id: '7' }, 'skip', null, null],
  ]);
  history.isKept = false;
  await applied(at(HOUR), [update('2', 'remote', 'b')]);
  expect(await columns('key')).toHaveLength(2);
  const [row] = await user.query<{ v: string }>(`SELECT v FROM public.item WHERE id = '2'`);
  expect(row?.v).toBe('remote');
});

test('a row that cannot be read for the history is the reason that is told', async () => {
  await user.script(`
    CREATE TYPE public.mood AS ENUM ('user', 'remote');
    CREATE FUNCTION public.refuse(public.mood) RETURNS json LANGUAGE plpgsql AS $$ BEGIN RAISE 'no JSON of this'; END $$;
    CREATE CAST (public.mood AS json) WITH FUNCTION public.refuse;
    ALTER TABLE public.item ALTER v TYPE public.mood USING v::public.mood;
    INSERT INTO public.item VALUES ('1', 'user', 'b')`);
  tables.forget();
  try {
    await expect(applied(at(HOUR), [update('1', 'remote', 'b')])).rejects.toThrow(
      'no JSON of this',
    );
  } finally {
    await user.script(`
      ALTER TABLE public.item ALTER v TYPE text;
      DROP TYPE public.mood CASCADE`);
    tables.forget();
  }
});

test('rows of a table that runs code of its owner are kept as well', async () => {
  await user.script(`
    CREATE ROLE joe;
    GRANT USAGE ON SCHEMA public TO joe;
    CREATE FUNCTION public.fine(text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
    ALTER FUNCTION public.fine(text) OWNER TO joe;
    ALTER TABLE public.item OWNER TO joe;
    ALTER TABLE public.item ADD CONSTRAINT fine CHECK (public.fine(v));
    INSERT INTO public.item VALUES ('1', 'user ''x''', 'b')`);
  tables.forget();
  try {
    await applied(at(HOUR), [update('1', 'remote', 'b')]);
    expect((await tables.find(ITEM)).role).toBeDefined();
    expect(await columns('key', 'action', 'local', 'remote')).toEqual([
      [
        { id: '1' },
        'update',
        { id: '1', v: "user 'x'", big: 'b' },
        { id: '1', v: 'remote', big: 'b' },
      ],
    ]);
  } finally {
    await user.script(`
      ALTER TABLE public.item DROP CONSTRAINT fine;
      ALTER TABLE public.item OWNER TO postgres;
      DROP OWNED BY joe;
      DROP ROLE joe`);
    tables.forget();
  }
});
