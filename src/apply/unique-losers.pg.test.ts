import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import {
  commitAs,
  describeNamed,
  LOCAL,
  originsOfPeers,
  OTHER,
  peerOrigins,
  PROVIDER,
  providersWriter,
} from '../../test/support/apply-writers.ts';
import { until } from '../../test/support/cluster.ts';
import { startServer } from '../../test/support/servers.ts';
import {
  commitsWait,
  NOT_WAITING,
  waitingCommit,
  type Place,
} from '../../test/support/waiting-commits.ts';
import type { Lsn } from '../base/lsn.ts';
import { pgTimeSql, type PgTime } from '../base/pg-time.ts';
import { install } from '../catalog/install.ts';
import { forgetSettledAsks } from '../catalog/open-asks.ts';
import { readSqlFiles } from '../catalog/sql-files.ts';
import { sqlDir } from '../config/paths.ts';
import type { Writer } from '../conflict/version.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Relation, RowChange } from '../pgoutput/transaction.ts';
import { tupleOf, UNCHANGED, type TupleValue } from '../pgoutput/tuple-value.ts';
import { commitStamped, ensureOrigin, setUpOrigin } from '../postgres/origins.ts';
import { readUniqueness } from '../postgres/unique-indexes.ts';
import type { Session } from '../postgres/session.ts';
import { MustWait } from './lock-conflict.ts';
import { OutboxSender } from './outbox-sender.ts';
import { rivalsSql } from './rival-statements.ts';
import { TableMap } from './table-map.ts';
import type { ChangeWriter } from './writer.ts';
import { Seen } from '../model/seen.ts';

// Rows that have one value in a unique index, of versions that are stated: what goes, what is remembered and what is told.

const SECOND = 1_000_000;

let server: EmbeddedServer;
let session: Session;
let user: Session;
let tables: TableMap;
let writer: ChangeWriter;
let now: number;
/** So many seconds before or after the rows that this node's user writes. */
const at = (seconds: number) => (now + seconds * SECOND) as PgTime;

beforeAll(async () => {
  server = await startServer();
  [session, user] = [await openSession(server), await openSession(server)];
  await install(session, readSqlFiles(sqlDir()));
  await session.script(`
    CREATE SCHEMA bdr_guard;
    CREATE TABLE public.person (id integer PRIMARY KEY, mail text UNIQUE, nick text, v text);
    CREATE UNIQUE INDEX person_nick ON public.person (lower(nick)) WHERE v <> 'off';
    CREATE TABLE public.later (id integer PRIMARY KEY, rank integer UNIQUE DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE public.both (id integer PRIMARY KEY, rank integer UNIQUE DEFERRABLE INITIALLY DEFERRED, code text UNIQUE);
    CREATE TABLE public.doc (id integer PRIMARY KEY, code text UNIQUE, long text UNIQUE);
    CREATE TABLE public.moved (id integer PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text);
    ALTER TABLE public.moved REPLICA IDENTITY FULL;
    CREATE TABLE public.computed (id integer PRIMARY KEY, a text, b text GENERATED ALWAYS AS (upper(a)) STORED UNIQUE);
    CREATE TABLE public.nulls (id integer PRIMARY KEY, a text, b text, UNIQUE NULLS NOT DISTINCT (a, b));
    CREATE COLLATION public.nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    CREATE TABLE public.folded (id integer PRIMARY KEY, a text COLLATE public.nocase UNIQUE)`);
  const origins = await peerOrigins(session);
  await setUpOrigin(session, 'provider');
  tables = new TableMap(session);
  const copy = await ensureOrigin(session, 'copy');
  writer = providersWriter(origins, {
    session,
    tables,
    origins: () => ({ ...originsOfPeers(origins), copies: new Set([copy]) }),
    groupLimit: () => at(-100),
    readFromProvider: () => Promise.resolve([{ long: 'read' }]),
  });
});
afterAll(async () => {
  await session?.close();
  await user?.close();
  await server?.[Symbol.asyncDispose]();
});
beforeEach(async () => {
  const all = ['person', 'later', 'both', 'doc', 'moved', 'computed', 'nulls', 'folded'].map(
    (name) => `public.${name}`,
  );
  all.push('bdr.tombstone', 'bdr.bdr_conflict_history', 'bdr.outbox');
  await user.script(all.map((name) => `DELETE FROM ${name}`).join('; '));
  const [row] = await user.query<{ now: string }>(
    `SELECT ${pgTimeSql('clock_timestamp()')} AS now`,
  );
  now = Number(row?.now);
});

