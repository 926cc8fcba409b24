import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openNewDatabase, openSession } from '../../test/support/agents.ts';
import {
  describeNamed,
  originsOfPeers,
  peerOrigins,
  PROVIDER,
  providersWriter,
} from '../../test/support/apply-writers.ts';
import { startServer } from '../../test/support/servers.ts';
import { BdrError } from '../base/errors.ts';
import type { Lsn } from '../base/lsn.ts';
import { formatPgTime, LONG_AGO, pgTimeSql, type PgTime } from '../base/pg-time.ts';
import { copyLostValues } from '../catalog/lost-values.ts';
import { install } from '../catalog/install.ts';
import { readSqlFiles } from '../catalog/sql-files.ts';
import { sqlDir } from '../config/paths.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Relation } from '../pgoutput/transaction.ts';
import { tupleOf } from '../pgoutput/tuple-value.ts';
import { ensureOrigin, originProgress, setUpOrigin } from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';
import { LostValues } from './lost-values.ts';
import { OwnBatch } from './own-batch.ts';
import { OwnWriter } from './own-writer.ts';
import { TableMap } from './table-map.ts';
import type { ChangeWriter } from './writer.ts';
import { Seen } from '../model/seen.ts';
import type { OriginMap } from './writers.ts';

const NOON = 845_000_000_000_000 as PgTime;
const at = (micros: number) => (NOON + micros) as PgTime;

let server: EmbeddedServer;
/** Writes as OTHER, or as this node's own users. */
let user: Session;
/** Applies what PROVIDER sends. */
let session: Session;
let origins: OriginMap;
let writer: ChangeWriter;
let lost: LostValues;
let item: Relation;
/** What PROVIDER has by now under each key, and how often it was asked. */
let provider: Map<string, string>;
let asked: number;
/** It has no such table any more. */
let isGone: boolean;
/** Everything that others committed up to then is applied, here and there. */
let groupLimit: PgTime;
let providerApplied: PgTime;

beforeAll(async () => {
  server = await startServer();
  user = await openSession(server);
  session = await openSession(server, 'postgres', { settings: { lock_timeout: '50ms' } });
  await install(user, readSqlFiles(sqlDir()));
  await user.script(`
    CREATE EXTENSION pg_surgery;
    CREATE TABLE public.item (b text, a numeric, v text, big text, n integer, PRIMARY KEY (b, a));
    CREATE TABLE public.short (id integer PRIMARY KEY, n integer);
    CREATE TEMPORARY TABLE item (LIKE public.item);
    INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid) VALUES ('7', 1, 1)`);
  const peers = await peerOrigins(user);
  const copy = await ensureOrigin(user, 'copy');
  origins = { ...originsOfPeers(peers), copies: new Set([copy]) };
  await setUpOrigin(session, 'provider');
  await setUpOrigin(user, 'other');
  const tables = new TableMap(session);
  writer = providersWriter(peers, { session, tables });
  lost = new LostValues({
    session,
    tables,
    statements: writer.statements,
    provider: PROVIDER.id,
    origins: () => origins,
    groupLimit: () => groupLimit,
    providerApplied: async () => providerApplied,
    read: async (_table, sql, params) => {
      asked += 1;
      if (isGone) throw new BdrError('apply_failed', { message: 'no table', sqlstate: '42P01' });
      // There the table holds what the map says.
      await user.script('TRUNCATE pg_temp.item');
      for (const [key, big] of provider) {
        await user.query(`INSERT INTO pg_temp.item VALUES ($1, 1, 'v', $2, 1)`, [key, big]);
      }
      return user.query(sql.replace(/"?public"?\."?item"?/, 'pg_temp.item'), params);
    },
  });
  item = await describeNamed(user, 'public.item');
});
afterAll(async () => {
  await session?.close();
  await user?.close();
  await server?.[Symbol.asyncDispose]();
});
beforeEach(async () => {
  provider = new Map();
  asked = 0;
  isGone = false;
  [groupLimit, providerApplied] = [at(1000), at(1000)];
  await user.script('TRUNCATE public.item, public.short, bdr.lost_value, bdr.tombstone');
});

/** Runs a statement as a commit of a node, of a time. */
async function as(node: 'provider' | 'other', time: PgTime, sql: string): Promise<void> {
  const by = node === 'provider' ? session : user;
  await by.script(
    `BEGIN; ${sql}; SELECT pg_replication_origin_xact_setup('0/0', '${formatPgTime(time)}'); COMMIT`,
  );
}
const row = (key: string, big = 'kept') =>
  `INSERT INTO public.item VALUES ('${key}', 1, 'v', '${big}', 1)`;

