import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import {
  describeNamed,
  LOCAL,
  originsOfPeers,
  OTHER,
  peerOrigins,
  PROVIDER,
  providersWriter,
} from '../../test/support/apply-writers.ts';
import { startServer } from '../../test/support/servers.ts';
import { ZERO_LSN, type Lsn } from '../base/lsn.ts';
import { formatPgTime, pgTimeSql, type PgTime } from '../base/pg-time.ts';
import { install } from '../catalog/install.ts';
import { readSqlFiles } from '../catalog/sql-files.ts';
import { sqlDir } from '../config/paths.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Relation, RowChange } from '../pgoutput/transaction.ts';
import { tupleOf, UNCHANGED, type TupleValue } from '../pgoutput/tuple-value.ts';
import { commitStamped, setUpOrigin } from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';
import { LostWrites } from './lost-writes.ts';
import { SetWriter } from './set-writer.ts';
import { TableMap } from './table-map.ts';
import type { ChangeWriter } from './writer.ts';
import { Seen } from '../model/seen.ts';

let server: EmbeddedServer;
/** This node's users. */
let user: Session;
/** Applies what PROVIDER sends. */
let session: Session;
let lost: LostWrites;
let writer: ChangeWriter;
let tables: TableMap;
let item: Relation;
let noted = 0;
const names = new Map([LOCAL, PROVIDER, OTHER].map(({ id }, n) => [id, `node${n + 1}`] as const));

beforeAll(async () => {
  server = await startServer();
  user = await openSession(server);
  session = await openSession(server, 'postgres', { settings: { lock_timeout: '50ms' } });
  await install(user, readSqlFiles(sqlDir()));
  await user.script(`
    CREATE TABLE public.item (id integer PRIMARY KEY, v text, n numeric);
    INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid) VALUES ('7', 1, 1);
    SELECT bdr.internal_make_guard()`);
  const peers = await peerOrigins(user);
  const origins = originsOfPeers(peers);
  await setUpOrigin(session, 'provider');
  tables = new TableMap(session);
  lost = new LostWrites({
    session,
    open: () =>
      openSession(server, 'postgres', {
        settings: { session_replication_role: 'replica', lock_timeout: '50ms' },
      }),
    provider: PROVIDER.id,
    origins: () => origins,
    nameOf: (id) => names.get(id) ?? '',
    history: { isKept: true, withRows: true },
  });
  writer = providersWriter(peers, {
    session,
    tables,
    onLostWrite: () => {
      noted += 1;
      lost.noted();
    },
  });
});
afterAll(async () => {
  await lost?.[Symbol.asyncDispose]();
  await session?.close();
  await user?.close();
  await server?.[Symbol.asyncDispose]();
});
beforeEach(async () => {
  noted = 0;
  await session.script('ROLLBACK');
  await user.script(
    'TRUNCATE public.item, bdr.lost_write, bdr.tombstone, bdr.own_stream, bdr.bdr_conflict_history, bdr.bdr_conflict_handlers',
  );
});

/** As what arrives from a peer: where it was written it was checked. */
async function asArrived(sql: string, params: (string | null)[] = []): Promise<void> {
  await user.script('SET session_replication_role = replica');
  await user.query(sql, params);
  await user.script('RESET session_replication_role');
}

async function policy(name: string, nodes: string | null = null): Promise<void> {
  await asArrived(
    `INSERT INTO bdr.conflict_policy VALUES ('public', 'item', $1, $2::text[], 'd')
     ON CONFLICT (schema_name, table_name) DO UPDATE SET policy = EXCLUDED.policy, nodes = EXCLUDED.nodes`,
    [name, nodes],
  );
  item = await describeNamed(user, 'public.item');
  tables.forget();
}