const relationOf = (name: string) => describeNamed(user, name);

/** A commit of the other peer. */
const ofOther = (time: PgTime, sql: string, origin = 'other') => commitAs(user, origin, time, sql);

const insert = (relation: Relation, ...row: TupleValue[]): RowChange => ({
  kind: 'insert',
  relation,
  newTuple: tupleOf(row),
});
const update = (relation: Relation, ...row: TupleValue[]): RowChange => ({
  kind: 'update',
  relation,
  oldTuple: null,
  oldTupleIsKey: false,
  newTuple: tupleOf(row),
});
const remove = (relation: Relation, id: string): RowChange => ({
  kind: 'delete',
  relation,
  oldTuple: tupleOf([id, ...relation.columns.slice(1).map(() => null)]),
  oldTupleIsKey: true,
});
async function death(
  kind: 'kill' | 'ask',
  table: string,
  key: string,
  time: PgTime,
  { id }: Writer,
): Promise<RowChange> {
  const row = ['1', 'public', table, JSON.stringify([key]), String(time), id.sysid];
  row.push(String(id.timeline), String(id.dboid), 'f');
  return insert(await relationOf(`bdr.${kind}`), ...row);
}

/** Applies a transaction of the provider. */
function applied(time: PgTime, ...changes: readonly RowChange[]): Promise<void> {
  return appliedAsGroup(...changes.map((change) => ({ time, change })));
}

/** Applies transactions of the provider that share a local one, in order. */
async function appliedAsGroup(
  ...changes: readonly { readonly time: PgTime; readonly change: RowChange }[]
): Promise<void> {
  await session.script('BEGIN');
  try {
    writer.begin({ isCareful: true });
    for (const { time, change } of changes) {
      const context = { xid: 99, commitTime: time, commitLsn: 4711 as Lsn, seen: new Seen() };
      await writer.write(change, context);
    }
    await writer.finish();
    const latest = Math.max(...changes.map(({ time }) => time)) as PgTime;
    await commitStamped(session, 4711 as Lsn, latest);
    writer.committed();
  } catch (error) {
    await session.script('ROLLBACK');
    throw error;
  }
}

async function texts(sql: string): Promise<string[]> {
  return (await user.query<{ text: string }>(sql)).map(({ text }) => text);
}
const rows = (table: string) =>
  texts(`SELECT (t.*)::text AS text FROM public.${table} AS t ORDER BY id`);
/** Kind, key, seconds, and the node. */
const told = () =>
  texts(
    `SELECT kind || ' ' || array_to_string(row_key, ',') || ' ' || round((commit_time - ${now}) / 1e6) || ' ' || node_dboid AS text
     FROM bdr.outbox ORDER BY message_id`,
  );
/** Key, seconds, and the node. */
const remembered = () =>
  texts(
    `SELECT array_to_string(row_key, ',') || ' ' || round((${pgTimeSql('committed_at')} - ${now}) / 1e6) || ' ' || node_dboid AS text
     FROM bdr.tombstone ORDER BY row_key, committed_at`,
  );
const history = () =>
  texts(
    `SELECT rule || ' ' || conflict_resolution || ' ' || action || ' ' || coalesce(local_tuple->>'id', '-') || ' ' || coalesce(remote_tuple->>'id', '-') AS text
     FROM bdr.bdr_conflict_history ORDER BY conflict_id`,
  );
/** Commit times that are not stated are those of this node's user, about now. */
const [ME, PEER, THIRD] = [LOCAL, PROVIDER, OTHER].map(({ id }) => id.dboid);