/** An update of PROVIDER, in the slow way. */
async function change(key: string, time: PgTime): Promise<void> {
  await session.script('BEGIN');
  writer.begin();
  const context = { xid: 9, commitTime: time, commitLsn: 1 as Lsn, seen: new Seen() };
  await writer.write(
    {
      kind: 'update',
      relation: item,
      oldTuple: null,
      oldTupleIsKey: false,
      newTuple: tupleOf([key, '1', 'new', 'new', '2']),
    },
    context,
  );
  await session.script('COMMIT');
}

const noted = async () =>
  (
    await user.query<{ note: string }>(
      `SELECT concat_ws(' ', relation::regclass, row_key, node_dboid) AS note FROM bdr.lost_value ORDER BY 1`,
    )
  ).map(({ note }) => note);
const note = (key: string) =>
  user.query(
    `INSERT INTO bdr.lost_value SELECT 'public.item'::regclass, ARRAY['1', $1], 0, '7', 1, 2`,
    [key],
  );
const rows = () =>
  user.query(`
    SELECT b, big, ${pgTimeSql('pg_xact_commit_timestamp(i.xmin)')} - ${NOON} AS time, roname AS origin
    FROM public.item AS i
    LEFT JOIN pg_replication_origin ON roident = (pg_xact_commit_timestamp_origin(i.xmin)).roident
    ORDER BY b`);

describe('a change that loses', () => {
  test('to a row of a third node is noted, once; to a row of this node it is not', async () => {
    await as('other', at(100), `${row('x')}; ${row('y')}`);
    await change('x', at(50));
    await change('x', at(60));
    expect(await noted()).toEqual(['public.item {1,x} 3']);
    await change('y', at(150));
    expect(await noted()).toHaveLength(1);
    await using local = await openSession(server);
    await local.script(row('z'));
    await change('z', at(50));
    expect(await noted()).toHaveLength(1);
  });

  test('in a table without long values is not noted', async () => {
    const short = await describeNamed(user, 'public.short');
    await as('other', at(100), `INSERT INTO public.short VALUES (1, 1)`);
    await session.script('BEGIN');
    writer.begin();
    await writer.write(
      { kind: 'insert', relation: short, newTuple: tupleOf(['1', '2']) },
      { xid: 9, commitTime: at(50), commitLsn: 1 as Lsn, seen: new Seen() },
    );
    await session.script('COMMIT');
    expect(await noted()).toEqual([]);
  });

  test('is noted where it is a TRUNCATE, too, of rows that it leaves', async () => {
    await as('other', at(100), row('x'));
    await as('provider', at(200), row('y'));
    await session.script('BEGIN');
    writer.begin();
    await writer.truncate(
      { kind: 'truncate', relations: [item], cascade: false, restartIdentity: false },
      { xid: 9, commitTime: at(50), commitLsn: 1 as Lsn, seen: new Seen() },
    );
    await session.script('COMMIT');
    expect(await noted()).toEqual(['public.item {1,x} 3']);
  });

  test.each(['delete', 'truncate'] as const)(
    'is noted where it is a %s of this node’s own users that came to be known late',
    async (kind) => {
      await as('other', at(100), row('x'));
      await using own = await openSession(server);
      await own.query(
        `SELECT pg_replication_origin_create('own') WHERE pg_replication_origin_oid('own') IS NULL`,
      );
      await setUpOrigin(own, 'own');
      const ownWriter = new OwnWriter({
        session: own,
        origins: () => origins,
        random: Math.random,
        signal: new AbortController().signal,
        peersLimit: () => LONG_AGO,
        history: { isKept: true, withRows: true },
      });
      const batch = new OwnBatch();
      batch.add(
        kind === 'delete'
          ? {
              kind,
              relation: item,
              oldTuple: tupleOf(['x', '1', null, null, null]),
              oldTupleIsKey: true,
            }
          : { kind, relations: [item], cascade: false, restartIdentity: false },
        at(50),
      );
      await ownWriter.write(batch, undefined);
      expect(await noted()).toEqual(['public.item {1,x} 3']);
      expect(await rows()).toHaveLength(1);
    },
  );
});

