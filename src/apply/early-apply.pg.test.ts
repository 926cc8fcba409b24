import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import {
  LOCAL,
  OTHER,
  peerOrigins,
  PROVIDER,
  providersWriter,
} from '../../test/support/apply-writers.ts';
import { ITEM } from '../../test/support/item-relation.ts';
import { startServer } from '../../test/support/servers.ts';
import type { Lsn } from '../base/lsn.ts';
import { formatPgTime, LONG_AGO, pgTimeSql, type PgTime } from '../base/pg-time.ts';
import { install } from '../catalog/install.ts';
import { readSqlFiles } from '../catalog/sql-files.ts';
import { sqlDir } from '../config/paths.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { nodeKey } from '../model/node.ts';
import type { Change, Relation, RowChange } from '../pgoutput/transaction.ts';
import { tupleOf } from '../pgoutput/tuple-value.ts';
import {
  commitStamped,
  ensureOrigin,
  originProgress,
  setUpOrigin,
  setUpOriginAlone,
} from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';
import { noCounts } from './apply-counts.ts';
import { EarlyApply } from './early-apply.ts';
import { LentOrigin } from './lent-origin.ts';
import { TableMap } from './table-map.ts';
import { PartBuilder, type TransactionPart } from './transaction-part.ts';
import { Seen } from '../model/seen.ts';

// Parts of a transaction that has not committed, with exactly the lower bounds of its commit time that are stated.

const NOON = 845_000_000_000_000 as PgTime;
const at = (micros: number) => (NOON + micros) as PgTime;
const LOGGED: Relation = {
  ...ITEM,
  id: 2,
  name: 'logged',
  replicaIdentity: 'nothing',
  columns: ITEM.columns.map((column) => ({ ...column, isKey: false })),
};

const EARLY = 'early';
let server: EmbeddedServer;
let session: Session;
/** Applies other transactions of the provider. */
let link: Session;
let user: Session;
let early: EarlyApply;
const counts = noCounts();
/** The group limit. */
let limit: PgTime;
let lsn = 1000;

beforeAll(async () => {
  server = await startServer();
  const connect = (settings: Record<string, string> = {}) =>
    openSession(server, 'postgres', { pipeline: true, settings });
  const apply = { lock_timeout: '50ms', deadlock_timeout: '1ms' };
  session = await connect(apply);
  link = await connect(apply);
  user = await connect();
  await install(session, readSqlFiles(sqlDir()));
  await session.script(`
    CREATE TABLE public.item (id text PRIMARY KEY, v text, big text);
    CREATE TABLE public.logged (id text, v text, big text);
    INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid) VALUES ('7', 1, 1)`);
  const origins = await peerOrigins(session);
  const providerOrigin = origins.provider;
  await ensureOrigin(user, EARLY);
  await setUpOriginAlone(session, EARLY);
  await setUpOrigin(link, 'provider');
  await setUpOrigin(user, 'other');
  const tables = new TableMap(session);
  const writer = providersWriter(origins, { session, tables, groupLimit: () => limit, counts });
  early = new EarlyApply({
    open: () => Promise.resolve({ session, origin: EARLY, tables, writer }),
    linkOrigin: new LentOrigin(link, 'provider'),
    provider: PROVIDER.id,
    providerOrigin,
    signal: new AbortController().signal,
  });
});
afterAll(async () => {
  await user?.close();
  await link?.close();
  await early?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});
beforeEach(async () => {
  await early.giveUp();
  Object.assign(counts, noCounts());
  limit = LONG_AGO;
  await user.script(`
    TRUNCATE public.item, public.logged, bdr.tombstone; UPDATE bdr.bdr_local_node SET apply_paused = false`);
});

const insert = (id: string, v: string, relation = ITEM): RowChange => ({
  kind: 'insert',
  relation,
  newTuple: tupleOf([id, v, 'b']),
});
const update = (id: string, v: string): RowChange => ({
  kind: 'update',
  relation: ITEM,
  oldTuple: null,
  oldTupleIsKey: false,
  newTuple: tupleOf([id, v, 'b']),
});