describe('in a group, what is checked at the end is judged', () => {
  test('by the last change of the row, under a deferrable unique constraint', async () => {
    const later = await relationOf('public.later');
    await user.script('INSERT INTO public.later VALUES (1, 5)');
    await appliedAsGroup(
      { time: at(-10), change: insert(later, '2', '1') },
      { time: at(5), change: update(later, '2', '5') },
    );
    expect(await rows('later')).toEqual(['(2,5)']);
    expect(await told()).toEqual([`kill 1 0 ${ME}`]);
  });

  test('by no later change of another row, under a deferrable key', async () => {
    const moved = await relationOf('public.moved');
    const move = (from: TupleValue[], to: TupleValue[]) => ({
      ...update(moved, ...to),
      oldTuple: tupleOf(from),
    });
    await applied(at(-20), insert(moved, '3', 'theirs'));
    await user.script(`INSERT INTO public.moved VALUES (50, 'mine')`);
    await appliedAsGroup(
      { time: at(-5), change: move(['3', 'theirs'], ['50', 'theirs']) },
      { time: at(5), change: insert(moved, '60', 'later') },
    );
    expect(await rows('moved')).toEqual(['(50,mine)', '(60,later)']);
    await appliedAsGroup(
      { time: at(-4), change: move(['60', 'later'], ['50', 'later']) },
      { time: at(6), change: move(['50', 'later'], ['50', 'changed']) },
    );
    expect(await rows('moved')).toEqual(['(50,changed)']);
  });
});