/** In an hour: greater than all that is written here until then. */
let later = 0;
async function soon(): Promise<PgTime> {
  const [row] = await user.query<{ time: string }>(
    `SELECT ${pgTimeSql(`clock_timestamp() + '1 hour'`)} AS time`,
  );
  later += 1;
  return (Number(row?.time) + later) as PgTime;
}

type Row = readonly TupleValue[];
const insert = (row: Row): RowChange => ({
  kind: 'insert',
  relation: item,
  newTuple: tupleOf(row),
});
const update = (old: Row, row: Row): RowChange => ({
  kind: 'update',
  relation: item,
  oldTuple: tupleOf(old),
  oldTupleIsKey: false,
  newTuple: tupleOf(row),
});
const remove = (old: Row): RowChange => ({
  kind: 'delete',
  relation: item,
  oldTuple: tupleOf(old),
  oldTupleIsKey: false,
});

/** Applies a transaction of the provider, greater than what is here. */
async function applied(...changes: readonly RowChange[]): Promise<PgTime> {
  const commitTime = await soon();
  const context = { xid: 99, commitTime, commitLsn: 4711 as Lsn, seen: new Seen() };
  await session.script('BEGIN');
  writer.begin();
  for (const change of changes) await writer.write(change, context);
  await writer.finish();
  await commitStamped(session, ZERO_LSN, commitTime);
  return commitTime;
}

/** Rows with the number of their node. */
async function rows(): Promise<(string | null)[][]> {
  const found = await user.query<{ id: string; v: string; n: string; origin: string | null }>(`
    SELECT id, v, n, (SELECT roname FROM pg_replication_origin
                      WHERE roident = (pg_xact_commit_timestamp_origin(i.xmin)).roident) AS origin
    FROM public.item AS i ORDER BY id`);
  return found.map(({ id, v, n, origin }) => [id, v, n, origin]);
}
const notes = async () => (await user.query('SELECT FROM bdr.lost_write')).length;
const history = (rule = 'lost_write') =>
  user.query(`
    SELECT conflict_type || ' ' || conflict_resolution AS what, policy, action, local_tuple->>'v' AS local, remote_tuple->>'v' AS remote
    FROM bdr.bdr_conflict_history WHERE rule = '${rule}'`);

/** A node's own stream has come to a deletion of its users; it is behind until `watermark`. */
async function ownStream(watermark: 'ahead' | 'behind'): Promise<void> {
  const at = watermark === 'ahead' ? `clock_timestamp() + '1 day'` : `'2020-01-01'`;
  await user.script(`
    INSERT INTO bdr.own_stream (status, watermark_at) VALUES ('streaming', ${at})
    ON CONFLICT (singleton) DO UPDATE SET watermark_at = EXCLUDED.watermark_at`);
}
async function deletedHere(id: string): Promise<void> {
  await user.query('DELETE FROM public.item WHERE id = $1::integer', [id]);
  await remembered(id);
}
async function remembered(id: string): Promise<void> {
  const found = await tables.find(item);
  const { tombstones } = writer;
  const [now] = await user.query<{ time: string }>(
    `SELECT ${pgTimeSql('clock_timestamp()')} AS time`,
  );
  const times = `{"${formatPgTime(Number(now?.time) as PgTime)}"}`;
  await session.script('BEGIN');
  await tombstones.add(found, { times, columns: [`{${id}}`] }, LOCAL.id);
  await commitStamped(session, ZERO_LSN);
}