describe('a row that is noted', () => {
  test('gets the long values that its writer has, and stays what it is otherwise', async () => {
    await as('provider', at(100), `${row('x')}; ${row('y')}`);
    await as('provider', at(300), row('z'));
    for (const key of ['x', 'x', 'z']) await note(key);
    provider.set('x', 'read').set('z', 'read, too');
    const before = await originProgress(user, 'provider', false);
    await lost.settle(at(300));
    expect(await noted()).toEqual([]);
    expect(await rows()).toEqual([
      { b: 'x', big: 'read', time: '100', origin: 'provider' },
      { b: 'y', big: 'kept', time: '100', origin: 'provider' },
      { b: 'z', big: 'read, too', time: '300', origin: 'provider' },
    ]);
    expect(await originProgress(user, 'provider', false)).toBe(before);
    expect(asked).toBe(1);
  });

  test('is left for later while its writer may not show it yet', async () => {
    await as('provider', at(100), row('x'));
    await as('provider', at(50), row('y'));
    for (const key of ['x', 'y']) await note(key);
    provider.set('x', 'older').set('y', 'read');
    await lost.settle(at(99));
    expect(await noted()).toEqual(['public.item {1,x} 2']);
    expect(await rows()).toMatchObject([{ big: 'kept' }, { big: 'read' }]);
  });

  test('is left alone where another node has written it since, or its writer has none, or there is none here', async () => {
    await as('other', at(100), row('x'));
    await as('provider', at(100), row('y'));
    for (const key of ['x', 'y', 'z']) await note(key);
    provider.set('x', 'read').set('z', 'read');
    await lost.settle(at(1000));
    expect(await noted()).toEqual([]);
    expect(await rows()).toMatchObject([
      { b: 'x', big: 'kept' },
      { b: 'y', big: 'kept' },
    ]);
  });

  // It was given the time -infinity, which no statement could read again.
  test('is left alone where nobody knows who wrote it', async () => {
    await user.script('SELECT pg_replication_origin_session_reset()');
    await user.script(`SELECT pg_replication_origin_session_setup('copy')`);
    await as('other', at(100), row('x'));
    await user.script('SELECT pg_replication_origin_session_reset()');
    await user.script(`SELECT pg_replication_origin_session_setup('other')`);
    await note('x');
    provider.set('x', 'read');
    await lost.settle(at(1000));
    expect(await noted()).toEqual([]);
    expect(await rows()).toEqual([{ b: 'x', big: 'kept', time: '100', origin: 'copy' }]);
  });

  test('is read where its commit record is gone, once all nodes’ changes that are no later are applied here and there', async () => {
    await user.script(`
      CREATE OR REPLACE FUNCTION bdr.internal_record_limit(OUT lost_upto timestamptz, OUT may_be_false boolean)
      LANGUAGE sql AS $$ SELECT '${formatPgTime(at(500))}'::timestamptz, false $$`);
    await as('provider', at(100), row('x'));
    await user.script(
      `SELECT heap_force_freeze('public.item', ARRAY(SELECT ctid FROM public.item))`,
    );
    await note('x');
    provider.set('x', 'read');
    const stays = async (upTo: PgTime) => {
      await lost.settle(upTo);
      expect(await noted()).toEqual(['public.item {1,x} 2']);
      expect(await rows()).toMatchObject([{ big: 'kept', time: null }]);
    };
    providerApplied = at(499);
    // With the first one it is not yet known that it has to be asked for.
    for (let times = 0; times < 2; times++) await stays(at(1000));
    [providerApplied, groupLimit] = [at(1000), at(499)];
    await stays(at(1000));
    groupLimit = at(1000);
    await stays(at(499));
    await lost.settle(at(500));
    expect(await noted()).toEqual([]);
    expect(await rows()).toEqual([{ b: 'x', big: 'read', time: '500', origin: 'provider' }]);
  });

  test('is forgotten where its writer has no such table or column any more', async () => {
    await as('provider', at(100), row('x'));
    await note('x');
    isGone = true;
    await lost.settle(at(1000));
    expect(await noted()).toEqual([]);
    await note('x');
    isGone = false;
    await user.script('ALTER TABLE pg_temp.item RENAME big TO other');
    await lost.settle(at(1000));
    await user.script('ALTER TABLE pg_temp.item RENAME other TO big');
    expect(await noted()).toEqual([]);
    expect(await rows()).toMatchObject([{ big: 'kept' }]);
  });

  test('is tried again where a user holds it, and forgotten with its table', async () => {
    await as('provider', at(100), row('x'));
    await note('x');
    provider.set('x', 'read');
    await using holder = await openSession(server);
    await holder.script('BEGIN; SELECT FROM public.item FOR UPDATE');
    await lost.settle(at(1000));
    expect(await noted()).toHaveLength(1);
    await holder.script('ROLLBACK');
    await lost.settle(at(1000));
    expect(await noted()).toEqual([]);
    expect(await rows()).toMatchObject([{ big: 'read' }]);
    await user.query(`INSERT INTO bdr.lost_value VALUES (99, '{1}', 0, '7', 1, 2)`);
    await lost.settle(at(1000));
    expect(await user.query('SELECT FROM bdr.lost_value')).toEqual([]);
  });
});

test('a node that joins takes over what is noted, by the names of its tables', async () => {
  await note('it is "a" key, {too}');
  await using joining = await openNewDatabase(server, 'joining');
  await joining.script('CREATE TABLE public.other (); CREATE TABLE public.item (id text)');
  await copyLostValues(user, joining);
  const all = (of: Session) =>
    of.query(`
      SELECT relation::regclass::text, row_key, key_hash = hashtextextended(row_key::text, 0) AS hashed, node_dboid
      FROM bdr.lost_value`);
  const here = await all(user);
  expect(here).toHaveLength(1);
  expect(await all(joining)).toEqual(here.map((one) => ({ ...one, hashed: 't' })));
});