describe('a row that finds its value taken', () => {
  test('loses to a greater row: nothing is left under its key, and its writer is asked to remove it', async () => {
    await user.script(`INSERT INTO public.person VALUES (1, 'a@x', NULL, 'mine')`);
    await applied(at(-5), insert(await relationOf('public.person'), '2', 'a@x', null, 'theirs'));
    expect(await rows('person')).toEqual(['(1,a@x,,mine)']);
    expect(await told()).toEqual([`ask 2 -5 ${PEER}`]);
    expect(await remembered()).toEqual([`2 -5 ${PEER}`]);
    expect(await history()).toEqual(['unique_index last_update_wins_keep_local skip 1 2']);
  });

  test('wins over a smaller one of this node, whose death this node spreads', async () => {
    await user.script(`INSERT INTO public.person VALUES (1, 'a@x', NULL, 'mine')`);
    await applied(at(5), insert(await relationOf('public.person'), '2', 'a@x', null, 'theirs'));
    expect(await rows('person')).toEqual(['(2,a@x,,theirs)']);
    expect(await told()).toEqual([`kill 1 0 ${ME}`]);
    expect(await remembered()).toEqual([`1 0 ${ME}`]);
    expect(await history()).toEqual(['unique_index last_update_wins_keep_remote delete 1 2']);
  });

  test('wins over a smaller one of a third node, which is asked to spread its death', async () => {
    await ofOther(at(-7), `INSERT INTO public.person VALUES (1, 'a@x', NULL, 'third')`);
    await applied(at(-5), insert(await relationOf('public.person'), '2', 'a@x', null, 'theirs'));
    expect(await rows('person')).toEqual(['(2,a@x,,theirs)']);
    expect(await told()).toEqual([`ask 1 -7 ${THIRD}`]);
    expect(await remembered()).toEqual([`1 -7 ${THIRD}`]);
  });

  test('wins over a row that a join copied: that is deleted as of the time up to which all is seen', async () => {
    await ofOther(at(-200), `INSERT INTO public.person VALUES (1, 'a@x', NULL, 'copied')`, 'copy');
    await applied(at(-5), insert(await relationOf('public.person'), '2', 'a@x', null, 'theirs'));
    expect(await rows('person')).toEqual(['(2,a@x,,theirs)']);
    expect(await told()).toEqual([`kill 1 -100 ${ME}`]);
    expect(await remembered()).toEqual([`1 -100 ${ME}`]);
  });

  test('in an update leaves nothing of the older row that it was to replace', async () => {
    await ofOther(at(-9), `INSERT INTO public.person VALUES (2, 'b@x', NULL, 'old')`);
    await user.script(`INSERT INTO public.person VALUES (1, 'a@x', NULL, 'mine')`);
    await applied(at(-5), update(await relationOf('public.person'), '2', 'a@x', null, 'new'));
    expect(await rows('person')).toEqual(['(1,a@x,,mine)']);
    expect(await told()).toEqual([`ask 2 -5 ${PEER}`]);
    expect(await history()).toEqual([
      'unique_index last_update_wins_keep_local delete 1 2',
      'greater_version last_update_wins_keep_remote delete 2 2',
    ]);
  });

  test('in several indexes wins over all, or loses alone', async () => {
    const person = await relationOf('public.person');
    await ofOther(at(-9), `INSERT INTO public.person VALUES (1, 'a@x', 'Ann', 'third')`);
    await ofOther(at(-8), `INSERT INTO public.person VALUES (2, 'b@x', 'bob', 'third')`);
    await applied(at(-7), insert(person, '3', 'a@x', 'BOB', 'both'));
    expect(await rows('person')).toEqual(['(3,a@x,BOB,both)']);
    expect((await told()).sort()).toEqual([`ask 1 -9 ${THIRD}`, `ask 2 -8 ${THIRD}`]);

    await ofOther(at(-3), `INSERT INTO public.person VALUES (4, 'd@x', 'dan', 'third')`);
    await applied(at(-4), insert(person, '5', 'a@x', 'Dan', 'late'));
    expect(await rows('person')).toEqual(['(3,a@x,BOB,both)', '(4,d@x,dan,third)']);
    expect((await told()).at(-1)).toBe(`ask 5 -4 ${PEER}`);
  });

  test('is found through the index: by its expression, and where its predicate holds', async () => {
    const person = await relationOf('public.person');
    await user.script(
      `INSERT INTO public.person VALUES (1, 'a@x', 'Ann', 'on'), (2, 'b@x', 'Bob', 'off')`,
    );
    await applied(
      at(-5),
      insert(person, '3', 'c@x', 'ANN', 'off'),
      insert(person, '4', 'd@x', 'BOB', 'on'),
      insert(person, '5', 'e@x', 'aNN', 'on'),
    );
    expect(await rows('person')).toEqual([
      '(1,a@x,Ann,on)',
      '(2,b@x,Bob,off)',
      '(3,c@x,ANN,off)',
      '(4,d@x,BOB,on)',
    ]);
  });

  test('is found by generated columns, by nulls that are one value, and as the collation compares', async () => {
    await user.script(`
      INSERT INTO public.computed VALUES (1, 'one');
      INSERT INTO public.nulls VALUES (1, NULL, 'b'), (2, 'a', NULL);
      INSERT INTO public.folded VALUES (1, 'One')`);
    const [computed, nulls, folded] = await Promise.all(
      ['public.computed', 'public.nulls', 'public.folded'].map(relationOf),
    );
    await applied(
      at(5),
      insert(computed as Relation, '2', 'ONE'),
      insert(nulls as Relation, '3', null, 'b'),
      insert(nulls as Relation, '4', null, null),
      insert(folded as Relation, '2', 'oNE'),
    );
    expect(await rows('computed')).toEqual(['(2,ONE,ONE)']);
    expect(await rows('nulls')).toEqual(['(2,a,)', '(3,,b)', '(4,,)']);
    expect(await rows('folded')).toEqual(['(2,oNE)']);
  });

  test('is no loser any more when the same transaction gives it another value', async () => {
    const person = await relationOf('public.person');
    await user.script(`INSERT INTO public.person VALUES (1, 'a@x', NULL, 'mine')`);
    await applied(
      at(-5),
      insert(person, '2', 'a@x', null, 'theirs'),
      update(person, '2', 'b@x', null, 'theirs'),
    );
    expect(await rows('person')).toEqual(['(1,a@x,,mine)', '(2,b@x,,theirs)']);
    expect(await told()).toEqual([]);
  });

  test('where that is checked at the end, is judged there', async () => {
    const later = await relationOf('public.later');
    await user.script(`INSERT INTO public.later VALUES (1, 10), (2, 20), (9, 90)`);
    await applied(
      at(5),
      update(later, '1', '20'),
      update(later, '2', '10'),
      insert(later, '3', '90'),
    );
    expect(await rows('later')).toEqual(['(1,20)', '(2,10)', '(3,90)']);
    expect(await told()).toEqual([`kill 9 0 ${ME}`]);
    await user.script(`UPDATE public.later SET rank = 91 WHERE id = 3`);
    await applied(at(-5), insert(later, '4', '91'));
    expect(await rows('later')).toEqual(['(1,20)', '(2,10)', '(3,91)']);
    expect(await remembered()).toContain(`4 -5 ${PEER}`);
  });

  const firstAndSecond = (person: Relation) => [
    insert(person, '1', 'a@x', null, 'first'),
    insert(person, '2', 'a@x', null, 'second'),
  ];
  test('wins over an earlier row of its transaction, whose node lacks the index', async () => {
    const person = await relationOf('public.person');
    await applied(at(-1), ...firstAndSecond(person));
    expect(await rows('person')).toEqual(['(2,a@x,,second)']);
    expect(await told()).toEqual([`ask 1 -1 ${PEER}`]);
    expect(await remembered()).toEqual([`1 -1 ${PEER}`]);
    expect(await history()).toEqual(['unique_index last_update_wins_keep_remote delete 1 2']);
  });

  test('wins so over none that the transaction writes once more, with another value', async () => {
    const person = await relationOf('public.person');
    await applied(at(-1), ...firstAndSecond(person), update(person, '1', 'b@x', null, 'first'));
    expect(await rows('person')).toEqual(['(1,b@x,,first)', '(2,a@x,,second)']);
    expect(await told()).toEqual([]);
    expect(await remembered()).toEqual([]);
    expect(await history()).toEqual(['update_missing apply_change insert - 1']);
  });

  test('nor over one that it deletes', async () => {
    const person = await relationOf('public.person');
    await applied(at(-1), ...firstAndSecond(person), remove(person, '1'));
    expect(await rows('person')).toEqual(['(2,a@x,,second)']);
    expect(await told()).toEqual([]);
    expect(await history()).toEqual(['delete_missing skip_change skip - 1']);
  });

  test('wins so over one of which values were read, where the index does not look at them', async () => {
    const doc = await relationOf('public.doc');
    await ofOther(at(-9), `INSERT INTO public.doc VALUES (1, 'b', 'first'), (3, 'c', 'third')`);
    await applied(at(-1), update(doc, '1', 'a', UNCHANGED), insert(doc, '2', 'a', 'second'));
    expect(await rows('doc')).toEqual(['(2,a,second)', '(3,c,third)']);
    expect(await told()).toEqual([`ask 1 -1 ${PEER}`]);
    expect(await history()).toContain('unique_index last_update_wins_keep_remote delete 1 2');
    await applied(at(-1), insert(doc, '4', 'd', 'fourth'), update(doc, '3', 'd', UNCHANGED));
    expect(await rows('doc')).toEqual(['(2,a,second)', '(3,d,read)']);
  });

  test('wins over none of which the value was read, which moves on', async () => {
    const doc = await relationOf('public.doc');
    await ofOther(at(-9), `INSERT INTO public.doc VALUES (1, 'b', 'theirs')`);
    await applied(at(-1), update(doc, '1', 'a', UNCHANGED), insert(doc, '2', 'x', 'read'));
    expect(await rows('doc')).toEqual(['(2,x,read)']);
    expect(await told()).toEqual([]);
    expect(await history()).toEqual(['greater_version last_update_wins_keep_remote update 1 1']);
    // Written whole, it does not move on.
    await user.script('DELETE FROM public.doc');
    await ofOther(at(-9), `INSERT INTO public.doc VALUES (1, 'b', 'theirs')`);
    await applied(
      at(1),
      update(doc, '1', 'a', UNCHANGED),
      update(doc, '1', 'a', 'whole'),
      insert(doc, '2', 'x', 'whole'),
    );
    expect(await told()).toEqual([`ask 1 1 ${PEER}`]);
  });

  test('wins over as many of them as there are', async () => {
    const doc = await relationOf('public.doc');
    const all = Array.from({ length: 1100 }, (_, n) =>
      insert(doc, String(n), 'a', n === 0 ? null : `long ${n}`),
    );
    await applied(at(-1), ...all, update(doc, '0', 'b', 'one'), update(doc, '1098', 'c', 'two'));
    expect(await rows('doc')).toEqual(['(0,b,one)', '(1098,c,two)', '(1099,a,"long 1099")']);
    // The first thousand were taken to be lost before one of them was written once more, which says that it is not.
    expect(await told()).toHaveLength(1097);
    expect((await history()).filter((one) => one.startsWith('unique_index'))).toHaveLength(1098);
  });

  test('in a group names the time of its own transaction', async () => {
    const both = await relationOf('public.both');
    await appliedAsGroup(
      { time: at(-1), change: insert(both, '1', '1', 'a') },
      { time: at(-2), change: insert(both, '2', '2', 'a') },
    );
    expect(await rows('both')).toEqual(['(2,2,a)']);
    expect(await told()).toEqual([`ask 1 -1 ${PEER}`]);
  });

  test('wins so where that is checked at the end, and was written last', async () => {
    const later = await relationOf('public.later');
    await applied(
      at(-1),
      insert(later, '1', '10'),
      insert(later, '2', '20'),
      insert(later, '3', '10'),
      update(later, '1', '20'),
      update(later, '2', '10'),
    );
    expect(await rows('later')).toEqual(['(1,20)', '(2,10)']);
    expect(await told()).toEqual([`ask 3 -1 ${PEER}`]);
    expect(await history()).toEqual(['unique_index last_update_wins_keep_local delete 2 3']);
  });

  test('wins over a row that the provider had written, whatever the times say', async () => {
    const person = await relationOf('public.person');
    await applied(at(-1), insert(person, '1', 'a@x', null, 'first'));
    await applied(at(-2), insert(person, '2', 'a@x', null, 'second'));
    expect(await rows('person')).toEqual(['(2,a@x,,second)']);
    expect(await told()).toEqual([`ask 1 -1 ${PEER}`]);
  });
});