describe('a row of this node that a concurrent change overwrites', () => {
  test('is written again where it came first and the policy is first_update_wins', async () => {
    await policy('first_update_wins');
    await user.script(`INSERT INTO public.item VALUES (1, 'Here', 1.50), (2, 'Here', 1)`);
    await applied(update(['1', 'base', null], ['1', 'there', '2']));
    expect(await rows()).toEqual([
      ['1', 'there', '2', 'provider'],
      ['2', 'Here', '1', null],
    ]);
    expect([noted, await notes()]).toEqual([1, 1]);
    await lost.settle();
    expect(await rows()).toEqual([
      ['1', 'Here', '1.50', null],
      ['2', 'Here', '1', null],
    ]);
    expect(await notes()).toBe(0);
    expect(await history()).toEqual([
      {
        what: 'update_update skip_change',
        policy: 'first_update_wins',
        action: 'update',
        local: 'Here',
        remote: 'there',
      },
    ]);
  });

  test('is not where the change’s writer had the row: that is no conflict', async () => {
    await policy('first_update_wins');
    await user.script(`INSERT INTO public.item VALUES (1, 'here', 1.50), (2, 'here', NULL)`);
    await applied(update(['1', 'here', '1.50'], ['1', 'there', '2']), remove(['2', 'here', null]));
    expect([noted, await notes()]).toEqual([0, 0]);
    expect(await rows()).toEqual([['1', 'there', '2', 'provider']]);
    expect(await user.query('SELECT FROM bdr.bdr_conflict_history')).toEqual([]);
  });

  test('a null, or a value that is spelt otherwise, is another row', async () => {
    await policy('first_update_wins');
    await user.script(`INSERT INTO public.item VALUES (1, NULL, 1), (2, 'a', 1.0)`);
    await applied(
      update(['1', '', '1'], ['1', 'there', '2']),
      update(['2', 'a', '1.00'], ['2', 'there', '2']),
    );
    expect(noted).toBe(2);
  });

  test('long values that an update leaves alone come with the old row', async () => {
    await policy('first_update_wins');
    await user.script(`INSERT INTO public.item VALUES (1, 'here', 1)`);
    await applied(update(['1', 'long', '1'], ['1', UNCHANGED, '2']));
    expect(await rows()).toEqual([['1', 'long', '2', 'provider']]);
  });

  test('is compared with the other node’s rank under node_priority', async () => {
    for (const [nodes, kept] of [
      ['{node1,node2}', 'here'],
      ['{node2,node1}', 'there'],
      ['{node3}', 'there'],
    ] as const) {
      await policy('node_priority', nodes);
      await user.script(`TRUNCATE public.item; INSERT INTO public.item VALUES (1, 'here')`);
      await applied(insert(['1', 'there', null]));
      await lost.settle();
      expect((await rows())[0]?.[1], nodes).toBe(kept);
      expect(await notes()).toBe(0);
    }
  });

  test('has its local columns still, and comes back with them', async () => {
    const local = (change: string) =>
      user.script(`
        ALTER TABLE bdr.table_local_columns DISABLE TRIGGER local_columns_changed;
        ${change};
        ALTER TABLE bdr.table_local_columns ENABLE ALWAYS TRIGGER local_columns_changed`);
    await local(
      `INSERT INTO bdr.table_local_columns VALUES ('public.item'::regclass, ARRAY(SELECT attnum FROM pg_attribute WHERE attrelid = 'public.item'::regclass AND attname = 'n'))`,
    );
    try {
      await policy('update_wins');
      await user.script(`INSERT INTO public.item VALUES (1, 'here', 1), (2, 'here', 2)`);
      await applied(update(['2', 'base', '7'], ['2', 'there', '8']), remove(['1', 'base', '7']));
      expect(await rows()).toEqual([['2', 'there', '2', 'provider']]);
      await lost.settle();
      expect(await rows()).toEqual([
        ['1', 'here', '1', null],
        ['2', 'there', '2', 'provider'],
      ]);
      // Only the other columns tell what its writer had.
      await user.script(`TRUNCATE public.item; INSERT INTO public.item VALUES (3, 'here', 3)`);
      noted = 0;
      await applied(update(['3', 'here', '7'], ['3', 'there', '8']));
      expect([noted, await rows()]).toEqual([0, [['3', 'there', '3', 'provider']]]);
    } finally {
      await local('DELETE FROM bdr.table_local_columns');
    }
  });

  test('comes back from a deletion under update_wins, and not under delete_wins', async () => {
    for (const [name, left] of [
      ['update_wins', [['1', 'here', '1', null]]],
      ['delete_wins', []],
    ] as const) {
      await policy(name);
      await user.script(`TRUNCATE public.item; INSERT INTO public.item VALUES (1, 'here', 1)`);
      await applied(remove(['1', 'base', '1']));
      expect(await rows()).toEqual([]);
      await lost.settle();
      expect(await rows(), name).toEqual(left);
      expect(await notes()).toBe(0);
    }
  });

  test('stays lost where somebody has written since', async () => {
    await policy('first_update_wins');
    await user.script(`INSERT INTO public.item VALUES (1, 'here'), (2, 'here'), (3, 'here')`);
    await applied(
      update(['1', 'base', null], ['1', 'there', null]),
      update(['2', 'base', null], ['2', 'there', null]),
      update(['3', 'base', null], ['3', 'there', null]),
    );
    await user.script(`UPDATE public.item SET v = 'again' WHERE id = 1`);
    await user.script(`DELETE FROM public.item WHERE id = 2`);
    await remembered('2');
    await applied(update(['3', 'there', null], ['3', 'there again', null]));
    await lost.settle();
    expect(await rows()).toEqual([
      ['1', 'again', null, null],
      ['3', 'there again', null, 'provider'],
    ]);
    expect([await notes(), await history()]).toEqual([0, []]);
  });

  test('waits while somebody holds the row, or apply is paused', async () => {
    await policy('first_update_wins');
    await user.script(`INSERT INTO public.item VALUES (1, 'here')`);
    await applied(update(['1', 'base', null], ['1', 'there', null]));
    await user.script('BEGIN; SELECT FROM public.item FOR UPDATE');
    await lost.settle();
    expect(await notes()).toBe(1);
    await user.script('ROLLBACK; UPDATE bdr.bdr_local_node SET apply_paused = true');
    lost.noted();
    await lost.settle();
    expect([await notes(), (await rows())[0]?.[1]]).toEqual([1, 'there']);
    await user.script('UPDATE bdr.bdr_local_node SET apply_paused = false');
    lost.noted();
    await lost.settle();
    expect([await notes(), (await rows())[0]?.[1]]).toEqual([0, 'here']);
  });

  test('is left alone where its table has no policy any more, or is gone', async () => {
    await policy('first_update_wins');
    await user.script(`INSERT INTO public.item VALUES (1, 'here')`);
    await applied(update(['1', 'base', null], ['1', 'there', null]));
    await user.script(`
      INSERT INTO bdr.lost_write (relation, row_key, local_row, node_sysid, node_timeline, node_dboid,
                                  remote_change, remote_txid, remote_time, remote_lsn, remote_seen)
      SELECT 99, row_key, local_row, node_sysid, node_timeline, node_dboid,
             remote_change, remote_txid, remote_time, remote_lsn, remote_seen FROM bdr.lost_write;
      DELETE FROM bdr.conflict_policy`);
    await lost.settle();
    expect([await notes(), (await rows())[0]?.[1]]).toEqual([0, 'there']);
  });

  test('stays lost where another row has its value in a unique index, and can be brought back', async () => {
    await policy('update_wins');
    await user.script(`
      CREATE UNIQUE INDEX item_v ON public.item (v);
      INSERT INTO public.item VALUES (1, 'same')`);
    await applied(remove(['1', 'base', null]));
    await user.script(`INSERT INTO public.item VALUES (2, 'same')`);
    await lost.settle();
    expect([await notes(), (await rows()).map(([id]) => id)]).toEqual([0, ['2']]);
    expect(await history('unique_index')).toEqual([
      {
        what: 'update_delete last_update_wins_keep_remote',
        policy: 'update_wins',
        action: 'skip',
        local: 'same',
        remote: null,
      },
    ]);
    await user.script(`
      SELECT bdr.bdr_restore_conflict_loser(conflict_id, '{"v": "other"}')
      FROM bdr.bdr_conflict_history WHERE rule = 'unique_index'`);
    expect((await rows()).map(([id, v]) => `${id} ${v}`).toSorted()).toEqual(['1 other', '2 same']);
    await user.script('DROP INDEX public.item_v');
  });
});

