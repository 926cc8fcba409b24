import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import {
  commitAs,
  describeNamed,
  originsOfPeers,
  peerOrigins,
  PROVIDER,
  providersWriter,
} from '../../test/support/apply-writers.ts';
import { until } from '../../test/support/cluster.ts';
import { startServer } from '../../test/support/servers.ts';
import type { Lsn } from '../base/lsn.ts';
import { quoteLiteral } from '../base/names.ts';
import { formatPgTime, LONG_AGO, pgTimeSql, type PgTime } from '../base/pg-time.ts';
import type { DoneAgain, DueStep } from '../catalog/clock-steps.ts';
import { install } from '../catalog/install.ts';
import { forgetPunctualDeletions } from '../catalog/late-deletions.ts';
import { readSqlFiles } from '../catalog/sql-files.ts';
import { sqlDir } from '../config/paths.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { tupleOf } from '../pgoutput/tuple-value.ts';
import { commitStamped, ensureOrigin, setUpOrigin } from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';
import { LateDeletions } from './late-deletions.ts';
import { OwnBatch } from './own-batch.ts';
import { OwnWriter } from './own-writer.ts';
import { RowRewriter } from './row-rewriter.ts';
import { TableMap } from './table-map.ts';
import { Seen } from '../model/seen.ts';

// What a node's users deleted while its clock was an hour behind, noted by its own stream, and made again.

const HOUR = 3_600_000_000;
const STEP = 77;

let server: EmbeddedServer;
let user: Session;
let peers: { provider: number; other: number };
const signal = new AbortController().signal;
/** By the server's clock, at the beginning of a test. */
let now: number;
const at = (micros: number) => (now + micros) as PgTime;
/** Up to a minute ago, what was written was before the clock was right. */
const step = (): DueStep => ({
  heartbeatXid: String(STEP),
  oldestXid: '3',
  upTo: at(-HOUR / 60),
});
const history = { isKept: true, withRows: true };
const origins = () => originsOfPeers(peers);

beforeAll(async () => {
  server = await startServer();
  user = await openSession(server);
  await install(user, readSqlFiles(sqlDir()));
  // What the peers are told is gone in the same moment.
  await user.script(`
    CREATE SCHEMA bdr_guard;
    CREATE TABLE public.item (id integer PRIMARY KEY, v text);
    CREATE TABLE public.pair (z numeric, v text, a text, PRIMARY KEY (z, a));
    CREATE TABLE public.keyless (v text);
    CREATE TABLE public.told (LIKE bdr.kill);
    CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN INSERT INTO public.told SELECT NEW.*; RETURN NULL; END $$;
    CREATE TRIGGER keep AFTER INSERT ON bdr.kill FOR EACH ROW EXECUTE FUNCTION public.keep();
    ALTER TABLE bdr.kill ENABLE ALWAYS TRIGGER keep;
    INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid) VALUES ('7', 1, 1)`);
  peers = await peerOrigins(user);
  await ensureOrigin(user, 'own');
});
afterAll(async () => {
  await user?.close();
  await server?.[Symbol.asyncDispose]();
});
beforeEach(async () => {
  await user.script(`
    TRUNCATE bdr.tombstone, bdr.bdr_conflict_history, bdr.late_deletion, bdr.outbox, bdr.bdr_clock_steps, bdr.own_stream,
             public.item, public.pair, public.keyless, public.told`);
  const [row] = await user.query<{ now: string }>(
    `SELECT ${pgTimeSql('clock_timestamp()')} AS now`,
  );
  now = Number(row?.now);
});

async function texts(sql: string): Promise<string[]> {
  return (await user.query<{ text: string }>(sql)).map(({ text }) => text);
}
const rows = (table: string) =>
  texts(`SELECT (t.*)::text AS text FROM public.${table} AS t ORDER BY 1`);
/** What peers were told, each at a time from the beginning of the test on. */
const told = () =>
  texts(`
    SELECT table_name || ' ' || coalesce(row_key::text, 'all') AS text FROM public.told
    WHERE is_late AND commit_time BETWEEN ${now} AND ${pgTimeSql('clock_timestamp()')} AND node_dboid = 1
    ORDER BY message_id`);