test('a row of a table that runs code of its owner is found with the owner’s rights', async () => {
  await user.script(`
    CREATE ROLE joe;
    GRANT USAGE ON SCHEMA public TO joe;
    CREATE FUNCTION public.folded_by(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';
    ALTER FUNCTION public.folded_by(text) OWNER TO joe;
    CREATE TABLE public.joes (id integer PRIMARY KEY, "a b" text);
    CREATE UNIQUE INDEX ON public.joes (public.folded_by("a b"), (1 + id / 100)) WHERE "a b" <> 'it''s';
    ALTER TABLE public.joes OWNER TO joe`);
  const joes = await relationOf('public.joes');
  expect((await tables.seek(joes))?.role).toBeDefined();
  await user.script(`INSERT INTO public.joes VALUES (1, 'X'), (3, 'it''s')`);
  await applied(at(5), insert(joes, '2', 'x'), insert(joes, '4', "it's"), insert(joes, '102', 'X'));
  expect(await rows('joes')).toEqual(['(2,x)', "(3,it's)", "(4,it's)", '(102,X)']);
  expect(await told()).toEqual([`kill 1 0 ${ME}`]);
});

describe('a kill', () => {
  test('takes a row of its own writer, a smaller one, and no greater one of another', async () => {
    const person = await relationOf('public.person');
    await applied(at(-3), insert(person, '1', 'a@x', null, 'theirs'));
    await ofOther(at(-9), `INSERT INTO public.person VALUES (2, 'b@x', NULL, 'third')`);
    await ofOther(at(-4), `INSERT INTO public.person VALUES (3, 'c@x', NULL, 'third')`);
    for (const key of ['1', '2', '3', '4']) {
      await applied(at(0), await death('kill', 'person', key, at(-5), PROVIDER));
    }
    expect(await rows('person')).toEqual(['(3,c@x,,third)']);
    expect(await remembered()).toEqual(['1', '2', '3', '4'].map((key) => `${key} -5 ${PEER}`));
    expect(await told()).toEqual([]);
    // The row that was killed is in the history of the node that killed it; the one below it has lost to that one, wherever they were to meet.
    expect(await history()).toEqual(['delete_existing last_update_wins_keep_remote delete 2 2']);
  });

  test('of a table that is not here is nothing', async () => {
    await applied(at(0), await death('kill', 'nowhere', '1', at(-5), PROVIDER));
    expect(await remembered()).toEqual([]);
  });
});

