import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
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
import type { PgTime } from '../base/pg-time.ts';
import { install } from '../catalog/install.ts';
import { readSqlFiles } from '../catalog/sql-files.ts';
import { sqlDir } from '../config/paths.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { RowChange, Relation } from '../pgoutput/transaction.ts';
import { tupleOf } from '../pgoutput/tuple-value.ts';
import { setUpOrigin } from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';
import { Ahead } from './ahead.ts';
import { AheadSender } from './ahead-sender.ts';
import { ApplyWorker } from './apply-worker.ts';
import { columnArray, timeArray } from './arrays.ts';
import { NO_PAST, type FoldedChange } from './coalesce.ts';
import { SetWriter } from './set-writer.ts';
import { TableMap } from './table-map.ts';
import { PartBuilder, type TransactionPart } from './transaction-part.ts';
import type { ChangeWriter } from './writer.ts';
import { Seen } from '../model/seen.ts';

// Groups of transactions whose commit times are stated exactly, through the worker that a link has.

const at = (micros: number) => (845_000_000_000_000 + micros) as PgTime;

let server: EmbeddedServer;
let session: Session;
let tables: TableMap;
let writer: ChangeWriter;
let sets: SetWriter;
let worker: ApplyWorker;
let commits: number;
let rollbacks: number;
/** Told while it waits. */
let onProgress: () => void;
let lsn = 1000;