const noted = () =>
  texts(`SELECT replace(relation::regclass::text, 'public.', '') || ' ' || coalesce(row_key::text, 'all') AS text FROM bdr.late_deletion
         WHERE heartbeat_xid = '${STEP}' ORDER BY late_id`);

/** A commit of a peer. */
const as = (origin: string, time: PgTime, sql: string) => commitAs(user, origin, time, sql);

/** What the own stream has read of users' transactions an hour behind the clock. */
async function read(fill: (batch: OwnBatch) => Promise<void>): Promise<void> {
  const batch = new OwnBatch();
  await fill(batch);
  await using session = await openSession(server);
  await setUpOrigin(session, 'own');
  const writer = new OwnWriter({
    session,
    origins,
    random: Math.random,
    signal,
    peersLimit: () => LONG_AGO,
    history,
  });
  await writer.write(batch, undefined);
}

const deleted = (batch: OwnBatch, table: string, ...keys: (string | null)[][]) =>
  describeNamed(user, `public.${table}`).then((relation) => {
    for (const key of keys) {
      const oldTuple = tupleOf(key);
      const change = { kind: 'delete', relation, oldTuple, oldTupleIsKey: true } as const;
      batch.add(change, at(-HOUR), STEP);
    }
  });

const truncated = async (batch: OwnBatch, table: string) => {
  const relations = [await describeNamed(user, `public.${table}`)];
  const change = { kind: 'truncate', relations, cascade: false, restartIdentity: false } as const;
  batch.add(change, at(-HOUR), STEP);
};

async function makeAgain(): Promise<DoneAgain> {
  await using session = await openSession(server, 'postgres', {
    settings: { session_replication_role: 'replica', lock_timeout: '50ms' },
  });
  const rewriter = new RowRewriter(session, signal);
  return await new LateDeletions({
    session,
    step: step(),
    origins,
    history,
    rewriter,
    signal,
    random: Math.random,
  }).makeAgain();
}

describe('what is deleted while the clock is behind', () => {
  test('is noted with the heartbeat that the clock is behind, and what is deleted in time is not', async () => {
    await read(async (batch) => {
      await deleted(batch, 'item', ['1', null]);
      await deleted(batch, 'pair', ['1.0', null, 'x']);
      await deleted(batch, 'keyless', ['a'], ['a']);
      await truncated(batch, 'item');
      const relation = await describeNamed(user, 'public.item');
      const moved = { oldTuple: tupleOf(['3', null]), oldTupleIsKey: true };
      const update = { kind: 'update', relation, ...moved, newTuple: tupleOf(['4', 'v']) } as const;
      batch.add(update, at(-HOUR), STEP);
      const oldTuple = tupleOf(['2', null]);
      batch.add({ kind: 'delete', relation, oldTuple, oldTupleIsKey: true }, at(0));
    });
    expect((await noted()).sort()).toEqual(
      ['item all', 'item {1}', 'item {3}', 'keyless {}', 'keyless {}', 'pair {x,1.0}'].sort(),
    );
  });

  test('is forgotten where it belongs to no step of the clock', async () => {
    await read((batch) => deleted(batch, 'item', ['1', null]));
    await forgetPunctualDeletions(user);
    await user.script(
      `INSERT INTO bdr.own_stream (status, heartbeat_clock, heartbeat_xid, heartbeat_xmin) VALUES ('streaming', now(), '78', '70');
       INSERT INTO bdr.bdr_clock_steps (heartbeat_xid, oldest_xid, clock_was, clock_is) VALUES ('77', '3', now(), now())`,
    );
    await forgetPunctualDeletions(user);
    expect(await noted(), 'a step is known').toEqual(['item {1}']);
    await user.script('DELETE FROM bdr.bdr_clock_steps');
    await forgetPunctualDeletions(user);
    expect(await noted()).toEqual([]);
  });
});