describe('an ask', () => {
  test('is followed where the row is this node’s and no newer', async () => {
    await user.script(`INSERT INTO public.person VALUES (1, 'a@x', NULL, 'mine')`);
    await applied(at(6), await death('ask', 'person', '1', at(-5), LOCAL));
    expect(await told()).toEqual([]);
    await applied(at(7), await death('ask', 'person', '1', at(5), OTHER));
    expect(await told()).toEqual([]);
    await applied(at(8), await death('ask', 'person', '1', at(5), LOCAL));
    expect(await rows('person')).toEqual([]);
    expect(await told()).toEqual([`kill 1 0 ${ME}`]);
    expect(await remembered()).toEqual([`1 0 ${ME}`]);
    expect(await history()).toEqual(['unique_index last_update_wins_keep_remote delete 1 1']);
  });
});

describe('an ask for a row that is on the log and not seen yet', () => {
  const sqlOf = (of: Session) => async (text: string) =>
    (await of.query<Record<string, string>>(text)).map((row) => Object.values(row));
  const place: Place = {
    sql: (text) => sqlOf(user)(text),
    connect: async () => {
      const other = await openSession(server);
      return { sql: sqlOf(other), [Symbol.asyncDispose]: () => other.close() };
    },
  };
  beforeEach(async () => {
    for (const own of [user, session]) await own.script(NOT_WAITING);
  });
  afterEach(async () => {
    await commitsWait(place, false);
    for (const own of [user, session]) await own.script('RESET synchronous_commit');
  });

  test('waits for it, as long as a commit up to its version waits', async () => {
    await commitsWait(place, true);
    await using inserted = await waitingCommit(
      place,
      `INSERT INTO public.person VALUES (1, 'a@x', NULL, 'mine')`,
    );
    const ask = await death('ask', 'person', '1', at(5), LOCAL);
    await expect(applied(at(6), ask)).rejects.toThrow(MustWait);
    // Neither one for a row of another node, nor one for a row that is older than what waits.
    await applied(at(6), await death('ask', 'person', '1', at(5), OTHER));
    await applied(at(6), await death('ask', 'person', '1', at(-5), LOCAL));
    await commitsWait(place, false);
    await inserted.done;
    expect(await rows('person')).toEqual(['(1,a@x,,mine)']);
    // The server's own commits have waited, too.
    await until(
      'all commits to be seen',
      async () =>
        (
          await texts(
            `SELECT pid AS text FROM pg_locks WHERE locktype = 'transactionid' AND pid <> pg_backend_pid()`,
          )
        ).length === 0,
    );
    await applied(at(7), ask);
    expect(await rows('person')).toEqual([]);
    expect(await told()).toEqual([`kill 1 0 ${ME}`]);
  });
});