const remove = (id: string): RowChange => ({
  kind: 'delete',
  relation: ITEM,
  oldTuple: tupleOf([id, null, null]),
  oldTupleIsKey: true,
});

/** A part that arrived when the commit was known to come after `bound`; its writer had seen everything up to there. */
function part(changes: readonly Change[], bound = at(0)): TransactionPart {
  const seen = new Seen(new Map([LOCAL, OTHER].map(({ id }) => [nodeKey(id), bound])));
  const builder = new PartBuilder({ xid: 9, commitTime: bound, commitLsn: 0 as Lsn, seen });
  for (const change of changes) builder.add(change);
  return builder.rest() as TransactionPart;
}

/** Applies a part and waits for what that sends; returns why it was given up, if it was. */
const write = async (...of: Parameters<typeof part>) =>
  (await early.apply(part(...of))) ?? early.look();
const commit = (time = at(1000)) => early.commit({ commitTime: time, endLsn: (lsn += 100) as Lsn });
const rows = async (table = 'item') =>
  (
    await user.query<{ row: string }>(
      `SELECT concat_ws(' ', id, v) AS row FROM public.${table} ORDER BY id`,
    )
  ).map(({ row }) => row);
const progress = () => originProgress(user, 'provider', false);

/** A row that node OTHER has committed at that time. */
async function local(id: string, time: PgTime): Promise<void> {
  await user.script(`
    BEGIN; INSERT INTO public.item VALUES ('${id}', 'local', 'b');
    SELECT pg_replication_origin_xact_setup('0/0', '${formatPgTime(time)}'); COMMIT`);
}

async function remember(id: string, time: PgTime): Promise<void> {
  await user.query(
    `INSERT INTO bdr.tombstone (relation, node_sysid, node_timeline, node_dboid, committed_at, key_hash, row_key)
     VALUES ('public.item'::regclass, '7', 1, 3, $1, hashtext($2), ARRAY[$2])`,
    [formatPgTime(time), id],
  );
}