test('changes of a table with a policy are not written as sets', async () => {
  const sets = new SetWriter({ session, writer, provider: PROVIDER.id, providerOrigin: 0 });
  const context = { xid: 1, commitTime: 1 as PgTime, commitLsn: 1 as Lsn, seen: new Seen() };
  await user.script(`DELETE FROM bdr.conflict_policy`);
  for (const isSet of [false, true]) {
    if (isSet) await policy('update_wins');
    else tables.forget();
    expect(sets.add(await tables.find(item), insert(['1', 'x', '1']), context)).toBe(!isSet);
    sets.discard();
  }
});

describe('a deletion of this node that a concurrent update passes', () => {
  test('is done again under delete_wins, once it is known to be this node’s', async () => {
    await policy('delete_wins');
    await ownStream('behind');
    await applied(update(['1', 'base', null], ['1', 'there', null]));
    expect(noted).toBe(1);
    await lost.settle();
    expect([await notes(), await rows()]).toEqual([1, [['1', 'there', null, 'provider']]]);
    await remembered('1');
    await ownStream('ahead');
    lost.noted();
    await lost.settle();
    expect([await notes(), await rows()]).toEqual([0, []]);
    expect(await history()).toMatchObject([
      { what: 'update_delete skip_change', action: 'delete', remote: 'there' },
    ]);
  });

  test('is none where nobody here has deleted the row, or another node has', async () => {
    await policy('delete_wins');
    await ownStream('ahead');
    await applied(update(['1', 'base', null], ['1', 'there', null]));
    await lost.settle();
    expect([await notes(), await rows()]).toEqual([0, [['1', 'there', null, 'provider']]]);
  });

  test('stays undone under update_wins', async () => {
    await policy('update_wins');
    await ownStream('ahead');
    await user.script(`INSERT INTO public.item VALUES (1, 'base')`);
    await deletedHere('1');
    await applied(update(['1', 'base', null], ['1', 'there', null]));
    await lost.settle();
    expect([await notes(), await rows()]).toEqual([0, [['1', 'there', null, 'provider']]]);
  });
});

