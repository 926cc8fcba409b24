import { BdrError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { displayName, quoteQualified } from '../base/names.ts';
import { formatPgTime, LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { whileNode } from '../catalog/apply-gate.ts';
import type { JoinProgress } from '../catalog/nodes.ts';
import { prepareRestricted, readRestricted } from '../catalog/restricted.ts';
import { copyIndexBuilds } from '../catalog/index-builds.ts';
import { copyLostValues, readNotedKeys, type NotedKeys } from '../catalog/lost-values.ts';
import { copyLocalColumns } from '../catalog/local-columns.ts';
import { copyRowFilters, copyTableSets } from '../catalog/replication-sets.ts';
import { clearRowVersions, readRowVersions } from '../catalog/row-versions.ts';
import { takeOverSequences } from '../catalog/sequences.ts';
import { copyOriginName, providerOfOrigin } from '../model/link.ts';
import type { NodeId } from '../model/node.ts';
import { markAgentSession } from '../postgres/advisory.ts';
import type { Conninfo, ConninfoValues } from '../postgres/conninfo.ts';
import { serverMajor } from '../postgres/server-facts.ts';
import { ensureOrigin, readOrigins, setUpOrigin, type Origin } from '../postgres/origins.ts';
import { Session } from '../postgres/session.ts';
import { presentCode } from '../postgres/shelved-code.ts';
import { copyPieces } from './copy-pieces.ts';
import type { CopyTable } from './copy-table.ts';
import { CopyProgress } from './copy-progress.ts';
import { forTarget, incompatibilities } from './dump-target.ts';
import type { Environment } from './pg-dump-system.ts';
import { dumpSchema } from './schema-dump.ts';
import { takeSourceSnapshot, type CopyPosition } from './source-snapshot.ts';
import { holdTables } from './hold-tables.ts';
import { ownersOfCode } from './owners-of-code.ts';
import { computedIndexes, SchemaRestore } from './schema-restore.ts';
import { tableReader, type ReadTable } from './read-table.ts';
import { copyStagedRows } from './staged-rows.ts';
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
 * Copies the source's database into an empty one: schema, rows of the tables whose rows the node is sent, sequences, then indexes, constraints and what else belongs after
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
  await prepareOwners(holder);
  const { position, exportId } = await takeSourceSnapshot(
    snapshotSession,
    holder,
    options.sourceNode,
  );

  await onStep('copying the schema');
  const openMarked = async () => {
    const session = await open(options.target, 'restore', RESTORE_SETTINGS);
    // So that a successor ends what a dead agent's copy is still at.
    await markAgentSession(session);
    return session;
  };
  const target = await openMarked();
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
  await refusePresentCode(target);
  const schemas = await target.query<{ name: string }>('SELECT nspname AS name FROM pg_namespace');
  const placeOf = { major: targetMajor, schemas: schemas.map(({ name }) => name) };
  const schema = new SchemaRestore(
    forTarget(dump.preData, placeOf),
    forTarget(dump.postData, placeOf),
  );
  const guard = await open(options.source, 'hold');
  const listed = await listTables(snapshotSession, options.node);
  const tables = await holdTables(guard, snapshotSession, listed);
  await schema.beforeRows(target, await computedIndexes(snapshotSession, tables));
  await target.close();

  await onStep('copying rows');
  await copyTables(options, { exportId, position, snapshotSession, tables, open });
  await guard.close();
  const builder = await openMarked();
  await copySequences(snapshotSession, holder, builder);
  await takeOverSequences(builder);

  await onStep('building indexes and constraints');
  await builder.script(MORE_SORT_MEMORY);
  await schema.afterRows(builder, options);
  await builder.close();
  const finisher = await openMarked();
  await finisher.script(MORE_SORT_MEMORY);
  await schema.fillMaterializedViews(finisher, options);
  await finisher.query('SELECT bdr.internal_sync_publication()');
  await analyze(finisher);
  return position;
}

/** Before the snapshot, which is to show what is made here. */
async function prepareOwners(source: Session): Promise<void> {
  const owners = await source.query<{ oid: string }>(/* sql */ `
    SELECT DISTINCT c.relowner AS oid
    FROM bdr.internal_replicated_tables() AS t
    JOIN pg_class AS c ON c.oid = t
    JOIN pg_roles AS r ON r.oid = c.relowner AND NOT r.rolsuper
  `);
  await prepareRestricted(
    source,
    owners.map(({ oid }) => oid),
  );
}

/** As the join has checked; but anybody may have made some between that and its registration. */
async function refusePresentCode(target: Session): Promise<void> {
  const present = await presentCode(target);
  if (present.length === 0) return;
  throw new BdrError('schema_copy_failed', {
    message: 'this database holds functions or domains of roles that are no superusers',
    detail: present.join('; '),
    hint: 'Drop them; what the group has of them comes with the join. The agent tries again.',
  });
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

async function copyTables(
  options: DatabaseCopyOptions,
  context: {
    exportId: string;
    position: CopyPosition;
    snapshotSession: Session;
    tables: readonly CopyTable[];
    open: OpenSession;
  },
): Promise<void> {
  const { exportId, position, snapshotSession, tables, open } = context;
  // Of what is there before the rows. It stays so: nobody but superusers makes definitions meanwhile.
  const target = await open(options.target, 'copy', RESTORE_SETTINGS);
  const owners = await ownersOfCode(
    target,
    tables.map(({ name }) => name),
  );
  await prepareRestricted(target, owners.values());
  // What an interrupted copy has left. Before any lane begins: one may be through with a table when another begins.
  await clearRowVersions(target);
  await target.close();
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
  const notedKeys = new Map<CopyTable, Promise<NotedKeys | undefined>>();
  const piecesLeft = new Map(tables.map((table) => [table, 0]));
  for (const { table } of queue) piecesLeft.set(table, (piecesLeft.get(table) ?? 0) + 1);
  const failed = new AbortController();
  const signal = AbortSignal.any([options.signal, failed.signal]);
  const lane = async (number: number) => {
    const from = await open(options.source, 'copy');
    await from.script(
      `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '${exportId}'`,
    );
    const read = tableReader(from, () => open(options.source, 'copy'), exportId);
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
    if (number === 1) {
      await copyGroup(from, read, stamped, into, options, writerOfOrigin);
      await copyLostValues(from, into);
      await copyIndexBuilds(from, into);
      await copyTableSets(from, into);
      await copyRowFilters(from, into);
      await copyLocalColumns(from, into);
    }
    for (let next = queue.shift(); next && !signal.aborted; next = queue.shift()) {
      const piece = next;
      await stamped(async () => {
        const owner = owners.get(displayName(piece.table.name));
        const passing = { onBytes: (bytes: number) => progress.moved(bytes), signal };
        const rows =
          owner === undefined
            ? await copyRows(from, into, piece, passing)
            : await copyStagedRows(from, into, piece, owner, passing);
        const { table } = piece;
        // The same for all pieces of a table.
        const noted = notedKeys.get(table) ?? readNotedKeys(from, table.name, table.key);
        notedKeys.set(table, noted);
        await copyRowVersions(
          read,
          into,
          piece,
          options.watermark,
          await noted,
          writerOfOrigin,
          () => readRowVersions(from, table.name, LONG_AGO),
        );
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
  read: ReadTable,
  stamped: (work: () => Promise<void>) => Promise<void>,
  into: Session,
  { node, watermark, signal }: DatabaseCopyOptions,
  writerOfOrigin: (origin: number) => NodeId | undefined,
): Promise<void> {
  const groupTable = async (name: string, key: RegExp): Promise<CopyTable> => {
    const columns = await from.query<{ name: string }>(
      /* sql */ `
        SELECT attname AS name FROM pg_attribute
        WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
      `,
      [`bdr.${name}`],
    );
    const names = columns.map((column) => column.name);
    return {
      name: { schema: 'bdr', name },
      columns: names,
      key: names.filter((column) => key.test(column)),
      format: 'text',
      filter: undefined,
      rows: 0,
      bytes: 0,
      blocks: 0,
      isReadWhole: false,
    };
  };
  const others = (prefix: string) =>
    `NOT (${prefix}sysid = '${BigInt(node.sysid)}' AND ${prefix}timeline = ${node.timeline} AND ${prefix}dboid = ${node.dboid})`;
  await stamped(async () => {
    const nodeId = /_(sysid|timeline|dboid)$/;
    for (const [name, where, key] of [
      ['bdr_nodes', others('node_'), nodeId],
      ['bdr_connections', others('conn_'), nodeId],
      ['conflict_policy', 'true', /^(schema|table)_name$/],
      ['bdr_conflict_handlers', 'true', /^ch_(schema|table|name)$/],
      ['bdr_global_locks', 'true', /^(owning|acquired)_(sysid|timeline|datid)$/],
      ['sequence_kind', 'true', /^(schema|sequence)_name$/],
      ['bdr_replication_set_config', 'true', /^set_name$/],
      ['parted_position', 'true', /^(node|at)_(sysid|timeline|dboid)$/],
    ] as const) {
      const table = await groupTable(name, key);
      await into.run(`DELETE FROM ${quoteQualified(table.name)} WHERE ${where}`);
      await copyRows(from, into, { table, where }, { onBytes: () => undefined, signal });
      const versionsThere = () => readRowVersions(from, table.name, LONG_AGO);
      await copyRowVersions(
        read,
        into,
        { table },
        watermark,
        undefined,
        writerOfOrigin,
        versionsThere,
      );
    }
  });
}

/**
 * Sequences are not replicated: the new node begins where the source stood. A sequence that has given out no value yet is read with
 * its owner's rights, by `reader`: by now something else of his may have that name.
 */
async function copySequences(source: Session, reader: Session, target: Session): Promise<void> {
  const rows = await source.query<{ schema: string; name: string; last: string | null }>(/* sql */ `
    SELECT n.nspname AS schema, c.relname AS name, pg_sequence_last_value(c.oid) AS last
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind = 'S' AND c.relpersistence = 'p'
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'bdr', 'bdr_guard')
      AND NOT EXISTS (
          SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
      )
  `);
  for (const row of rows) {
    const name = quoteQualified(row);
    const first =
      row.last ?? (await readRestricted(reader, row, `SELECT last_value::text FROM ${name}`));
    await target.query('SELECT setval($1::regclass, $2, $3)', [
      name,
      first ?? null,
      row.last !== null,
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
