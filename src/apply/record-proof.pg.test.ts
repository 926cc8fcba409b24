import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import {
  commitAs,
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
import { formatPgTime, type PgTime } from '../base/pg-time.ts';
import { install } from '../catalog/install.ts';
import { readSqlFiles } from '../catalog/sql-files.ts';
import { sqlDir } from '../config/paths.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { nodeKey } from '../model/node.ts';
import type { RowChange } from '../pgoutput/transaction.ts';
import { tupleOf, type TupleValue } from '../pgoutput/tuple-value.ts';
import type { Session } from '../postgres/session.ts';
import type { ChangeContext } from './change-context.ts';
import { OWN } from './row-tests.ts';
import { SetWriter } from './set-writer.ts';
import { TableMap } from './table-map.ts';
import type { ChangeWriter } from './writer.ts';
import { Seen } from '../model/seen.ts';

const NOON = 845_000_000_123_456 as PgTime;
const at = (seconds: number) => (NOON + seconds * 1_000_000) as PgTime;

/** What old changes do where a record is gone, or may be false; what the provider answers is stated. */
describe.each(['row by row', 'as sets'])('old changes written %s', (way) => {
  let server: EmbeddedServer;
  let session: Session;
  let user: Session;
  let tables: TableMap;
  let writer: ChangeWriter;
  let sets: SetWriter;
  /** What the provider is asked, and what it says: the origin of its row, none where it has no row. */
  let asked: string[];
  let origin: string | null | undefined;
  let providerApplied: PgTime;
  let recordLimit: PgTime;
  let isSeen: boolean;

  beforeAll(async () => {
    server = await startServer();
    [session, user] = [await openSession(server), await openSession(server)];
    await install(session, readSqlFiles(sqlDir()));
    await session.script(`
      CREATE EXTENSION pg_surgery;
      CREATE TABLE public.item (id text PRIMARY KEY, v text, big text);
      INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid) VALUES ('7', 1, 1)`);
    const origins = await peerOrigins(session);
    tables = new TableMap(session);
    writer = providersWriter(origins, {
      session,
      tables,
      recordLimit: () => recordLimit,
      providerApplied: () => Promise.resolve(providerApplied),
      untilSeen: () => Promise.resolve(isSeen),
      readFromProvider: (_table, sql, params) => {
        expect(sql).toMatch(/^SELECT .*roident::text AS origin FROM ONLY "public"."item"/);
        asked.push(String(params[0]));
        return Promise.resolve(origin === undefined ? [] : [{ origin }]);
      },
    });
    sets = new SetWriter({
      session,
      writer,
      provider: PROVIDER.id,
      providerOrigin: origins.provider,
    });
  });
  afterAll(async () => {
    await session?.close();
    await user?.close();
    await server?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    asked = [];
    [origin, isSeen] = ['0', true];
    recordLimit = at(1000);
    providerApplied = at(100);
    await user.script('TRUNCATE public.item, bdr.bdr_conflict_history, bdr.record_mark');
    await lostUpTo(at(100));
    await mayBeFalse(false);
  });

  /** Lets the server's marks say that rows without a record were written by then. */
  const lostUpTo = (time: PgTime) =>
    user.script(
      `INSERT INTO bdr.record_mark VALUES (${quoteLiteral(formatPgTime(time))}, '9999999', '9999999')`,
    );

  /** Stands for a server whose transaction ids have been used twice. */
  async function mayBeFalse(answer: boolean): Promise<void> {
    await user.script(`
      CREATE OR REPLACE FUNCTION bdr.internal_record_limit(OUT lost_upto timestamptz, OUT may_be_false boolean)
      LANGUAGE sql AS 'SELECT coalesce(min(marked_at), clock_timestamp()), ${answer} FROM bdr.record_mark'`);
  }

  /** A row of the other peer. */
  const written = (time: PgTime) =>
    commitAs(user, 'other', time, `INSERT INTO public.item VALUES ('1', 'local', 'x')`);

  /** A row whose record is gone. */
  async function unrecorded(): Promise<void> {
    await written(at(0));
    await user.script(
      `SELECT heap_force_freeze('public.item', ARRAY(SELECT ctid FROM public.item))`,
    );
  }

  type Sent = ['insert' | 'update' | 'delete', readonly TupleValue[]];

  async function applied(time: PgTime, ...changes: readonly Sent[]): Promise<void> {
    const seen = new Seen(new Map([LOCAL, OTHER].map(({ id }) => [nodeKey(id), at(1000)])));
    const context = { xid: 99, commitTime: time, commitLsn: 4711 as Lsn, seen };
    try {
      await session.transaction(async () => {
        await session.script('SELECT pg_current_xact_id()');
        writer.begin();
        sets.begin();
        for (const sent of changes) await write(sent, context);
        await sets.settle();
        await writer.finish();
      });
    } finally {
      await sets.abandon();
    }
  }

  async function write([kind, row]: Sent, context: ChangeContext): Promise<void> {
    const relation = ITEM;
    const change: RowChange =
      kind === 'insert'
        ? { kind, relation, newTuple: tupleOf(row) }
        : kind === 'update'
          ? { kind, relation, oldTuple: null, oldTupleIsKey: false, newTuple: tupleOf(row) }
          : { kind, relation, oldTuple: tupleOf(row), oldTupleIsKey: true };
    if (way === 'row by row') return writer.write(change, context);
    expect(sets.add(await tables.find(relation), change, context)).toBe(true);
  }

  const UPDATE: Sent = ['update', ['1', 'remote', 'y']];
  const INSERT: Sent = ['insert', ['1', 'remote', 'y']];
  const DELETE: Sent = ['delete', ['1', null, null]];
  const rows = async () =>
    (await user.query<{ v: string }>('SELECT v FROM public.item ORDER BY id')).map(({ v }) => v);

  test('a change that is younger than the records that are gone wins, and nobody is asked', async () => {
    for (const limit of [at(100), at(1000)]) {
      recordLimit = limit;
      await user.script('DELETE FROM public.item');
      await unrecorded();
      await applied(at(101), UPDATE);
      expect([await rows(), asked]).toEqual([['remote'], []]);
    }
  });

  test.each<[string, Sent, string | undefined, string[]]>([
    ['an update stands where the provider’s row is its own', UPDATE, '0', ['remote']],
    ['so does an insert', INSERT, '0', ['remote']],
    ['and a deletion where the provider has no row', DELETE, undefined, []],
    ['or has made one anew', DELETE, '0', []],
    ['an update is superseded where the provider’s row is another node’s', UPDATE, '4', ['local']],
    ['or is gone', UPDATE, undefined, ['local']],
    ['so is an insert', INSERT, undefined, ['local']],
    ['and a deletion where another node has made a row', DELETE, '4', ['local']],
  ])('%s', async (_name, change, answer, left) => {
    origin = answer;
    await unrecorded();
    await applied(at(100), change);
    expect([await rows(), asked]).toEqual([left, ['1']]);
  });

  test('what a row loses to without a record is in the history', async () => {
    origin = '4';
    await unrecorded();
    await applied(at(100), UPDATE);
    const [kept] = await user.query<{ text: string }>(
      `SELECT concat_ws(' ', conflict_resolution, remote_tuple ->> 'v', local_commit_time) AS text FROM bdr.bdr_conflict_history`,
    );
    expect(kept?.text).toBe('last_update_wins_keep_local remote');
  });

  test('without proof nothing is done', async () => {
    await unrecorded();
    const waits = async (text: RegExp) => {
      await expect(applied(at(100), UPDATE)).rejects.toMatchObject({
        code: 'record_lost',
        detail: expect.stringMatching(text) as string,
      });
      expect(await rows()).toEqual(['local']);
    };
    providerApplied = at(99);
    await waits(/has applied its peers' changes up to/);
    providerApplied = at(100);
    origin = null;
    await waits(/Its own record of the row is gone, too/);
    isSeen = false;
    await waits(/does not show that commit yet/);
    // What is superseded does not depend on what the provider has applied.
    [origin, isSeen, providerApplied] = ['4', true, at(0)];
    await applied(at(100), UPDATE);
    expect(await rows()).toEqual(['local']);
  });

  test('a row of the same transaction is known without a record', async () => {
    await applied(at(100), INSERT, ['update', ['1', 'again', 'z']]);
    expect([await rows(), asked]).toEqual([['again'], []]);
  });

  test('a row that was frozen three billion transactions ago is not taken for one of this transaction', async () => {
    const isOwn = (idsAgo: number) =>
      session.transaction(async () => {
        const [row] = await session.query<{ own: string }>(
          `SELECT ${OWN} AS own
           FROM (
               SELECT ((pg_current_xact_id()::text::bigint - ${idsAgo}) & 4294967295)::text::xid AS xmin
           ) AS t`,
        );
        return row?.own;
      });
    expect([await isOwn(0), await isOwn(-1000)]).toEqual(['t', 't']);
    expect([await isOwn(1_000_000_000), await isOwn(3_000_000_000)]).toEqual(['f', 'f']);
  });

  test('a record that a change loses to is believed, unless ids have been used twice', async () => {
    await written(at(200));
    await applied(at(150), UPDATE);
    expect([await rows(), asked]).toEqual([['local'], []]);
    await mayBeFalse(true);
    // One that it wins against is older than it looks, if anything.
    providerApplied = at(200);
    recordLimit = at(149);
    await applied(at(150), UPDATE);
    expect([await rows(), asked]).toEqual([['local'], []]);
    recordLimit = at(150);
    await applied(at(150), UPDATE);
    expect([await rows(), asked]).toEqual([['remote'], ['1']]);
  });

  test('where such a record may be true, the provider must have applied that long', async () => {
    await mayBeFalse(true);
    await written(at(200));
    providerApplied = at(199);
    await expect(applied(at(150), UPDATE)).rejects.toMatchObject({ code: 'record_lost' });
    origin = '4';
    await applied(at(150), UPDATE);
    expect(await rows()).toEqual(['local']);
  });

  test('a TRUNCATE as old as that waits while there are such rows', async () => {
    const truncate = (time: PgTime) =>
      session.transaction(async () => {
        writer.begin();
        const context = { xid: 99, commitTime: time, commitLsn: 4711 as Lsn, seen: new Seen() };
        const change = {
          kind: 'truncate' as const,
          relations: [ITEM],
          cascade: false,
          restartIdentity: false,
        };
        await writer.truncate(change, context);
      });
    await unrecorded();
    await expect(truncate(at(100))).rejects.toMatchObject({ code: 'apply_failed' });
    expect(await rows()).toEqual(['local']);
    await truncate(at(101));
    expect(await rows()).toEqual([]);
    await truncate(at(100));
  });
});