describe('an ask that is sent', () => {
  const open = () =>
    texts(`SELECT array_to_string(row_key, ',') || ' ' || node_dboid AS text FROM bdr.open_ask`);
  const asks = async () => {
    await user.script(`INSERT INTO public.person VALUES (1, 'a@x', NULL, 'mine')`);
    await applied(at(-5), insert(await relationOf('public.person'), '2', 'a@x', null, 'theirs'));
    await sender.look();
    expect([await open(), await told()]).toEqual([[`2 ${PEER}`], []]);
  };
  let sender: OutboxSender;
  let sending: Session;
  // What is sent is gone in the same moment.
  beforeAll(() =>
    user.script(`
      CREATE TABLE public.sent (LIKE bdr.kill);
      CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO public.sent SELECT NEW.*; RETURN NULL; END $$;
      CREATE TRIGGER keep AFTER INSERT ON bdr.kill FOR EACH ROW EXECUTE FUNCTION public.keep()`),
  );
  afterEach(() => sending.close());
  beforeEach(async () => {
    await user.script(`
      DELETE FROM bdr.open_ask; DELETE FROM bdr.bdr_nodes; DELETE FROM bdr.bdr_local_node;
      INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid) VALUES ('7', 1, ${ME});
      INSERT INTO bdr.bdr_nodes (node_sysid, node_timeline, node_dboid, node_status, node_name)
      VALUES ('7', 1, ${ME}, 'r', 'me'), ('7', 1, ${PEER}, 'r', 'peer')`);
    sending = await openSession(server);
    sender = new OutboxSender(sending, (trouble) => {
      throw new Error(trouble);
    });
  });
  const part = () =>
    user.script(`UPDATE bdr.bdr_nodes SET node_status = 'k' WHERE node_name = 'peer'`);

  test('is open until the node answers', async () => {
    await asks();
    await applied(at(0), await death('kill', 'person', '2', at(-5), PROVIDER));
    expect(await open()).toEqual([]);
    await part();
    await sender.look();
    expect(await told()).toEqual([]);
  });

  test('is open until all is here that the node has written for a minute since', async () => {
    await asks();
    const micros = pgTimeSql(`asked_at + interval '1 min'`);
    const [due] = await texts(`SELECT ${micros}::text AS text FROM bdr.open_ask`);
    await forgetSettledAsks(user, (Number(due) - 1) as PgTime);
    expect(await open()).toHaveLength(1);
    await forgetSettledAsks(user, Number(due) as PgTime);
    expect(await open()).toEqual([]);
  });

  test('is answered in the stead of a node that is parted, by a deletion of now', async () => {
    await asks();
    await part();
    await forgetSettledAsks(user, at(3600));
    await sender.look();
    expect(await texts('SELECT row_key::text AS text FROM public.sent WHERE is_late')).toEqual([
      '["2"]',
    ]);
    expect(await remembered()).toEqual([`2 -5 ${PEER}`, `2 0 ${ME}`]);
    expect(await open()).toEqual([]);
  });

  test('is answered by nothing where there is a row again', async () => {
    await asks();
    await ofOther(at(-1), `INSERT INTO public.person VALUES (2, 'b@x', NULL, 'third')`);
    await part();
    await sender.look();
    expect([await told(), await open()]).toEqual([[], []]);
    expect(await rows('person')).toEqual(['(1,a@x,,mine)', '(2,b@x,,third)']);
  });
});