describe('a deletion that is made again', () => {
  test('is told to the peers and remembered, as of now, where there is no row', async () => {
    await read(async (batch) => {
      await deleted(batch, 'item', ['1', null], ['2', null]);
      await deleted(batch, 'pair', ['1.0', null, 'x']);
    });
    expect(await makeAgain()).toEqual({ rewritten: 0, deleted: 3, lost: 0 });
    expect((await told()).sort()).toEqual(['item ["1"]', 'item ["2"]', 'pair ["x","1.0"]']);
    const remembered = await texts(`
      SELECT replace(relation::regclass::text, 'public.', '') || ' ' || array_to_string(row_key, ',') AS text FROM bdr.tombstone AS t
      WHERE ${pgTimeSql('committed_at')} >= ${now} AND node_dboid = 1
        AND key_hash = (SELECT min(key_hash) FROM bdr.tombstone AS o WHERE o.relation = t.relation AND o.row_key = t.row_key)
      ORDER BY 1`);
    expect(remembered).toEqual(['item 1', 'item 2', 'pair x,1.0']);
    const kept = await texts(`SELECT count(*)::text AS text FROM bdr.outbox WHERE is_sent`);
    expect(kept, 'the outbox’s sender looks after them').toEqual(['3']);
    expect(await noted()).toEqual([]);
    expect(await makeAgain()).toEqual({ rewritten: 0, deleted: 0, lost: 0 });
  });

  test('takes what another node wrote before the clock was right, and nothing later or of this node’s users', async () => {
    await as('other', at(-HOUR / 2), `INSERT INTO public.item VALUES (1, 'before')`);
    await as('other', at(-1), `INSERT INTO public.item VALUES (2, 'after')`);
    await user.script(`INSERT INTO public.item VALUES (3, 'mine')`);
    await read((batch) => deleted(batch, 'item', ['1', null], ['2', null], ['3', null]));
    expect(await makeAgain()).toEqual({ rewritten: 0, deleted: 1, lost: 0 });
    expect(await rows('item')).toEqual(['(2,after)', '(3,mine)']);
    expect(await told()).toEqual(['item ["1"]']);
    expect(
      await texts(
        `SELECT rule || ' ' || (remote_tuple->>'v') AS text FROM bdr.bdr_conflict_history`,
      ),
    ).toEqual(['below_tombstone before']);
    expect(await noted()).toEqual([]);
  });

  test('waits for apply that is in the middle of something, and then meets what that brought', async () => {
    await read((batch) => deleted(batch, 'item', ['1', null]));
    await using link = await openSession(server);
    await link.script('BEGIN; LOCK TABLE bdr.bdr_local_node IN ROW SHARE MODE');
    await setUpOrigin(link, 'other');
    await link.script(
      `INSERT INTO public.item VALUES (1, 'on its way');
       SELECT pg_replication_origin_xact_setup('0/0', ${quoteLiteral(formatPgTime(at(-HOUR / 2)))})`,
    );
    const made = makeAgain();
    await until('the deletion to wait', async () => {
      const [waits] = await texts(
        `SELECT count(*)::text AS text FROM pg_locks WHERE relation = 'bdr.bdr_local_node'::regclass AND NOT granted`,
      );
      return waits === '1';
    });
    expect(await told()).toEqual([]);
    await link.script('COMMIT');
    expect(await made).toMatchObject({ deleted: 1 });
    expect(await rows('item')).toEqual([]);
  });

  test('cannot be found where rows have no key, and is counted', async () => {
    await read((batch) => deleted(batch, 'keyless', ['a'], ['b']));
    expect(await makeAgain()).toEqual({ rewritten: 0, deleted: 0, lost: 2 });
    expect([await told(), await noted()]).toEqual([[], []]);
  });
});

