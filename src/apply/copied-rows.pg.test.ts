import { afterAll, beforeAll, expect, test } from 'vitest';
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
import type { Lsn } from '../base/lsn.ts';
import { quoteLiteral } from '../base/names.ts';
import { formatPgTime, type PgTime } from '../base/pg-time.ts';
import { install } from '../catalog/install.ts';
import { insertRowVersions } from '../catalog/row-versions.ts';
import { readSqlFiles } from '../catalog/sql-files.ts';
import type { Writer } from '../conflict/version.ts';
import { sqlDir } from '../config/paths.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { ensureOrigin } from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';
import { TableMap } from './table-map.ts';
import type { ChangeWriter } from './writer.ts';
import { Seen } from '../model/seen.ts';

const NOON = 845_000_000_123_456 as PgTime;
const at = (micros: number) => (NOON + micros) as PgTime;
const TABLE = { schema: 'public', name: 'pair' };

let server: EmbeddedServer;
let session: Session;
let writer: ChangeWriter;

beforeAll(async () => {
  server = await startServer();
  session = await openSession(server);
  await install(session, readSqlFiles(sqlDir()));
  await session.script(
    'CREATE TABLE public.pair (a integer, "b""c" text, v text, PRIMARY KEY (a, "b""c"))',
  );
  const origins = await peerOrigins(session);
  const copy = await ensureOrigin(session, 'copy');
  writer = providersWriter(origins, {
    session,
    tables: new TableMap(session),
    origins: () => ({ ...originsOfPeers(origins), copies: new Set([copy]) }),
  });
});
afterAll(async () => {
  await session?.close();
  await server?.[Symbol.asyncDispose]();
});

/** Rows as a join's copy of time 100 leaves them, some with true versions. */
async function copied(rows: Readonly<Record<number, readonly [PgTime, Writer] | undefined>>) {
  const keys = Object.keys(rows).map(Number);
  await session.script(`
    SELECT pg_replication_origin_session_setup('copy');
    BEGIN;
    INSERT INTO public.pair SELECT a, 'x', 'copied' FROM unnest(ARRAY[${keys.join(',')}]) AS a;
    SELECT pg_replication_origin_xact_setup('0/0', ${quoteLiteral(formatPgTime(at(100)))});
    COMMIT;
    SELECT pg_replication_origin_xact_reset(), pg_replication_origin_session_reset()`);
  const versions = Object.entries(rows).flatMap(([a, version]) => {
    if (!version) return [];
    const [time, { id: node }] = version;
    return [{ key: JSON.stringify({ a, 'b"c': 'x' }), time, node }];
  });
  await insertRowVersions(session, TABLE, versions);
}

test('a TRUNCATE that is older than a copy takes the copied rows that are older than it', async () => {
  await copied({
    1: undefined,
    2: [at(40), OTHER],
    3: [at(60), OTHER],
    4: [at(60), PROVIDER],
    // At equal times the node's number decides.
    5: [at(50), LOCAL],
    6: [at(50), OTHER],
  });
  const relations = [await describeNamed(session, 'public.pair')];
  const context = { xid: 99, commitTime: at(50), commitLsn: 4711 as Lsn, seen: new Seen() };
  await session.script('BEGIN');
  writer.begin();
  await writer.truncate(
    { kind: 'truncate', relations, cascade: false, restartIdentity: false },
    context,
  );
  await session.script('COMMIT');
  const left = await session.query<{ a: string }>('SELECT a FROM public.pair ORDER BY a');
  expect(left.map(({ a }) => a)).toEqual(['3', '6']);
  // Their long values may be those of rows that it took away elsewhere.
  const noted = await session.query<{ key: string; dboid: string }>(
    `SELECT row_key::text AS key, node_dboid AS dboid FROM bdr.lost_value ORDER BY row_key`,
  );
  expect(noted).toEqual(['{3,x}', '{6,x}'].map((key) => ({ key, dboid: String(OTHER.id.dboid) })));
});