describe('a row that has lost', () => {
  test('comes back with other values by one call', async () => {
    await user.script(`INSERT INTO public.person VALUES (1, 'a@x', NULL, 'mine')`);
    await applied(at(-5), insert(await relationOf('public.person'), '2', 'a@x', 'Nick', 'theirs'));
    const [id] = await texts('SELECT conflict_id AS text FROM bdr.bdr_conflict_history');
    const restore = (values: string) =>
      user.query(`SELECT bdr.bdr_restore_conflict_loser($1, $2)`, [String(id), values]);
    await expect(restore('{}')).rejects.toThrow(/person_mail_key/);
    await restore('{"mail": "b@x"}');
    expect(await rows('person')).toEqual(['(1,a@x,,mine)', '(2,b@x,Nick,theirs)']);
  });

  test('does not come back out of nothing', async () => {
    await expect(user.query('SELECT bdr.bdr_restore_conflict_loser(0)')).rejects.toThrow(
      'the history of this node has no conflict 0',
    );
  });
});

test('rivals are looked up in the index', async () => {
  const table = await tables.seek(await relationOf('public.person'));
  if (!table) throw new Error('there is a table');
  const uniqueness = await readUniqueness(session, table.local.oid);
  const plans = await Promise.all(
    uniqueness.indexes.map(async (index) => {
      const text = rivalsSql(table, uniqueness, index, { sent: table.columns, replaces: false });
      await session.script(`SET enable_seqscan = off`);
      const plan = await session.query<Record<string, string>>(`EXPLAIN ${text}`, [
        '1',
        'm',
        'n',
        'v',
      ]);
      await session.script(`RESET enable_seqscan`);
      return plan.map((row) => row['QUERY PLAN']).join('\n');
    }),
  );
  expect(plans.join('\n')).toMatch(/Index Scan using person_mail_key[^]*Index Cond: \(mail = /);
  expect(plans.join('\n')).toMatch(
    /Index Scan using person_nick[^]*Index Cond: \(lower\(nick\) = /,
  );
});