describe('a conflict handler', () => {
  const handler = (body: string, type = 'update_update', timeframe = 'NULL') =>
    user.script(`
      CREATE OR REPLACE FUNCTION public.handle(mine public.item, theirs public.item, tag text, rel regclass,
          type bdr.bdr_conflict_type, OUT result public.item, OUT action bdr.bdr_conflict_handler_action)
      LANGUAGE plpgsql AS $$ BEGIN ${body} END $$;
      INSERT INTO bdr.bdr_conflict_handlers VALUES ('a', '${type}', 'public', 'item',
          'public.handle(public.item,public.item,text,regclass,bdr.bdr_conflict_type)', ${timeframe})
      ON CONFLICT (ch_schema, ch_table, ch_name) DO UPDATE
      SET ch_type = EXCLUDED.ch_type, ch_timeframe = EXCLUDED.ch_timeframe`);
  const conflict = async () => {
    await policy('handler');
    await user.script(`INSERT INTO public.item VALUES (1, 'Here \\ it''s', 1.5)`);
    await applied(update(['1', 'base', null], ['1', 'there', '2']));
  };
  const outcome = async (): Promise<string | null | undefined> => {
    await lost.settle();
    return (await rows())[0]?.[1];
  };

  test('makes one row of both', async () => {
    await handler(`result := mine; result.n := mine.n + theirs.n;
      result.v := concat_ws(' ', mine.v, theirs.v, tag, rel, type); action := 'ROW';`);
    await conflict();
    await lost.settle();
    const v = `Here \\ it's there UPDATE public.item update_update`;
    expect(await rows()).toEqual([['1', v, '3.5', null]]);
    expect(await history()).toMatchObject([
      { what: 'update_update conflict_trigger_returned_tuple', policy: 'handler' },
    ]);
  });

  test('keeps the row of this node by SKIP, and leaves the other by IGNORE', async () => {
    await handler(`action := 'SKIP';`);
    await conflict();
    expect(await outcome()).toBe(`Here \\ it's`);
    await user.script('TRUNCATE public.item');
    await handler(`action := 'IGNORE';`);
    await conflict();
    expect(await outcome()).toBe('there');
    expect(await notes()).toBe(0);
  });

  test('is asked about its own type of conflict and within its time frame', async () => {
    await handler(`action := 'SKIP';`, 'insert_insert');
    await conflict();
    expect(await outcome()).toBe('there');
    await user.script('TRUNCATE public.item');
    await handler(`action := 'SKIP';`, 'update_update', `'30 minutes'`);
    await conflict();
    expect(await outcome()).toBe('there');
    await user.script('TRUNCATE public.item');
    await handler(`action := 'SKIP';`, 'update_update', `'2 hours'`);
    await conflict();
    expect(await outcome()).toBe(`Here \\ it's`);
  });

  test('has the key alone of a row that was deleted, and brings it back', async () => {
    await handler(
      `result := mine; result.v := concat(tag, theirs.id, theirs.v); action := 'ROW';`,
      'update_delete',
    );
    await policy('handler');
    await user.script(`INSERT INTO public.item VALUES (1, 'here')`);
    await applied(remove(['1', 'base', null]));
    expect(await outcome()).toBe('DELETE1');
  });

  test.each([
    [`RAISE EXCEPTION 'no idea';`, 'failed: no idea'],
    [`action := NULL;`, 'failed: handler action may not be NULL!'],
    [`action := 'ROW';`, 'failed: handler action is ROW but returned row is NULL'],
    [
      `result := mine; result.id := 7; action := 'ROW';`,
      'failed: the returned row has another key',
    ],
  ])('%s stops the link: %s', async (body, why) => {
    await handler(body);
    await conflict();
    await expect(lost.settle()).rejects.toThrow(why);
    expect([await notes(), (await rows())[0]?.[1]]).toEqual([1, 'there']);
    await handler(`action := 'SKIP';`);
    expect(await outcome()).toBe(`Here \\ it's`);
  });

  test('that is not on this node stops the link with a hint', async () => {
    await handler(`action := 'SKIP';`);
    await conflict();
    await asArrived(`UPDATE bdr.bdr_conflict_handlers SET ch_fun = 'public.not_here(integer)'`);
    await expect(lost.settle()).rejects.toMatchObject({
      code: 'apply_failed',
      message: expect.stringContaining(
        'function public.not_here(integer) does not exist on this node',
      ) as string,
      hint: expect.stringContaining('bdr_drop_conflict_handler') as string,
    });
    await user.script('DELETE FROM bdr.bdr_conflict_handlers');
    expect(await outcome()).toBe('there');
  });

  test('runs with its owner’s rights, and cannot get others', async () => {
    await handler(
      `result := mine; result.v := current_user; action := 'ROW'; EXECUTE 'RESET ROLE';
       EXECUTE 'ALTER ROLE mallory SUPERUSER';`,
    );
    await user.script(`
      CREATE ROLE mallory;
      ALTER FUNCTION public.handle(public.item, public.item, text, regclass, bdr.bdr_conflict_type) OWNER TO mallory`);
    await conflict();
    await expect(lost.settle()).rejects.toThrow('security-restricted operation');
    await handler(`result := mine; result.v := current_user; action := 'ROW';`);
    expect(await outcome()).toBe('mallory');
  });
});
