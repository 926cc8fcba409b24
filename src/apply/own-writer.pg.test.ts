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
} from '../../test/support/apply-writers.ts';
import { startServer } from '../../test/support/servers.ts';
import { pgTimeSql, type PgTime } from '../base/pg-time.ts';
import { install } from '../catalog/install.ts';
import { readSqlFiles } from '../catalog/sql-files.ts';
import { sqlDir } from '../config/paths.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { tupleOf } from '../pgoutput/tuple-value.ts';
import { ensureOrigin, setUpOrigin } from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';
import { OwnBatch } from './own-batch.ts';
import { OwnWriter } from './own-writer.ts';
import { PreparedStatements } from './prepared.ts';
import { TableMap } from './table-map.ts';
import { keyArrays, Tombstones } from './tombstones.ts';
import type { OriginMap } from './writers.ts';

const HOUR = 3_600_000_000;

describe('what the own stream writes', () => {
  let server: EmbeddedServer;
  let session: Session;
  let user: Session;
  let origins: OriginMap;
  let tombstones: Tombstones;
  let writer: OwnWriter;
  /** By the server's clock, at the beginning of a test. */
  let now: number;
  /** Of all peers, one look after the other. */
  let peersLimits: PgTime[];
  const ended = new AbortController();

  const connect = (settings: Record<string, string> = {}) =>
    openSession(server, 'postgres', { settings });

  beforeAll(async () => {
    server = await startServer();
    user = await connect();
    await install(user, readSqlFiles(sqlDir()));
    await user.script(`
      CREATE TABLE public.item (id integer PRIMARY KEY, v text) WITH (fillfactor = 10);
      CREATE TABLE public.loose (v text);
      CREATE ROLE joe;
      CREATE TABLE public.joes (id integer PRIMARY KEY, v text);
      ALTER TABLE public.joes OWNER TO joe;
      CREATE TABLE public.pair (z numeric, v text, a text, PRIMARY KEY (z, a));
      CREATE TABLE public.whole (id integer PRIMARY KEY, v text);
      ALTER TABLE public.whole REPLICA IDENTITY FULL;
      CREATE TABLE public.named (id integer PRIMARY KEY, code text NOT NULL UNIQUE);
      ALTER TABLE public.named REPLICA IDENTITY USING INDEX named_code_key;
      CREATE TABLE public.wider (id integer, v text, PRIMARY KEY (id) INCLUDE (v));
      INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid) VALUES ('7', 1, 1)`);
    const peers = await peerOrigins(user);
    await ensureOrigin(user, 'own');
    tombstones = new Tombstones(new PreparedStatements(user), () => origins);
    origins = originsOfPeers(peers);
  });
  afterAll(async () => {
    ended.abort();
    await user?.close();
    await server?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    await user.script(
      'TRUNCATE bdr.tombstone, bdr.bdr_conflict_history, public.item, public.loose, public.joes, public.pair, public.whole, public.named, public.wider',
    );
    const [row] = await user.query<{ now: string }>(
      `SELECT ${pgTimeSql('clock_timestamp()')} AS now`,
    );
    now = Number(row?.now);
    peersLimits = [];
    session = await connect({ lock_timeout: '50ms', deadlock_timeout: '1ms' });
    await setUpOrigin(session, 'own');
    writer = new OwnWriter({
      session,
      origins: () => origins,
      random: Math.random,
      signal: ended.signal,
      peersLimit: () => peersLimits.shift() ?? (0 as PgTime),
      history: { isKept: true, withRows: true },
    });
  });

  afterEach(() => session.close());

  const at = (micros: number) => (now + micros) as PgTime;

  /** Another node's deletions, or this node's own, as they are remembered. */
  async function remembered(
    name: string,
    time: PgTime,
    keys: readonly (readonly string[])[],
    by = PROVIDER,
  ): Promise<void> {
    const relation = await describeNamed(user, `public.${name}`);
    const table = await new TableMap(user).seek(relation);
    if (!table) throw new Error(`no table ${name}`);
    await tombstones.add(
      table,
      keyArrays(
        table,
        keys.map((key) => ({ time, key })),
      ),
      by.id,
    );
  }
  /** Rows come from the provider. */
  const came = (name: string, list: string, time: PgTime) =>
    commitAs(user, 'provider', time, `INSERT INTO public.${name} ${list}`);
  const rows = async (name: string) =>
    (
      await user.query<{ row: string }>(`SELECT t::text AS row FROM public.${name} AS t ORDER BY 1`)
    ).map(({ row }) => row);

  test('takes a user’s row away that is smaller, and keeps it in the history', async () => {
    await user.script(
      `INSERT INTO public.item VALUES (1, 'older'), (2, 'newer'), (3, 'other key')`,
    );
    await remembered('item', at(HOUR), [['1']]);
    await remembered('item', at(-HOUR), [['2']]);
    await writer.lookBelow(at(2 * HOUR));
    expect(await rows('item')).toEqual(['(2,newer)', '(3,"other key")']);
    const history = await user.query<{ what: string }>(`
      SELECT concat_ws(' ', object_name, conflict_resolution, local_tuple->>'v', remote_node_sysid, rule, action,
                       row_key, certainly_concurrent) AS what
      FROM bdr.bdr_conflict_history`);
    // Who deleted it may have seen it, where its own commit was not shown here yet.
    expect(history).toEqual([
      { what: 'item last_update_wins_keep_remote older 7 below_tombstone delete {"id":1} f' },
    ]);
  });

  test('looks at each deletion once, when the time has come to it', async () => {
    await user.script(`INSERT INTO public.item VALUES (1, 'a')`);
    await remembered('item', at(HOUR), [['1']]);
    await writer.lookBelow(at(HOUR - 1));
    expect(await rows('item')).toEqual(['(1,a)']);
    await writer.lookBelow(at(HOUR));
    expect(await rows('item')).toEqual([]);
    await user.script(`INSERT INTO public.item VALUES (1, 'b')`);
    await writer.lookBelow(at(2 * HOUR));
    expect(await rows('item')).toEqual(['(1,b)']);
  });

  test('leaves the node’s own deletions alone: their look is another', async () => {
    await user.script(`INSERT INTO public.item VALUES (1, 'a')`);
    await remembered('item', at(HOUR), [['1']], LOCAL);
    await writer.lookBelow(at(2 * HOUR));
    expect(await rows('item')).toEqual(['(1,a)']);
  });

  test('finds rows by keys of several columns, and by the replica identity that a table has', async () => {
    await user.script(`
      INSERT INTO public.pair VALUES (1.0, 'v', 'x'), (2, 'v', 'y');
      INSERT INTO public.whole VALUES (1, 'a'), (2, 'b');
      INSERT INTO public.named VALUES (1, 'one'), (2, 'two');
      INSERT INTO public.wider VALUES (1, 'a'), (2, 'b')`);
    await remembered('pair', at(HOUR), [['1.00', 'x']]);
    await remembered('whole', at(HOUR), [['2']]);
    await remembered('named', at(HOUR), [['one']], OTHER);
    await remembered('wider', at(HOUR), [['1']]);
    await writer.lookBelow(at(2 * HOUR));
    expect(await rows('pair')).toEqual(['(2,v,y)']);
    expect(await rows('whole')).toEqual(['(1,a)']);
    expect(await rows('named')).toEqual(['(2,two)']);
    expect(await rows('wider')).toEqual(['(2,b)']);
  });

  test('goes through more of them than it reads at once, and past a table that is gone', async () => {
    await user.script(`
      CREATE TABLE public.gone (id integer PRIMARY KEY);
      INSERT INTO public.item VALUES (1, 'a'), (11999, 'a'), (12000, 'a')`);
    await remembered('gone', at(HOUR), [['1']]);
    await remembered(
      'item',
      at(HOUR),
      Array.from({ length: 11_999 }, (_, index) => [String(index + 1)]),
    );
    await user.script('DROP TABLE public.gone');
    await writer.lookBelow(at(2 * HOUR));
    expect(await rows('item')).toEqual(['(12000,a)']);
  });

  test('waits for a user who holds the row, and holds nothing meanwhile', async () => {
    await user.script(`INSERT INTO public.item VALUES (1, 'a')`);
    await remembered('item', at(HOUR), [['1']]);
    await user.script(`BEGIN; UPDATE public.item SET v = 'b' WHERE id = 1`);
    const looked = writer.lookBelow(at(2 * HOUR));
    await user.script('LOCK TABLE bdr.bdr_local_node IN EXCLUSIVE MODE; COMMIT');
    await looked;
    expect(await rows('item')).toEqual([]);
  });

  test('keeps what slipped in below a TRUNCATE of users, and leaves what is newer', async () => {
    await came('item', `SELECT g, 'others' FROM generate_series(1, 4000) AS g`, at(-1));
    await came('item', `VALUES (20000, 'newer')`, at(1));
    await came('loose', `VALUES ('others')`, at(-1));
    await came('loose', `VALUES ('newer')`, at(1));
    await user.script(
      `INSERT INTO public.item VALUES (20001, 'users'); INSERT INTO public.loose VALUES ('users')`,
    );
    const batch = new OwnBatch();
    const relations = [
      await describeNamed(user, 'public.item'),
      await describeNamed(user, 'public.loose'),
    ];
    batch.add({ kind: 'truncate', relations, cascade: false, restartIdentity: false }, at(0));
    await writer.write(batch, undefined);
    expect(await rows('item')).toEqual(['(20000,newer)', '(20001,users)']);
    expect(await rows('loose')).toEqual(['(newer)', '(users)']);
    const history = await user.query<{ what: string }>(`
      SELECT concat_ws(' ', count(*), object_name, count(row_key), conflict_resolution, remote_tuple->>'v',
                       remote_node_dboid, rule, action, certainly_concurrent) AS what
      FROM bdr.bdr_conflict_history
      GROUP BY object_name, conflict_resolution, remote_tuple->>'v', remote_node_dboid, rule, action, certainly_concurrent
      ORDER BY object_name`);
    expect(history.map(({ what }) => what)).toEqual([
      '4000 item 4000 last_update_wins_keep_local others 2 below_tombstone delete t',
      '1 loose 0 last_update_wins_keep_local others 2 below_tombstone delete t',
    ]);
  });

  test('a table without a key that was truncated does not keep it from the others', async () => {
    await came('loose', `VALUES ('others')`, at(-1));
    await came('joes', `VALUES (1, 'others')`, at(-1));
    const [loose, joes] = [
      await describeNamed(user, 'public.loose'),
      await describeNamed(user, 'public.joes'),
    ];
    const batch = new OwnBatch();
    batch.add(
      { kind: 'truncate', relations: [loose], cascade: false, restartIdentity: false },
      at(0),
    );
    const oldTuple = tupleOf(['1', null]);
    batch.add({ kind: 'delete', relation: joes, oldTuple, oldTupleIsKey: true }, at(0));
    await writer.write(batch, undefined);
    expect(await rows('loose')).toEqual([]);
    expect(await rows('joes')).toEqual([]);
  });

  test('of many deletions of users, which the peers are about to pass, none is remembered', async () => {
    const relation = await describeNamed(user, 'public.item');
    const written = async (limits: PgTime[]) => {
      const batch = new OwnBatch();
      for (let id = 0; id < 2000; id++) {
        const oldTuple = tupleOf([String(id), null]);
        batch.add({ kind: 'delete', relation, oldTuple, oldTupleIsKey: true }, at(id - 10_000));
      }
      peersLimits = limits;
      await writer.write(batch, undefined);
      const [row] = await user.query<{ count: string }>(
        'SELECT count(*) AS count FROM bdr.tombstone',
      );
      return Number(row?.count);
    };
    expect(await written([at(-20_000), at(0)])).toBe(0);
    // Those that a peer has not passed by the time that nobody waits for any longer.
    writer.hurry();
    expect(await written([at(-8_501)])).toBe(500);
  });
});