beforeAll(async () => {
  server = await startServer();
  session = await openSession(server, 'postgres', { pipeline: true });
  await install(session, readSqlFiles(sqlDir()));
  await session.script(`
    CREATE TABLE public.item (id text PRIMARY KEY, v text, big text);
    CREATE SCHEMA bdr_guard;
    INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid) VALUES ('7', 1, 1)`);
  const origins = await peerOrigins(session);
  const providerOrigin = origins.provider;
  await setUpOrigin(session, 'provider');
  tables = new TableMap(session);
  const common = { session, provider: PROVIDER.id, providerOrigin };
  writer = providersWriter(origins, { session, tables });
  sets = new SetWriter({ ...common, writer });
  const options = {
    signal: new AbortController().signal,
    random: Math.random,
    applyDelayMs: 0,
    maxClockSkewMs: 1000,
    onBegin: () => undefined,
    onCommit: () => {
      commits += 1;
    },
    onProgress: () => onProgress(),
    onRollback: () => {
      rollbacks += 1;
    },
    difficult: new Set<Lsn>(),
  };
  const ahead = new AheadSender(
    session,
    tables,
    writer,
    new Ahead({ ...common, tables, writer }),
    options,
  );
  worker = new ApplyWorker(session, tables, writer, sets, ahead, options);
});
afterAll(async () => {
  await session?.close();
  await server?.[Symbol.asyncDispose]();
});
beforeEach(async () => {
  commits = 0;
  rollbacks = 0;
  onProgress = () => undefined;
  await session.script('TRUNCATE public.item, bdr.tombstone, bdr.bdr_conflict_history');
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
const move = (from: string, to: string, v: string): RowChange => ({
  kind: 'update',
  relation: ITEM,
  oldTuple: tupleOf([from, null, null]),
  oldTupleIsKey: true,
  newTuple: tupleOf([to, v, 'b']),
});
const remove = (id: string): RowChange => ({
  kind: 'delete',
  relation: ITEM,
  oldTuple: tupleOf([id, null, null]),
  oldTupleIsKey: true,
});

/** A whole transaction of the provider. */
function transaction(time: PgTime, changes: readonly RowChange[]): TransactionPart {
  lsn += 100;
  const builder = new PartBuilder({
    xid: lsn,
    commitTime: time,
    commitLsn: lsn as Lsn,
    seen: new Seen(new Map()),
  });
  for (const change of changes) builder.add(change);
  return builder.end((lsn + 50) as Lsn);
}

/** Another node has deleted a row; or `by` has. */
async function deleted(time: PgTime, id: string, by = OTHER): Promise<void> {
  const table = await tables.find(ITEM);
  const keys = { times: timeArray([time]), columns: [columnArray([tupleOf([id])], 0)] };
  await writer.tombstones.add(table, keys, by.id);
}

async function rows(): Promise<(string | null)[][]> {
  const found = await session.query<{ id: string; v: string | null }>(
    `SELECT id, v FROM public.item WHERE id NOT LIKE 'filler%' ORDER BY id`,
  );
  return found.map(({ id, v }) => [id, v]);
}

/** So many that they are written as sets. */
const filler = (prefix: string): RowChange[] =>
  Array.from({ length: 30 }, (_, n) => insert(`filler ${prefix} ${n}`, 'x'));

// Its two transactions were one local one, and what they inserted was held against the tombstone with the older's time.
test('a row that a later transaction of the group brings back stays, though the insert before was too old', async () => {
  await deleted(at(150), '1');
  await worker.apply([
    transaction(at(100), [insert('1', 'old')]),
    transaction(at(200), [update('1', 'new')]),
  ]);
  expect(await rows()).toEqual([['1', 'new']]);
  expect(commits).toBe(1);
});

test('the same as sets', async () => {
  await deleted(at(150), '1');
  await worker.apply([
    transaction(at(100), [insert('1', 'old'), ...filler('a')]),
    transaction(at(200), [update('1', 'new')]),
  ]);
  expect(await rows()).toEqual([['1', 'new']]);
});

// Found by the simulation: what was moved to the key was held against the tombstone when the later row stood there already.
test('a row that a later transaction of the group writes over stays, though the key change before was too old', async () => {
  await deleted(at(150), '1');
  await worker.apply([
    transaction(at(100), [insert('0', 'old'), move('0', '1', 'moved'), ...filler('a')]),
    transaction(at(200), [update('1', 'new')]),
  ]);
  expect(await rows()).toEqual([['1', 'new']]);
  expect(commits).toBe(1);
});

// Each description of a table had a batch of its own, and what the sets of both had not taken was written last: the delete too.
// With several links one of them wants to be alone again and again.
test('a gate that is closed is waited for, and nothing is taken back or looked at anew for it', async () => {
  await using other = await openSession(server);
  await worker.apply([transaction(at(100), filler('a'))]);
  const known = await tables.seek(ITEM);
  await other.script('BEGIN; LOCK TABLE bdr.bdr_local_node IN EXCLUSIVE MODE');
  let tries = 0;
  onProgress = () => {
    tries += 1;
    if (tries === 3) other.script('COMMIT').catch(() => undefined);
  };
  await session.script(`SET lock_timeout = '10ms'`);
  await worker.apply([transaction(at(200), filler('b'))]);
  await session.script('RESET lock_timeout');
  expect([tries, commits, rollbacks]).toEqual([expect.any(Number), 2, 0]);
  expect(tries).toBeGreaterThanOrEqual(3);
  expect(await tables.seek(ITEM)).toBe(known);
});

test('a table that is described anew within a group keeps the order of its changes', async () => {
  const described: Relation = { ...ITEM };
  await tables.find(ITEM);
  await tables.find(described);
  await worker.apply([
    transaction(at(100), [remove('1'), ...filler('b')]),
    transaction(at(200), [insert('1', 'after the delete', described)]),
  ]);
  expect(await rows()).toEqual([['1', 'after the delete']]);
});

describe('what a set does not take', () => {
  /** The other node has committed. */
  async function ofOther(time: PgTime, sql: string): Promise<void> {
    await using other = await openSession(server);
    await commitAs(other, 'other', time, sql);
  }
  const changed = async (name: string, ...row: (string | null)[]): Promise<FoldedChange> => ({
    change: {
      kind: 'update',
      relation: await describeNamed(session, name),
      oldTuple: null,
      oldTupleIsKey: false,
      newTuple: tupleOf(row),
    },
    context: transaction(at(500), []).context,
    mask: '',
    ...NO_PAST,
  });

  async function writeLeft(all: readonly FoldedChange[]): Promise<void> {
    const [one] = all as [FoldedChange];
    await session.script('BEGIN');
    writer.begin();
    try {
      await writer.left.write(await tables.find(one.change.relation), all);
      await writer.finish();
    } catch (error) {
      await session.script('ROLLBACK');
      throw error;
    }
    await session.script('COMMIT');
  }

  test('is decided row by row, and kept in the history', async () => {
    const ids = Array.from({ length: 250 }, (_, n) => `k${n}`);
    const some = (rest: number) => ids.filter((_, n) => n % 4 === rest);
    const values = (list: readonly string[]) => list.map((id) => `('${id}', 'theirs')`).join(', ');
    const into = 'INSERT INTO public.item (id, v) VALUES';
    await ofOther(at(100), `${into} ${values(some(0))}`);
    await ofOther(at(300), `${into} ${values(some(1))}`);
    await ofOther(at(300), `${into} ${values(some(2))}`);
    // The last quarter is missing, and an update is an insert then.
    const changes = ids.map((id, n) => (n % 2 === 0 ? update(id, 'ours') : insert(id, 'ours')));
    await worker.apply([transaction(at(200), [...changes, ...filler('a')])]);
    const found = new Map((await rows()) as [string, string][]);
    const count = (list: readonly string[], v: string) =>
      list.filter((id) => found.get(id) === v).length;
    expect([count(some(0), 'ours'), count(some(1), 'theirs'), count(some(2), 'theirs')]).toEqual([
      63, 63, 62,
    ]);
    expect(count(some(3), 'ours')).toBe(62);
    const kept = await session.query<{ text: string }>(
      `SELECT concat_ws(' ', conflict_type, conflict_resolution, action, local_tuple->>'v', remote_tuple->>'v', count(*)) AS text
       FROM bdr.bdr_conflict_history
       GROUP BY conflict_type, conflict_resolution, action, local_tuple->>'v', remote_tuple->>'v' ORDER BY 1`,
    );
    expect(kept.map(({ text }) => text)).toEqual([
      'insert_insert last_update_wins_keep_local skip theirs ours 63',
      'update_update last_update_wins_keep_local skip theirs ours 62',
      'update_update last_update_wins_keep_remote update theirs ours 63',
    ]);
    expect(rollbacks).toBe(0);
  });

  test('is an insert where a row was deleted and comes anew: here users have deleted its key meanwhile', async () => {
    for (const id of ['gone', 'again']) await deleted(at(300), id, LOCAL);
    await worker.apply([
      transaction(at(200), [
        ...['gone', 'again', 'free'].flatMap((id) => [remove(id), insert(id, 'anew')]),
        update('again', 'changed'),
        ...filler('a'),
      ]),
    ]);
    expect(await rows()).toEqual([['free', 'anew']]);
    const kept = await session.query<{ rule: string; id: string; v: string }>(
      `SELECT rule, remote_tuple->>'id' AS id, remote_tuple->>'v' AS v FROM bdr.bdr_conflict_history ORDER BY v`,
    );
    expect(kept).toEqual([
      { rule: 'insert_deleted', id: 'gone', v: 'anew' },
      { rule: 'insert_deleted', id: 'again', v: 'changed' },
    ]);
    expect(rollbacks).toBe(0);
  });

  test('is written in order where keys are equal that are spelt differently', async () => {
    await session.script('CREATE TABLE public.number (id numeric PRIMARY KEY, v text)');
    await ofOther(at(100), `INSERT INTO public.number VALUES (1, 'theirs'), (2, 'theirs')`);
    const all = [
      await changed('public.number', '1.0', 'first'),
      await changed('public.number', '2', 'only'),
      await changed('public.number', '1.00', 'last'),
    ];
    await writeLeft(all);
    const found = await session.query<{ text: string }>(
      `SELECT concat_ws(' ', trunc(id), v) AS text FROM public.number ORDER BY id`,
    );
    expect(found.map(({ text }) => text)).toEqual(['1 last', '2 only']);
  });

  test('is not all read at once where its rows are long', async () => {
    await session.script(`
      CREATE TABLE public.docs (id integer PRIMARY KEY, v text, j jsonb, b bytea);
      ALTER TABLE public.docs ALTER b SET STORAGE EXTERNAL`);
    const long = [
      `repeat('x', 1000000), NULL, NULL`,
      `NULL, to_jsonb(repeat('y', 1000000)), NULL`,
      `NULL, NULL, convert_to(repeat('z', 1000000), 'UTF8')`,
      `'short', to_jsonb(1), '\\x00'`,
    ];
    const most: number[] = [];
    for (const row of long) {
      await session.script('DELETE FROM public.docs');
      await ofOther(
        at(100),
        `INSERT INTO public.docs SELECT g, ${row} FROM generate_series(1, 12) AS g`,
      );
      const all: FoldedChange[] = [];
      for (let id = 1; id <= 12; id++) {
        all.push(await changed('public.docs', String(id), 'small', null, null));
      }
      let [now, peak] = [0, 0];
      const execute = session.execute.bind(session);
      const spy = vi.spyOn(session, 'execute').mockImplementation(async (name, sql, params) => {
        if (!sql.includes('row_to_json')) return execute(name, sql, params) as never;
        peak = Math.max(peak, ++now);
        return execute(name, sql, params).finally(() => {
          now -= 1;
        }) as never;
      });
      await writeLeft(all);
      spy.mockRestore();
      most.push(peak);
    }
    expect(most).toEqual([4, 4, 4, 12]);
  });

  test('says why it cannot be written', async () => {
    await session.script(`
      CREATE DOMAIN public.short AS text CHECK (length(VALUE) < 8);
      CREATE TABLE public.strict (id integer PRIMARY KEY, v public.short)`);
    await ofOther(
      at(100),
      `INSERT INTO public.strict SELECT g, 'theirs' FROM generate_series(1, 5) AS g`,
    );
    const all = [
      await changed('public.strict', '1', 'short'),
      await changed('public.strict', '2', 'much too long'),
      await changed('public.strict', '3', 'short'),
    ];
    await expect(writeLeft(all)).rejects.toMatchObject({ code: '23514' });
  });
});

describe('the group that comes next is folded while the server works', () => {
  const group = (name: string, time: number, extra: readonly RowChange[] = []) => [
    transaction(at(time), [...filler(name), insert(name, 'inserted')]),
    transaction(at(time + 1), [update(name, 'updated'), ...extra]),
  ];
  const count = async () => {
    const [row] = await session.query<{ n: string }>('SELECT count(*) AS n FROM public.item');
    return Number(row?.n);
  };

  test('and is written when its turn comes', async () => {
    await tables.find(ITEM);
    const [first, second] = [group('one', 100), group('two', 200)];
    await worker.apply(first, () => second);
    expect(sets.size).toBe(32);
    expect(await rows()).toEqual([['one', 'updated']]);
    // Its own end, of which nothing had arrived by then, is folded then.
    await worker.apply([...second, transaction(at(300), [update('two', 'again')])]);
    expect(await rows()).toEqual([
      ['one', 'updated'],
      ['two', 'again'],
    ]);
    expect(await count()).toBe(62);
  });

  test('unless something else comes', async () => {
    await tables.find(ITEM);
    const [first, second] = [group('one', 100), group('two', 200)];
    await worker.apply(first, () => second);
    await worker.apply(second.slice(0, 1));
    expect(await rows()).toEqual([
      ['one', 'updated'],
      ['two', 'inserted'],
    ]);
    await worker.moveTo(lsn as Lsn);
    await worker.applyEach(second.slice(1));
    expect(await rows()).toContainEqual(['two', 'updated']);
    expect(await count()).toBe(62);
  });

  test('unless this one fails', async () => {
    await tables.find(ITEM);
    await session.script(
      `CREATE UNIQUE INDEX item_v ON public.item (v) WHERE id IN ('one', 'other')`,
    );
    // As sets the unique values meet in the wrong order.
    await worker.apply([transaction(at(90), [insert('one', 'a'), insert('other', 'b')])]);
    const first = [
      transaction(at(100), [...filler('one'), update('one', 'c')]),
      transaction(at(101), [update('other', 'a')]),
      transaction(at(102), [update('one', 'b')]),
    ];
    const second = group('two', 200);
    await worker.apply(first, () => second);
    expect(await rows()).toEqual([
      ['one', 'b'],
      ['other', 'a'],
    ]);
    await worker.apply(second);
    await session.script('DROP INDEX public.item_v');
    expect(await rows()).toEqual([
      ['one', 'b'],
      ['other', 'a'],
      ['two', 'updated'],
    ]);
    expect(await count()).toBe(63);
  });

  test('and anew if the table has become one that runs code of its owner by then', async () => {
    await tables.find(ITEM);
    const second = group('two', 200);
    await worker.apply(group('one', 100), () => second);
    expect(sets.size).toBeGreaterThan(0);
    await session.script(`
      CREATE ROLE owner;
      CREATE SEQUENCE public.caught;
      GRANT USAGE ON SEQUENCE public.caught TO owner;
      GRANT CREATE ON SCHEMA public TO owner;
      CREATE FUNCTION public.catch() RETURNS boolean LANGUAGE plpgsql AS $$
      BEGIN
        IF current_user <> 'owner' THEN PERFORM nextval('public.caught'); END IF;
        RETURN true;
      END $$;
      ALTER FUNCTION public.catch() OWNER TO owner;
      ALTER TABLE public.item OWNER TO owner;
      ALTER TABLE public.item ADD CHECK (public.catch()) NOT VALID`);
    await worker.apply(second);
    const [caught] = await session.query<{ is_called: string }>(
      'SELECT is_called FROM public.caught',
    );
    expect(caught?.is_called).toBe('f');
    expect(await rows()).toEqual([
      ['one', 'updated'],
      ['two', 'updated'],
    ]);
  });
});
