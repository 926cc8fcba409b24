import { BdrError, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { quoteQualified } from '../base/names.ts';
import { formatPgTime, type PgTime } from '../base/pg-time.ts';
import { whileNode } from '../catalog/apply-gate.ts';
import type { JoinProgress } from '../catalog/nodes.ts';
import { clearRowVersions } from '../catalog/row-versions.ts';
import { copyOriginName, providerOfOrigin } from '../model/link.ts';
import type { NodeId } from '../model/node.ts';
import { markAgentSession } from '../postgres/advisory.ts';
import type { Conninfo, ConninfoValues } from '../postgres/conninfo.ts';
import { serverMajor } from '../postgres/server-facts.ts';
import { ensureOrigin, readOrigins, setUpOrigin, type Origin } from '../postgres/origins.ts';
import { Session } from '../postgres/session.ts';
import { sqlstateOf } from '../postgres/sqlstate.ts';
import { copyPieces } from './copy-pieces.ts';
import type { CopyTable } from './copy-table.ts';
import { CopyProgress } from './copy-progress.ts';
import type { DumpEntry } from './dump-archive.ts';
import { forTarget, incompatibilities } from './dump-target.ts';
import type { Environment } from './pg-dump-system.ts';
import { dumpSchema } from './schema-dump.ts';
import { takeSourceSnapshot, type CopyPosition } from './source-snapshot.ts';
import { copyRows, copyRowVersions, listTables } from './table-copy.ts';

export type { CopyPosition } from './source-snapshot.ts';
export { objectsBefore, wipeDatabase, type Before } from './wipe.ts';

export interface DatabaseCopyOptions {
  readonly source: Conninfo;
  /** The source's connection parameters, for the system's pg_dump. */
  readonly sourceParameters: ConninfoValues;
  readonly target: Conninfo;
  /** The node that is being filled, and the one it is filled from. */
  readonly node: NodeId;
  readonly sourceNode: NodeId;
  /** Everything committed up to here, on any node, is in the copy: only later rows need their true version. */
  readonly watermark: PgTime;
  readonly environment: Environment;
  readonly signal: AbortSignal;
  readonly log: Logger;
  readonly now: () => number;
  readonly onStep: (step: string) => Promise<void>;
  readonly onProgress: (progress: JoinProgress) => Promise<void>;
}

type OpenSession = (
  conninfo: Conninfo,
  purpose: string,
  settings?: Readonly<Record<string, string>>,
) => Promise<Session>;

/** The sessions of one copy, all closed at its end. */
class SessionSet implements AsyncDisposable {
  readonly #signal: AbortSignal;
  readonly #open: Session[] = [];

  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  async open(
    conninfo: Conninfo,
    purpose: string,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<Session> {
    const session = await Session.connect(conninfo, {
      applicationName: `bdr:${purpose}`,
      signal: this.#signal,
      settings,
    });
    this.#open.push(session);
    session.abortOn(this.#signal);
    return session;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#open.map((session) => session.close()));
  }
}

/** Tables are copied by so many pairs of sessions at once. */
export const COPY_LANES = 2;

/**
 * Copies the source's database into an empty one: schema, rows, sequences, then indexes, constraints and what else belongs after
 * the rows. Returns where the copy stands, for the links to begin there.
 *
 * The rows are committed under origins of their own: no peer gets them from here, and their version, the stamp, is at or above
 * the true version of each.
 */
export async function copyDatabase(options: DatabaseCopyOptions): Promise<CopyPosition> {
  const { signal, onStep, log } = options;
  await using sessions = new SessionSet(signal);
  const open: OpenSession = (conninfo, purpose, settings) =>
    sessions.open(conninfo, purpose, settings);

  await onStep('taking a snapshot');
  const holder = await open(options.source, 'hold');
  const snapshotSession = await open(options.source, 'snapshot');
  const { position, exportId } = await takeSourceSnapshot(
    snapshotSession,
    holder,
    options.sourceNode,
  );

  await onStep('copying the schema');
  const target = await open(options.target, 'restore', RESTORE_SETTINGS);
  // So that a successor ends what a dead agent's copy is still at.
  await markAgentSession(target);
  const dump = await dumpSchema({
    serverMajor: await serverMajor(holder),
    connection: options.sourceParameters as Record<string, string>,
    connect: async (dumpSignal) => {
      const session = await Session.connect(options.source, {
        applicationName: 'bdr:pg_dump',
        ...(dumpSignal ? { signal: dumpSignal } : {}),
      });
      return session.detachWithGreeting();
    },
    environment: options.environment,
    snapshot: exportId,
    signal,
  });
  log.info(
    {
      via: dump.via,
      version: dump.pgDumpVersion,
      entries: dump.preData.length + dump.postData.length,
    },
    'schema is dumped',
  );
  const targetMajor = await serverMajor(target);
  const reasons = incompatibilities([...dump.preData, ...dump.postData], targetMajor);
  if (reasons.length > 0) {
    throw new BdrError('target_not_suitable', {
      message: `the group's schema needs a newer PostgreSQL than ${targetMajor}`,
      detail: reasons.slice(0, 10).join('; '),
      hint: 'Give this join up: part the node on a member, SELECT bdr.remove_bdr_from_local_node() here, and join from a server of the same or a newer major.',
    });
  }
  const schemas = await target.query<{ name: string }>('SELECT nspname AS name FROM pg_namespace');
  const placeOf = { major: targetMajor, schemas: schemas.map(({ name }) => name) };
  await target.transaction(async () => {
    for (const entry of forTarget(dump.preData, placeOf)) await restore(target, entry);
  });

  await onStep('copying rows');
  await copyTables(options, { exportId, position, snapshotSession, open });
  await copySequences(snapshotSession, target);

  await onStep('building indexes and constraints');
  await target.script(MORE_SORT_MEMORY);
  await restorePostData(target, forTarget(dump.postData, placeOf), options);
  await resetSettings(target);
  await target.query('SELECT bdr.internal_sync_publication()');
  await analyze(target);
  return position;
}

/** Before the node is ready, because plans need it at once. The server's own catalogs can wait for autovacuum. */
async function analyze(target: Session): Promise<void> {
  const tables = await target.query<{ schema: string; name: string }>(/* sql */ `
    SELECT n.nspname AS schema, c.relname AS name
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    ORDER BY 1, 2
  `);
  await target.script(`ANALYZE ${tables.map(quoteQualified).join(', ')}`);
}

const RESTORE_SETTINGS: Readonly<Record<string, string>> = {
  session_replication_role: 'replica',
  check_function_bodies: 'off',
  synchronous_commit: 'off',
};

/**
 * One index is built at a time, and this session ends with the copy: so it may sort more in memory than a server grants to all
 * who might run VACUUM. With the default of 64 MB an index on some millions of rows is sorted by way of files.
 */
const MORE_SORT_MEMORY = /* sql */ `
  SELECT set_config('maintenance_work_mem', '256MB', false)
  WHERE pg_size_bytes(current_setting('maintenance_work_mem')) < pg_size_bytes('256MB')
`;

async function restore(target: Session, entry: DumpEntry): Promise<void> {
  try {
    await target.script(entry.sql);
  } catch (error) {
    if (target.lost.aborted) throw error;
    throw new BdrError('schema_copy_failed', {
      message: `could not restore ${entry.type} ${entry.schema ? `${entry.schema}.` : ''}${entry.name}: ${messageOf(error)}`,
      detail: detailOf(error),
      hint: 'Extensions, collations and the like must be available on this server as on the source. The agent tries again.',
      sqlstate: sqlstateOf(error),
      cause: error,
    });
  }
}

async function restorePostData(
  target: Session,
  entries: readonly DumpEntry[],
  { onProgress, now }: DatabaseCopyOptions,
): Promise<void> {
  let toldAt = now();
  for (const [index, entry] of entries.entries()) {
    await restore(target, entry);
    if (now() - toldAt < 1000) continue;
    toldAt = now();
    const percent = Math.floor(((index + 1) / entries.length) * 100);
    await onProgress({
      text: `${index + 1} of ${entries.length}, ${entry.type} ${entry.name}`,
      percent,
    });
  }
}

/** A dump sets things for its own session, an empty search_path among them. */
async function resetSettings(target: Session): Promise<void> {
  await target.script(`SET search_path = ''; SET row_security = on`);
}

async function copyTables(
  options: DatabaseCopyOptions,
  context: {
    exportId: string;
    position: CopyPosition;
    snapshotSession: Session;
    open: OpenSession;
  },
): Promise<void> {
  const { exportId, position, snapshotSession, open } = context;
  const tables = await listTables(snapshotSession);
  const progress = new CopyProgress({
    totalBytes: tables.reduce((sum, table) => sum + table.bytes, 0),
    tables: tables.length,
    tell: options.onProgress,
    now: options.now,
  });
  const origins = await readOrigins(snapshotSession);
  const writerOfOrigin = (origin: number) =>
    origin === 0 ? options.sourceNode : providerByNumber(origins, origin, options.sourceNode.dboid);
  const queue = copyPieces(tables);
  const piecesLeft = new Map(tables.map((table) => [table, 0]));
  for (const { table } of queue) piecesLeft.set(table, (piecesLeft.get(table) ?? 0) + 1);
  const failed = new AbortController();
  const signal = AbortSignal.any([options.signal, failed.signal]);
  const lane = async (number: number) => {
    const from = await open(options.source, 'copy');
    await from.script(
      `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '${exportId}'`,
    );
    const into = await open(options.target, 'copy', RESTORE_SETTINGS);
    await markAgentSession(into);
    const name = copyOriginName(options.node, number);
    await whileNode(into, async () => {
      await ensureOrigin(into, name);
      await setUpOrigin(into, name);
    });
    const stamped = (work: () => Promise<void>) =>
      into.transaction(async () => {
        // Position 0/0 stamps what is written without moving the origin.
        await into.query(`SELECT pg_replication_origin_xact_setup('0/0', $1::timestamptz)`, [
          formatPgTime(position.takenAt),
        ]);
        await work();
      });
    if (number === 1) await copyGroup(from, stamped, into, options, writerOfOrigin);
    for (let next = queue.shift(); next && !signal.aborted; next = queue.shift()) {
      const piece = next;
      await stamped(async () => {
        const rows = await copyRows(from, into, piece, {
          onBytes: (bytes) => progress.moved(bytes),
          signal,
        });
        await copyRowVersions(from, into, piece, options.watermark, writerOfOrigin);
        const left = (piecesLeft.get(piece.table) ?? 0) - 1;
        piecesLeft.set(piece.table, left);
        progress.rowsDone(rows, left === 0);
      });
    }
  };
  const results = await Promise.allSettled(
    Array.from({ length: COPY_LANES }, async (_, index) => {
      try {
        await lane(index + 1);
      } catch (error) {
        failed.abort(error);
        throw error;
      }
    }),
  );
  options.signal.throwIfAborted();
  const failure = results.find((result) => result.status === 'rejected');
  if (failure) throw failed.signal.reason as Error;
  await progress.finish();
}

/** Copies what the source knows of the group: all but this node's own rows, which are ahead here. */
async function copyGroup(
  from: Session,
  stamped: (work: () => Promise<void>) => Promise<void>,
  into: Session,
  { node, watermark, signal }: DatabaseCopyOptions,
  writerOfOrigin: (origin: number) => NodeId | undefined,
): Promise<void> {
  const groupTable = async (name: string, prefix: string): Promise<[CopyTable, string]> => {
    const columns = await from.query<{ name: string }>(
      /* sql */ `
        SELECT attname AS name FROM pg_attribute
        WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
      `,
      [`bdr.${name}`],
    );
    const names = columns.map((column) => column.name);
    const key = names.filter((column) => /_(sysid|timeline|dboid)$/.test(column));
    const others = `NOT (${prefix}sysid = '${BigInt(node.sysid)}' AND ${prefix}timeline = ${node.timeline} AND ${prefix}dboid = ${node.dboid})`;
    const table: CopyTable = {
      name: { schema: 'bdr', name },
      columns: names,
      key,
      format: 'text',
      rows: 0,
      bytes: 0,
      blocks: 0,
    };
    return [table, others];
  };
  await stamped(async () => {
    await clearRowVersions(into);
    for (const [name, prefix] of [
      ['bdr_nodes', 'node_'],
      ['bdr_connections', 'conn_'],
    ] as const) {
      const [table, others] = await groupTable(name, prefix);
      await into.run(`DELETE FROM ${quoteQualified(table.name)} WHERE ${others}`);
      await copyRows(from, into, { table, where: others }, { onBytes: () => undefined, signal });
      await copyRowVersions(from, into, { table }, watermark, writerOfOrigin);
    }
  });
}

/** Sequences are not replicated: the new node begins where the source stood. */
async function copySequences(source: Session, target: Session): Promise<void> {
  const rows = await source.query<{ schema: string; name: string }>(/* sql */ `
    SELECT n.nspname AS schema, c.relname AS name
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind = 'S' AND c.relpersistence = 'p'
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'bdr', 'bdr_guard')
      AND NOT EXISTS (
          SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
      )
  `);
  for (const row of rows) {
    const name = quoteQualified(row);
    const [value] = await source.query<{ last: string; called: string }>(
      `SELECT last_value AS last, is_called AS called FROM ${name}`,
    );
    await target.query('SELECT setval($1::regclass, $2, $3)', [
      name,
      value?.last ?? null,
      value?.called === 't',
    ]);
  }
}

function providerByNumber(
  origins: readonly Origin[],
  origin: number,
  dboid: number,
): NodeId | undefined {
  const found = origins.find(({ number }) => number === origin);
  return found && providerOfOrigin(found.name, dboid);
}

function detailOf(error: unknown): string | undefined {
  const detail =
    error instanceof Error ? (error as unknown as { detail?: unknown }).detail : undefined;
  return typeof detail === 'string' ? detail : undefined;
}