describe('a transaction that is applied before it has committed', () => {
  test('is seen at its commit, with its time and position, and counted then', async () => {
    expect(await write([insert('1', 'a'), insert('2', 'a')])).toBeUndefined();
    expect(await write([update('1', 'b'), insert('3', 'a', LOGGED)], at(10))).toBeUndefined();
    expect(await rows()).toEqual([]);
    expect(counts.inserts).toBe(0);
    expect(await commit(at(500))).toBeUndefined();
    expect(early.isOpen).toBe(false);
    expect(await rows()).toEqual(['1 b', '2 a']);
    expect(await rows('logged')).toEqual(['3 a']);
    expect(counts).toMatchObject({ inserts: 3, updates: 1 });
    expect(await progress()).toBe(lsn);
    const [row] = await user.query<{ at: string }>(
      `SELECT ${pgTimeSql('pg_xact_commit_timestamp(xmin)')} AS at FROM public.item WHERE id = '2'`,
    );
    expect(Number(row?.at)).toBe(at(500));
  });

  test('leaves the position to others meanwhile, and both sessions have their origins afterwards', async () => {
    for (const [id, end] of [
      ['1', commit],
      ['2', () => early.giveUp()],
      ['3', commit],
    ] as const) {
      await write([insert(id, 'early')]);
      await link.script('BEGIN');
      await link.query(`INSERT INTO public.item VALUES ($1, 'beside')`, [`${id}b`]);
      await commitStamped(link, (lsn += 100) as Lsn, at(100));
      expect(await progress()).toBe(lsn);
      await end();
      expect(await progress()).toBe(lsn);
    }
    expect(await rows()).toEqual(['1 early', '1b beside', '2b beside', '3 early', '3b beside']);
    const authors = await user.query(`
      SELECT DISTINCT (pg_xact_commit_timestamp_origin(i.xmin)).roident = o.roident AS providers
      FROM public.item AS i, pg_replication_origin AS o WHERE o.roname = 'provider'`);
    expect(authors).toEqual([{ providers: 't' }]);
  });

  test('is rolled back where its commit fails, and the origin goes back', async () => {
    await user.script(`
      CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;
      CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON public.logged DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION public.refuse()`);
    await write([insert('1', 'a')]);
    await session.script(`INSERT INTO public.logged VALUES ('1', 'a', 'b')`);
    expect(await commit()).toBe('refused');
    expect(await rows()).toEqual([]);
    await user.script('DROP TRIGGER refuse ON public.logged');
    await link.script('BEGIN');
    await commitStamped(link, (lsn += 100) as Lsn, at(100));
    expect(await progress()).toBe(lsn);
    await write([insert('2', 'a')]);
    expect(await commit()).toBeUndefined();
    expect(await rows()).toEqual(['2 a']);
  });

  test('is not begun where its session cannot be opened', async () => {
    await using without = new EarlyApply({
      open: () => Promise.reject(new Error('no free replication state')),
      linkOrigin: new LentOrigin(link, 'provider'),
      provider: PROVIDER.id,
      providerOrigin: 1,
      signal: new AbortController().signal,
    });
    expect(await without.apply(part([insert('1', 'a')]))).toBe('no free replication state');
    expect(without.isOpen).toBe(false);
  });

  test('leaves neither rows nor a position when it is given up, and the next goes by itself', async () => {
    await write([insert('1', 'a')]);
    const before = await progress();
    await early.giveUp();
    expect(await write([insert('2', 'a')])).toBeUndefined();
    expect(await progress()).toBe(before);
    await commit();
    expect(await rows()).toEqual(['2 a']);
    expect(counts.inserts).toBe(1);
  });

  test('takes rows that are certainly older, and gives up where one is not', async () => {
    await local('1', at(-1));
    await local('2', at(0));
    expect(await write([update('1', 'new')], at(0))).toBeUndefined();
    expect(await write([update('2', 'new')], at(0))).toMatch(/certainly older/);
    expect(early.isOpen).toBe(false);
    expect(await rows()).toEqual(['1 local', '2 local']);
    expect(await write([update('1', 'new'), update('2', 'new')], at(1))).toBeUndefined();
    await commit();
    expect(await rows()).toEqual(['1 new', '2 new']);
  });

  test('gives up where a row is in the way of an insert, or missing for an update', async () => {
    await local('1', at(-1000));
    expect(await write([insert('1', 'new')])).toMatch(/certainly older/);
    expect(await write([update('2', 'new')])).toMatch(/certainly older/);
    expect(await rows()).toEqual(['1 local']);
  });

  test('gives up when the time of the commit is not above what it relied on', async () => {
    await write([insert('1', 'a')], at(10));
    await write([insert('2', 'a')], at(5));
    expect(await commit(at(10))).toMatch(/clock of the provider/);
    expect(await rows()).toEqual([]);
  });

  test('gives up where a deletion is remembered, before and behind what it wrote', async () => {
    await remember('5', at(-1000));
    expect(await write([insert('1', 'a')])).toMatch(/deletions/);
    await user.script('TRUNCATE bdr.tombstone');
    await write([insert('1', 'a')]);
    await remember('1', at(2000));
    expect(await commit()).toMatch(/deletions/);
    expect(await rows()).toEqual([]);
  });

  test.each<[string, Change]>([
    ['a delete', remove('1')],
    ['a truncate', { kind: 'truncate', relations: [ITEM], cascade: false, restartIdentity: false }],
    [
      'a message',
      {
        kind: 'message',
        transactional: true,
        lsn: 1 as Lsn,
        prefix: 'p',
        content: Buffer.from('c'),
      },
    ],
    ['a table that is not here', insert('1', 'a', { ...ITEM, id: 3, name: 'missing' })],
    [
      "a table of the group's own",
      insert('1', 'a', { ...ITEM, id: 4, schema: 'bdr', name: 'bdr_nodes' }),
    ],
    [
      'a change of key',
      {
        kind: 'update',
        relation: ITEM,
        oldTuple: tupleOf(['1', null, null]),
        oldTupleIsKey: true,
        newTuple: tupleOf(['2', 'a', 'b']),
      },
    ],
  ])('gives up at %s', async (_, change) => {
    await write([insert('1', 'a')]);
    expect(await write([insert('2', 'a'), change])).toEqual(expect.any(String));
    expect(early.isOpen).toBe(false);
    expect(await rows()).toEqual([]);
  });

  test('deletes what nobody can send anything older about, and remembers nothing of it', async () => {
    await local('1', at(-10));
    await local('2', at(-10));
    limit = at(2_000_000);
    expect(await write([remove('1')])).toBeUndefined();
    expect(await commit(at(1000))).toBeUndefined();
    expect(await rows()).toEqual(['2 local']);
    expect(await user.query('SELECT FROM bdr.tombstone')).toEqual([]);
    expect(counts.deletes).toBe(1);
  });

  test('gives up where a deletion may have to be remembered, or finds no row, or one that is not certainly older', async () => {
    await local('1', at(-10));
    await local('2', at(10));
    limit = at(999_999);
    expect(await write([remove('1')])).toMatch(/may have to be remembered/);
    limit = at(1_000_000);
    expect(await write([remove('3')])).toMatch(/certainly older/);
    expect(await write([remove('2')])).toMatch(/certainly older/);
    // Others may have gone on since, which does not help, or the limit back.
    expect(await write([remove('1')])).toBeUndefined();
    limit = at(5_000_000);
    expect(await commit(at(1_000_001))).toMatch(/have to be remembered/);
    expect(await rows()).toEqual(['1 local', '2 local']);
  });

  test('holds no pause back, and gives up when there is one', async () => {
    await write([insert('1', 'a')]);
    await user.script('SELECT bdr.bdr_apply_pause()');
    expect(await write([insert('2', 'a')])).toMatch(/paused/);
    await user.script('SELECT bdr.bdr_apply_resume()');
    await write([insert('3', 'a')]);
    await user.script('SELECT bdr.bdr_apply_pause()');
    expect(await commit()).toMatch(/paused/);
    expect(await rows()).toEqual([]);
  });

  test('gives up when the gate is closed at its commit', async () => {
    await write([insert('1', 'a')]);
    await user.script('BEGIN; LOCK TABLE bdr.bdr_local_node IN EXCLUSIVE MODE');
    expect(await commit()).toMatch(/lock timeout/);
    await user.script('ROLLBACK');
    expect(await rows()).toEqual([]);
  });

  test('gives up for who waits for its rows, and rather than wait for those of others', async () => {
    await local('1', at(-10));
    await write([update('1', 'new')]);
    const waiting = user.run(`UPDATE public.item SET v = 'user' WHERE id = '1'`);
    let reason: string | undefined;
    while (reason === undefined) reason = await early.look();
    expect(reason).toMatch(/waits for it/);
    await waiting;
    expect(await rows()).toEqual(['1 user']);
    await user.script(`BEGIN; INSERT INTO public.item VALUES ('2', 'user', 'b')`);
    expect(await write([insert('2', 'a')])).toMatch(/lock timeout/);
    await user.script('COMMIT');
  });

  test('waits for a clock that is a little behind, and not for one that is far', async () => {
    const [now] = await user.query<{ now: string }>(
      `SELECT ${pgTimeSql('clock_timestamp()')} AS now`,
    );
    const soon = (Number(now?.now) + 300_000) as PgTime;
    await write([insert('1', 'a')]);
    expect(await commit(soon)).toBeUndefined();
    const [late] = await user.query<{ late: string }>(
      `SELECT (${pgTimeSql('clock_timestamp()')} > ${soon})::text AS late`,
    );
    expect(late?.late).toBe('true');
    await write([insert('2', 'a')]);
    expect(await commit((soon + 60_000_000) as PgTime)).toMatch(/ahead/);
    expect(await rows()).toEqual(['1 a']);
  });
});
