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
import { quoteLiteral } from '../base/names.ts';
import { formatPgTime, LONG_AGO, pgTimeSql, type PgTime } from '../base/pg-time.ts';
import { install } from '../catalog/install.ts';
import { readSqlFiles } from '../catalog/sql-files.ts';
import { sqlDir } from '../config/paths.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { nodeKey } from '../model/node.ts';
import type { RowChange } from '../pgoutput/transaction.ts';
import { tupleOf, type TupleValue, UNCHANGED } from '../pgoutput/tuple-value.ts';
import { resetOrigin, setUpOrigin } from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';
import { SQLSTATE, sqlstateOf } from '../postgres/sqlstate.ts';
import { Ahead } from './ahead.ts';
import type { ChangeContext } from './change-context.ts';
import { Procedures } from './procedures.ts';
import { SetWriter } from './set-writer.ts';
import { TableMap } from './table-map.ts';
import { PartBuilder } from './transaction-part.ts';
import type { ChangeWriter } from './writer.ts';
import { Seen } from '../model/seen.ts';

const NOON = 845_000_000_123_456 as PgTime;
const at = (micros: number) => (NOON + micros) as PgTime;

/** What a change does to a row of a version that is stated exactly: commit times are set, not waited for. */
describe.each(['row by row', 'as sets', 'ahead'])('changes written %s', (way) => {
  let server: EmbeddedServer;
  let session: Session;
  let user: Session;
  let origins: { provider: number; other: number };
  let writer: ChangeWriter;
  let tables: TableMap;
  let sets: SetWriter;
  let ahead: Ahead;
  let procedures: Procedures;
  let asked: string[];
  /** Transactions of the provider that were waited for. */
  let awaited: number[];
  /** Whether the provider has a row that it is asked for. */
  let isThere: boolean;
  /** Whether the provider's commits are seen before it is given up to wait for them. */
  let isSeenSoon: boolean;
  let takenAhead = 0;

  beforeAll(async () => {
    server = await startServer();
    const connect = () => openSession(server);
    [session, user] = [await connect(), await connect()];
    await install(session, readSqlFiles(sqlDir()));
    await session.script('CREATE TABLE public.item (id text PRIMARY KEY, v text, big text)');
    origins = await peerOrigins(session);
    tables = new TableMap(session);
    writer = providersWriter(origins, {
      session,
      tables,
      readFromProvider: (_table, sql) => {
        asked.push(sql);
        return Promise.resolve(isThere ? [{ big: 'asked for' }] : []);
      },
      untilSeen: (xid, mostMs) => {
        if (!isSeenSoon && mostMs < Infinity) return Promise.resolve(false);
        awaited.push(xid);
        return Promise.resolve(true);
      },
    });
    sets = new SetWriter({
      session,
      writer,
      provider: PROVIDER.id,
      providerOrigin: origins.provider,
    });
    procedures = new Procedures(session);
    ahead = new Ahead({
      tables,
      writer,
      provider: PROVIDER.id,
      providerOrigin: origins.provider,
    });
    await session.script(`
      INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid) VALUES ('7', 1, 1)`);
  });
  afterAll(async () => {
    await session?.close();
    await user?.close();
    await server?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    asked = [];
    awaited = [];
    isSeenSoon = true;
    isThere = true;
    await user.script('TRUNCATE public.item, bdr.bdr_conflict_history');
  });

  /** Writes a row as a commit of that origin and time; without an origin as a user's. */
  async function written(
    origin: string | undefined,
    time: PgTime,
    v: string,
    id = '1',
  ): Promise<void> {
    if (origin) await user.script(`SELECT pg_replication_origin_session_setup('${origin}')`);
    await user.script(
      `BEGIN; INSERT INTO public.item VALUES ('${id}', ${quoteLiteral(v)}, 'stored') ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v;` +
        (origin
          ? `SELECT pg_replication_origin_xact_setup('0/0', ${quoteLiteral(formatPgTime(time))});`
          : '') +
        `COMMIT`,
    );
    if (origin) {
      await user.script(
        'SELECT pg_replication_origin_xact_reset(), pg_replication_origin_session_reset()',
      );
    }
  }

  type Step =
    | { readonly kind: 'insert'; readonly row: readonly TupleValue[] }
    | {
        readonly kind: 'update';
        readonly row: readonly TupleValue[];
        readonly old?: readonly TupleValue[];
      }
    | { readonly kind: 'delete'; readonly old: readonly TupleValue[] };

  /** Applies a transaction of the provider. `meanwhile` happens before it ends. */
  async function applied(
    time: PgTime,
    steps: readonly Step[],
    seenUpTo = LONG_AGO,
    meanwhile = () => Promise.resolve(),
  ): Promise<void> {
    const seen = new Seen(
      new Map([LOCAL, OTHER].map(({ id }) => [nodeKey(id), seenUpTo] as const)),
    );
    const context = { xid: 99, commitTime: time, commitLsn: 4711 as Lsn, seen };
    if (way === 'ahead' && (await isTakenAhead(steps.map(changeOf), context))) return;
    await session.transaction(async () => {
      writer.begin();
      sets.begin();
      for (const step of steps) {
        const change = changeOf(step);
        if (way === 'as sets') {
          const table = await tables.find(change.relation);
          if (sets.add(table, change, context)) continue;
          await sets.flush();
          if (sets.add(table, change, context)) continue;
          await sets.settle();
        }
        await writer.write(change, context);
      }
      await sets.settle();
      await meanwhile();
      await writer.finish();
    });
  }

  /** Sends a whole transaction at once; false when the server stopped in it, or when that cannot be done at all. */
  async function isTakenAhead(
    changes: readonly RowChange[],
    context: ChangeContext,
    due = LONG_AGO,
  ) {
    writer.begin();
    const builder = new PartBuilder(context);
    for (const change of changes) builder.add(change);
    const steps = await ahead.transaction([builder.end(0x1268 as Lsn)], due);
    if (!steps) return false;
    await setUpOrigin(session, 'provider');
    const { answer } = await procedures.call(steps, undefined);
    const { error } = await answer;
    if (error) {
      ahead.stopped(error);
      await resetOrigin(session);
    }
    await session.script('SELECT pg_replication_origin_session_reset()');
    if (error) expect([SQLSTATE.lookAgain, SQLSTATE.uniqueViolation]).toContain(sqlstateOf(error));
    takenAhead += error ? 0 : 1;
    return !error;
  }

  function changeOf(step: Step): RowChange {
    switch (step.kind) {
      case 'insert':
        return { kind: 'insert', relation: ITEM, newTuple: tupleOf(step.row) };
      case 'update': {
        const oldTuple = step.old ? tupleOf(step.old) : null;
        return {
          kind: 'update',
          relation: ITEM,
          oldTuple,
          oldTupleIsKey: oldTuple !== null,
          newTuple: tupleOf(step.row),
        };
      }
      case 'delete':
        return { kind: 'delete', relation: ITEM, oldTuple: tupleOf(step.old), oldTupleIsKey: true };
    }
  }

  async function rows(): Promise<(string | null)[][]> {
    const found = await user.query<{ id: string; v: string | null; big: string | null }>(
      'SELECT id, v, big FROM public.item ORDER BY id',
    );
    return found.map(({ id, v, big }) => [id, v, big]);
  }

  async function conflicts(): Promise<string[]> {
    const found = await user.query<{ text: string }>(`
      SELECT conflict_type || ' ' || conflict_resolution AS text FROM bdr.bdr_conflict_history ORDER BY conflict_id
    `);
    return found.map(({ text }) => text);
  }

  test('the stated versions are what the server keeps', async () => {
    await written('other', at(1), 'x');
    const [row] = await user.query<{ time: string; origin: string }>(
      `SELECT ${pgTimeSql('(pg_xact_commit_timestamp_origin(xmin)).timestamp')} AS time,
              (pg_xact_commit_timestamp_origin(xmin)).roident AS origin FROM public.item`,
    );
    expect([Number(row?.time), Number(row?.origin)]).toEqual([at(1), origins.other]);
  });

  test('one microsecond decides', async () => {
    await written('other', at(1), 'local');
    await applied(at(0), [{ kind: 'update', row: ['1', 'remote', 'b'] }]);
    expect(await rows()).toEqual([['1', 'local', 'stored']]);
    await applied(at(2), [{ kind: 'update', row: ['1', 'remote', 'b'] }]);
    expect(await rows()).toEqual([['1', 'remote', 'b']]);
    expect(await conflicts()).toEqual([
      'update_update last_update_wins_keep_local',
      'update_update last_update_wins_keep_remote',
    ]);
  });

  test('at equal times the greater node number wins, for all kinds of changes', async () => {
    await written('other', at(0), 'number 3');
    await applied(at(0), [{ kind: 'update', row: ['1', 'number 2', 'b'] }]);
    await applied(at(0), [{ kind: 'insert', row: ['1', 'number 2', 'b'] }]);
    await applied(at(0), [{ kind: 'delete', old: ['1', null, null] }]);
    expect(await rows()).toEqual([['1', 'number 3', 'stored']]);
    expect(await conflicts()).toEqual([
      'update_update last_update_wins_keep_local',
      'insert_insert last_update_wins_keep_local',
      'update_delete last_update_wins_keep_local',
    ]);
  });

  test('the provider’s own row is overwritten whatever its time', async () => {
    await written('provider', at(10), 'earlier in the stream');
    await applied(at(5), [{ kind: 'update', row: ['1', 'later in the stream', 'b'] }]);
    expect(await rows()).toEqual([['1', 'later in the stream', 'b']]);
    await written('provider', at(10), 'again');
    await applied(at(5), [{ kind: 'delete', old: ['1', null, null] }]);
    expect(await rows()).toEqual([]);
    expect(await conflicts()).toEqual([]);
  });

  test('what the writer had seen is no conflict, and not looked at', async () => {
    await written('other', at(0), 'seen');
    await applied(at(5), [{ kind: 'update', row: ['1', 'by one who knew', 'b'] }], at(1));
    expect(await rows()).toEqual([['1', 'by one who knew', 'b']]);
    await written('other', at(10), 'seen to the microsecond');
    await applied(at(15), [{ kind: 'delete', old: ['1', null, null] }], at(10));
    expect(await rows()).toEqual([]);
    expect(await conflicts()).toEqual([]);
  });

  test('a user’s row counts as this node’s, at the time of its commit', async () => {
    await written(undefined, at(0), 'user');
    const [now] = await user.query<{ time: string }>(
      `SELECT ${pgTimeSql('clock_timestamp()')} AS time`,
    );
    await applied((Number(now?.time) - 60_000_000) as PgTime, [
      { kind: 'update', row: ['1', 'old', 'b'] },
    ]);
    expect(await rows()).toEqual([['1', 'user', 'stored']]);
    const [local] = await user.query<{ dboid: string }>(
      'SELECT local_tuple_origin_dboid AS dboid FROM bdr.bdr_conflict_history',
    );
    expect(local?.dboid).toBe('1');
  });

  test('a value that was not sent is kept in the provider’s row, and asked for in any other', async () => {
    await written('provider', at(0), 'x');
    await applied(at(1), [{ kind: 'update', row: ['1', 'own', UNCHANGED] }]);
    expect([await rows(), asked]).toEqual([[['1', 'own', 'stored']], []]);
    await written('other', at(2), 'x');
    await applied(at(3), [{ kind: 'update', row: ['1', 'newer', UNCHANGED] }], at(3));
    expect(await rows()).toEqual([['1', 'newer', 'asked for']]);
    expect(asked).toHaveLength(1);
    // One that loses has nothing to ask.
    await written('other', at(9), 'greater');
    await applied(at(4), [{ kind: 'update', row: ['1', 'loses', UNCHANGED] }]);
    expect(asked).toHaveLength(1);
  });

  test('where the provider has the row no more, the change counts as a deletion of its version', async () => {
    isThere = false;
    await user.script('DELETE FROM bdr.tombstone');
    await written('other', at(-1), 'older');
    await written('provider', at(-1), 'moves', '3');
    await applied(at(0), [
      { kind: 'update', row: ['1', 'remote', UNCHANGED] },
      { kind: 'update', row: ['2', 'remote', UNCHANGED] },
      { kind: 'update', old: ['3', null, null], row: ['4', 'remote', UNCHANGED] },
    ]);
    expect(await rows()).toEqual([]);
    // What has removed it there may be a kill of this very version, behind older rows that were applied in a group.
    const remembered = await user.query<{ key: string }>(`
      SELECT DISTINCT row_key[1] AS key FROM bdr.tombstone
      WHERE ${pgTimeSql('committed_at')} = ${at(0)} AND node_dboid = ${PROVIDER.id.dboid} ORDER BY key`);
    expect(remembered.map(({ key }) => key)).toEqual(['1', '2', '3', '4']);
    expect(await conflicts()).toEqual([
      'update_update last_update_wins_keep_remote',
      'update_delete apply_change',
    ]);
  });

  test('a row under the new key of such a change loses or stays as in any conflict', async () => {
    isThere = false;
    await written('provider', at(-1), 'moves', '3');
    await written('other', at(-1), 'loses', '4');
    await written('provider', at(-1), 'moves', '5');
    await written('other', at(5), 'greater', '6');
    await applied(at(0), [
      { kind: 'update', old: ['3', null, null], row: ['4', 'remote', UNCHANGED] },
      { kind: 'update', old: ['5', null, null], row: ['6', 'remote', UNCHANGED] },
    ]);
    expect(await rows()).toEqual([['6', 'greater', 'stored']]);
    // One that another link commits while this transaction is open.
    await written('provider', at(-1), 'moves', '7');
    const change: Step = { kind: 'update', old: ['7', null, null], row: ['8', 'r', UNCHANGED] };
    await applied(at(0), [change], LONG_AGO, () => written('other', at(-1), 'slips in', '8'));
    expect(await rows()).toEqual([['6', 'greater', 'stored']]);
    const history = await user.query<{ what: string }>(`
      SELECT concat_ws(' ', conflict_type, conflict_resolution, action, local_tuple->>'v', remote_tuple->>'v') AS what
      FROM bdr.bdr_conflict_history ORDER BY conflict_id`);
    expect(history.map(({ what }) => what)).toEqual([
      'insert_insert last_update_wins_keep_remote delete loses remote',
      'insert_insert last_update_wins_keep_local skip greater remote',
      'update_delete last_update_wins_keep_remote delete slips in',
    ]);
  });

  test('and where this node is not sent deletions of the table, its row stays', async () => {
    isThere = false;
    await user.script(`
      DELETE FROM bdr.tombstone;
      INSERT INTO bdr.bdr_replication_set_config VALUES ('default', true, true, false)`);
    await written('other', at(-1), 'older');
    await applied(at(0), [{ kind: 'update', row: ['1', 'remote', UNCHANGED] }]);
    expect(await rows()).toEqual([['1', 'older', 'stored']]);
    expect(await user.query('SELECT FROM bdr.tombstone')).toEqual([]);
    await user.script(`DELETE FROM bdr.bdr_replication_set_config`);
  });

  test('a value that a change of key leaves out is asked for under the new key once the commit is seen', async () => {
    await written('provider', at(0), 'x', '0');
    await applied(at(1), [{ kind: 'update', old: ['0', null, null], row: ['1', 'a', UNCHANGED] }]);
    await written('other', at(2), 'x', '2');
    await applied(at(3), [{ kind: 'update', old: ['2', null, null], row: ['3', 'b', UNCHANGED] }]);
    expect(await rows()).toEqual([
      ['1', 'a', 'asked for'],
      ['3', 'b', 'asked for'],
    ]);
    expect([asked.length, awaited]).toEqual([2, [99, 99]]);
  });

  test('where the commit is not seen for long it is kept from the provider’s row, and waited for with any other', async () => {
    isSeenSoon = false;
    await written('provider', at(0), 'x', '0');
    await applied(at(1), [{ kind: 'update', old: ['0', null, null], row: ['1', 'a', UNCHANGED] }]);
    expect([await rows(), asked, awaited]).toEqual([[['1', 'a', 'stored']], [], []]);
    await written('other', at(2), 'x', '2');
    await applied(at(3), [{ kind: 'update', old: ['2', null, null], row: ['3', 'b', UNCHANGED] }]);
    expect(await rows()).toEqual([
      ['1', 'a', 'stored'],
      ['3', 'b', 'asked for'],
    ]);
    expect([asked.length, awaited]).toEqual([1, [99]]);
  });

  test('within one transaction later changes see what earlier ones did', async () => {
    await written('other', at(0), 'x');
    await applied(at(1), [
      { kind: 'update', row: ['1', 'a', UNCHANGED] },
      { kind: 'update', row: ['1', 'b', UNCHANGED] },
      { kind: 'delete', old: ['1', null, null] },
      { kind: 'insert', row: ['1', 'c', null] },
      { kind: 'update', old: ['1', null, null], row: ['2', 'd', 'e'] },
      { kind: 'insert', row: ['1', 'f', null] },
    ]);
    expect(await rows()).toEqual([
      ['1', 'f', null],
      ['2', 'd', 'e'],
    ]);
    expect(asked).toHaveLength(1);
    expect(await conflicts()).toEqual(['update_update last_update_wins_keep_remote']);
  });

  test('a change of key deletes the old row even when the new one loses', async () => {
    await written('other', at(9), 'greater');
    await written('provider', at(0), 'old', '0');
    await applied(at(5), [{ kind: 'update', old: ['0', null, null], row: ['1', 'loses', 'b'] }]);
    expect(await rows()).toEqual([['1', 'greater', 'stored']]);
  });

  if (way !== 'ahead') return;

  test('what needs no look is taken at once, with its commit', async () => {
    await user.script('DELETE FROM bdr.tombstone');
    takenAhead = 0;
    await applied(at(5), [{ kind: 'insert', row: ['1', 'new', 'b'] }]);
    await applied(at(6), [{ kind: 'update', row: ['1', 'newer', UNCHANGED] }]);
    expect(takenAhead).toBe(2);
    expect(await rows()).toEqual([['1', 'newer', 'b']]);
    const [row] = await user.query<{ time: string; origin: string }>(
      `SELECT ${pgTimeSql('(pg_xact_commit_timestamp_origin(xmin)).timestamp')} AS time,
              (pg_xact_commit_timestamp_origin(xmin)).roident AS origin FROM public.item`,
    );
    expect([Number(row?.time), Number(row?.origin)]).toEqual([at(6), origins.provider]);
    const [position] = await user.query<{ lsn: string }>(
      `SELECT pg_replication_origin_progress('provider', false) AS lsn`,
    );
    expect(position?.lsn).toBe('0/1268');
    await applied(at(7), [{ kind: 'delete', old: ['1', null, null] }]);
    expect(takenAhead).toBe(3);
    expect(await rows()).toEqual([]);
    expect(await user.query('SELECT row_key FROM bdr.tombstone')).toEqual([{ row_key: '{1}' }]);
  });

  test('nothing is taken that has to be looked at', async () => {
    await user.script(`
      DELETE FROM bdr.tombstone;
      INSERT INTO bdr.tombstone (relation, key_hash, row_key, committed_at, node_sysid, node_timeline, node_dboid)
      SELECT 'public.item'::regclass, hash_record_extended(ROW('1'::text), 0), '{1}', ${quoteLiteral(formatPgTime(at(5)))},
             '7', 1, ${OTHER.id.dboid}`);
    takenAhead = 0;
    await applied(at(4), [{ kind: 'insert', row: ['1', 'deleted later', 'b'] }]);
    expect(await rows()).toEqual([]);
    await applied(at(4), [{ kind: 'update', row: ['1', 'deleted later', 'b'] }]);
    await applied(at(4), [{ kind: 'delete', old: ['2', null, null] }]);
    expect(await rows()).toEqual([]);
    expect(takenAhead).toBe(0);
    await applied(at(6), [{ kind: 'insert', row: ['1', 'deleted before', 'b'] }]);
    expect(takenAhead).toBe(1);
  });

  test('nor while apply is paused, nor before its time', async () => {
    const context = { xid: 1, commitTime: at(1), commitLsn: 1 as Lsn, seen: new Seen() };
    const insert = [changeOf({ kind: 'insert', row: ['9', 'x', 'b'] })];
    await user.script('UPDATE bdr.bdr_local_node SET apply_paused = true');
    expect(await isTakenAhead(insert, context)).toBe(false);
    await user.script('UPDATE bdr.bdr_local_node SET apply_paused = false');
    const soon = 2_000_000_000_000_000 as PgTime;
    expect(await isTakenAhead(insert, context, soon)).toBe(false);
    expect(await isTakenAhead(insert, context)).toBe(true);
  });
});