describe('a TRUNCATE that is made again', () => {
  test('is told, and the rows that are here by then are written again behind it', async () => {
    await as('other', at(-HOUR / 2), `INSERT INTO public.item VALUES (1, 'before')`);
    await as('other', at(-1), `INSERT INTO public.item VALUES (2, 'after')`);
    await user.script(`INSERT INTO public.item VALUES (3, 'mine')`);
    await read((batch) => truncated(batch, 'item'));
    expect(await makeAgain()).toEqual({ rewritten: 2, deleted: 1, lost: 0 });
    expect(await told()).toEqual(['item all']);
    expect(await rows('item')).toEqual(['(2,after)', '(3,mine)']);
    const later = await texts(`
      SELECT id::text AS text FROM public.item AS t, public.told AS k
      WHERE ${pgTimeSql('pg_xact_commit_timestamp(t.xmin)')} > k.commit_time
        AND (pg_xact_commit_timestamp_origin(t.xmin)).roident = 0 ORDER BY 1`);
    expect(later).toEqual(['2', '3']);
    expect(await noted()).toEqual([]);
  });

  test('goes on with the rows after an end in between', async () => {
    await user.script(`INSERT INTO public.item VALUES (3, 'mine')`);
    await read((batch) => truncated(batch, 'item'));
    await user.script(`UPDATE bdr.late_deletion SET again_at = clock_timestamp()`);
    expect(await makeAgain()).toEqual({ rewritten: 1, deleted: 1, lost: 0 });
    expect(await told(), 'not once more').toEqual([]);
    expect(await noted()).toEqual([]);
  });

  test('is made of a table without a key only where that is empty: its rows could not be written again', async () => {
    await read((batch) => truncated(batch, 'keyless'));
    expect(await makeAgain()).toEqual({ rewritten: 0, deleted: 1, lost: 0 });
    expect(await told()).toEqual(['keyless all']);
    await user.script(`INSERT INTO public.keyless VALUES ('since')`);
    await read((batch) => truncated(batch, 'keyless'));
    expect(await makeAgain()).toEqual({ rewritten: 0, deleted: 0, lost: 1 });
    expect(await told()).toEqual(['keyless all']);
    expect(await noted()).toEqual([]);
  });
});

describe('at a peer', () => {
  /** The provider, whose own row is number 4, tells that a row is gone, or the table truncated. */
  async function hears(time: PgTime, ...keys: (string | null)[]): Promise<void> {
    await user.script(`
      INSERT INTO public.item VALUES (3, 'mine')`);
    await as('other', at(-HOUR), `INSERT INTO public.item VALUES (1, 'older')`);
    await as('other', at(HOUR), `INSERT INTO public.item VALUES (2, 'newer')`);
    await as('provider', at(HOUR), `INSERT INTO public.item VALUES (4, 'its own')`);
    await using session = await openSession(server);
    await setUpOrigin(session, 'provider');
    const writer = providersWriter(peers, { session, tables: new TableMap(session) });
    const relation = await describeNamed(user, 'bdr.kill');
    const context = { xid: 99, commitTime: at(HOUR), commitLsn: 4711 as Lsn, seen: new Seen() };
    await session.script('BEGIN');
    writer.begin();
    const { sysid, timeline, dboid } = PROVIDER.id;
    for (const key of keys) {
      const row = ['1', 'public', 'item', key, String(time), sysid, `${timeline}`, `${dboid}`, 't'];
      await writer.write({ kind: 'insert', relation, newTuple: tupleOf(row) }, context);
    }
    await writer.finish();
    await commitStamped(session, 4711 as Lsn, at(HOUR));
  }

  test('it takes an older row as any deletion does, with the history of it, and leaves a newer one', async () => {
    await hears(at(-HOUR / 2), '["1"]', '["2"]', '["3"]', '["4"]');
    expect(await rows('item')).toEqual(['(2,newer)', '(3,mine)']);
    const conflicts = await texts(
      `SELECT conflict_resolution || ' ' || (local_tuple->>'v') AS text FROM bdr.bdr_conflict_history ORDER BY 1`,
    );
    expect(conflicts).toEqual([
      'last_update_wins_keep_local mine',
      'last_update_wins_keep_local newer',
      'last_update_wins_keep_remote older',
    ]);
  });

  test('a table that was truncated loses what is older, and remembers it', async () => {
    await hears(at(-HOUR / 2), null);
    expect(await rows('item')).toEqual(['(2,newer)', '(3,mine)']);
    expect(
      await texts(`SELECT node_dboid::text AS text FROM bdr.tombstone WHERE row_key IS NULL
                   AND ${pgTimeSql('committed_at')} = ${at(-HOUR / 2)}`),
    ).toEqual([String(PROVIDER.id.dboid)]);
  });
});
