import { quoteLiteral } from '../base/names.ts';
import { formatPgTime, pgTimeSql, type PgTime } from '../base/pg-time.ts';
import type { NodeId } from '../model/node.ts';
import type { LocalColumn } from '../postgres/relation-info.ts';
import type { Param, Session } from '../postgres/session.ts';
import { lookAgain } from './ahead.ts';
import { POLICY_TABLES } from './conflict-policies.ts';

/**
 * SQL on bdr.tombstone (DESIGN 4.4), as text: pure. The statements take keys as values and never name a user's table, only the
 * types of its key: what is done to the user's rows is done by statements of their own (src/apply/statements.ts), and which of
 * two versions is the greater is decided in src/conflict.
 *
 * A key is given as one parameter for each of its columns, in the order of `columns`: an array of text, all of one length.
 * Values are compared as their types compare them, so that two spellings of a key (numeric 1.0 and 1.00) are one key.
 */
export interface TombstoneTable {
  /** The OID of the local table. */
  readonly oid: string;
  /** The columns of the key, in the order of the parameters; none where only a TRUNCATE can be remembered. */
  readonly columns: readonly LocalColumn[];
}

/** A tombstone's version, without the writer's number, which may have become known since it was written. */
export interface TombstoneVersion {
  readonly time: PgTime;
  readonly node: NodeId;
}

/**
 * Remembers deletions of one writer. Parameters: oid, the writer's sysid, timeline, dboid, then the commit times as timestamptz[],
 * then the keys. Nothing is overwritten: the greatest row of a key is its tombstone.
 */
export function addTombstonesSql({ columns }: TombstoneTable): string {
  const row = stored(columns).map((index) => `k.c${index}`);
  return (
    `INSERT INTO bdr.tombstone (relation, node_sysid, node_timeline, node_dboid, committed_at, key_hash, row_key)` +
    ` SELECT $1::oid, $2, $3::oid, $4::oid, k.at, ${hash(columns)}, ARRAY[${row.join(', ')}]` +
    ` FROM ${given(columns, 5)}`
  );
}

/**
 * Notes keys in bdr.late_deletion. Parameters: oid, the heartbeat's id, times that count for nothing, then the keys. Rows of a table
 * without a key have an empty one. Returns their numbers.
 */
export function noteLateSql({ columns }: TombstoneTable): string {
  const row = stored(columns).map((index) => `k.c${index}`);
  return (
    `INSERT INTO bdr.late_deletion (relation, heartbeat_xid, key_hash, row_key)` +
    ` SELECT $1::oid, $2::xid8, ${hash(columns)}, ARRAY[${row.join(', ')}]::text[]` +
    ` FROM ${given(columns, 3)} RETURNING late_id AS id`
  );
}

/** Remembers that a table was truncated. Parameters: oid, the writer's sysid, timeline, dboid, the commit time. */
export const addTableTombstoneSql = /* sql */ `
  INSERT INTO bdr.tombstone (relation, node_sysid, node_timeline, node_dboid, committed_at)
  VALUES ($1::oid, $2, $3::oid, $4::oid, $5::timestamptz)
`;

/** Whether anything of a table is remembered: one look at an index. Parameter: oid. */
export const anyTombstoneSql = /* sql */ `
  SELECT EXISTS (SELECT FROM bdr.tombstone WHERE relation = $1::oid) AS any
`;

/**
 * Which keys have a tombstone of another writer that may be greater than a given time: at it or later, of the key or of the table.
 * Parameters as for `addTombstonesSql`; the writer and the times are those of the rows that are held against the tombstones.
 * Returns positions in the arrays, from 1. At equal times the writers' order decides, which is not looked at here.
 */
export function contestedSql({ columns }: TombstoneTable): string {
  const others = `(x.node_sysid, x.node_timeline, x.node_dboid) <> ($2, $3::oid, $4::oid)`;
  const ofTable =
    `k.at <= (SELECT max(x.committed_at) FROM bdr.tombstone AS x` +
    ` WHERE x.relation = $1::oid AND x.key_hash IS NULL AND ${others})`;
  const ofKey =
    `EXISTS (SELECT FROM bdr.tombstone AS x WHERE x.relation = $1::oid AND x.key_hash = ${hash(columns)}` +
    ` AND ${equal(columns)} AND x.committed_at >= k.at AND ${others})`;
  const either = columns.length === 0 ? ofTable : `(${ofKey} OR ${ofTable})`;
  return `SELECT k.n FROM ${given(columns, 5)} WHERE ${either} ORDER BY k.n`;
}

/** A step that fails where `contestedSql` would return anything; the same parameters. */
export function refuseContestedStep(table: TombstoneTable): string {
  return `IF EXISTS (${contestedSql(table)}) THEN ${lookAgain('row')} END IF;`;
}

/**
 * The greatest tombstones of one key, those of its table counted: more than one only where several nodes deleted at the same
 * microsecond. Parameters: oid, then the key's values.
 */
export function findTombstoneSql({ columns }: TombstoneTable): string {
  const values = columns.map((_, index) => `$${index + 2}::text`);
  const from =
    columns.length === 0 ? '' : `, (VALUES (${values.join(', ')})) AS k (${names(columns)})`;
  const ofKey =
    columns.length === 0 ? '' : `x.key_hash = ${hash(columns)} AND ${equal(columns)} OR `;
  return (
    `SELECT ${pgTimeSql('x.committed_at')} AS time,` +
    ` x.node_sysid AS sysid, x.node_timeline AS timeline, x.node_dboid AS dboid` +
    ` FROM bdr.tombstone AS x${from}` +
    ` WHERE x.relation = $1::oid AND (${ofKey}x.key_hash IS NULL)` +
    ` ORDER BY x.committed_at DESC FETCH FIRST 1 ROW WITH TIES`
  );
}

/** Reads an answer of `findTombstoneSql`. */
export function tombstoneVersions(rows: readonly FoundTombstone[]): TombstoneVersion[] {
  return rows.map(({ time, sysid, timeline, dboid }) => ({
    time: Number(time) as PgTime,
    node: { sysid, timeline: Number(timeline), dboid: Number(dboid) },
  }));
}

export interface FoundTombstone {
  readonly time: string;
  readonly sysid: string;
  readonly timeline: string;
  readonly dboid: string;
}

/** The first parameters of the statements above: whose table, and whose version. */
export function ownership({ oid }: TombstoneTable, writer: NodeId): Param[] {
  return [oid, writer.sysid, writer.timeline, writer.dboid];
}

/** A key that something is remembered of. */
export interface RememberedKey {
  /** OID of the local table. */
  readonly relation: string;
  /** A JSON array of the key's values as text, in the order of the columns' names. */
  readonly key: string;
}

/**
 * Opens a cursor on the keys that other nodes than `local` have deleted at times above `from`, up to `upTo`; inside a transaction.
 */
export function openDeletionsSql(local: NodeId, from: PgTime, upTo: PgTime): string {
  const { sysid, timeline, dboid } = local;
  return (
    `DECLARE bdr_deletions NO SCROLL CURSOR FOR` +
    ` SELECT relation, array_to_json(row_key)::text AS key FROM bdr.tombstone` +
    ` WHERE committed_at > ${quoteLiteral(formatPgTime(from))} AND committed_at <= ${quoteLiteral(formatPgTime(upTo))}` +
    ` AND row_key IS NOT NULL` +
    ` AND (node_sysid, node_timeline, node_dboid) <> (${quoteLiteral(sysid)}, ${timeline}::oid, ${dboid}::oid)`
  );
}

/** The next of them, as RememberedKey; none at the end. */
export const nextDeletionsSql = 'FETCH 10000 FROM bdr_deletions';

export const closeDeletionsSql = 'CLOSE bdr_deletions';

/**
 * Forgets what nobody can send anything older about. Nothing is forgotten while a node is copying: it reads from where the
 * source stood at its snapshot, and takes the source's tombstones over after that (DESIGN 7). `upTo` must have been reached
 * before this is called.
 *
 * Of a table with a conflict policy a deletion is remembered until all peers know of it, too (`knownUpTo`): until then a greater
 * change of theirs may be one that does not know of it. And while anything is noted for a policy, which is held against it.
 */
export async function purgeTombstones(
  session: Session,
  upTo: PgTime,
  knownUpTo: PgTime,
): Promise<number> {
  return session.run(
    /* sql */ `
      DELETE FROM bdr.tombstone
      WHERE committed_at <= $1
        AND NOT EXISTS (SELECT FROM bdr.bdr_nodes WHERE node_status IN ('b', 'i'))
        AND (
            committed_at <= $2 AND NOT EXISTS (SELECT FROM bdr.lost_write)
            OR relation <> ALL (ARRAY(${POLICY_TABLES}))
        )
    `,
    [formatPgTime(upTo), formatPgTime(knownUpTo)],
  );
}

/** So many rows that are gone, and every look for a table's tombstones passes over them until they are cleaned up. */
const MANY = 10_000;

/** Cleans up after `purgeTombstones`, where that is worth it, and does not wait for the server to come round to it. */
export async function vacuumTombstones(session: Session, forgotten: number): Promise<void> {
  if (forgotten >= MANY) await session.script('VACUUM (SKIP_LOCKED) bdr.tombstone');
}

/** Rows of all tombstones, for `adoptTombstonesSql`: what COPY sends to a joining node. */
export const exportTombstonesSql = /* sql */ `
  COPY (
      SELECT n.nspname, c.relname, x.row_key, x.committed_at, x.node_sysid, x.node_timeline, x.node_dboid
      FROM bdr.tombstone AS x
      JOIN pg_class AS c ON c.oid = x.relation
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
  ) TO STDOUT
`;

/** Begins to take tombstones over, in the place of those that are here: makes the table that `importTombstonesSql` fills. */
export const beginAdoptingSql = /* sql */ `
  DELETE FROM bdr.tombstone;
  CREATE TEMPORARY TABLE bdr_adopted (
      schema_name text, table_name text, row_key text[], committed_at timestamptz,
      node_sysid text, node_timeline oid, node_dboid oid
  ) ON COMMIT DROP
`;

export const importTombstonesSql = 'COPY pg_temp.bdr_adopted FROM STDIN';

/**
 * Takes over what another node remembers of a table. Hashes are computed anew: those of enums and the like differ between
 * servers. Parameters: oid, the table's schema and name.
 */
export function adoptTombstonesSql({ columns }: TombstoneTable): string {
  const hashed = hash(columns, (_, position) => `a.row_key[${position + 1}]`);
  return (
    `INSERT INTO bdr.tombstone (relation, key_hash, row_key, committed_at, node_sysid, node_timeline, node_dboid)` +
    ` SELECT $1::oid, CASE WHEN a.row_key IS NOT NULL THEN ${hashed} END, a.row_key, a.committed_at,` +
    ` a.node_sysid, a.node_timeline, a.node_dboid` +
    ` FROM pg_temp.bdr_adopted AS a WHERE a.schema_name = $2 AND a.table_name = $3`
  );
}

/** The positions of the key's columns in the order in which a tombstone keeps them: by name, which all nodes agree on. */
function stored(columns: readonly LocalColumn[]): number[] {
  return columns
    .map((_, index) => index)
    .sort((a, b) => ((columns[a]?.name ?? '') < (columns[b]?.name ?? '') ? -1 : 1));
}

/** The keys that were given, with their times, as rows `k`. */
function given(columns: readonly LocalColumn[], first: number): string {
  const arrays = [`$${first}::timestamptz[]`];
  for (const index of columns.keys()) arrays.push(`$${first + 1 + index}::text[]`);
  const list = columns.length === 0 ? 'at' : `at, ${names(columns)}`;
  return `unnest(${arrays.join(', ')}) WITH ORDINALITY AS k (${list}, n)`;
}

function names(columns: readonly LocalColumn[]): string {
  return columns.map((_, index) => `c${index}`).join(', ');
}

/** A column whose type has no hash function counts for nothing; the comparison of the values comes on top. */
function hash(
  columns: readonly LocalColumn[],
  value: (index: number, position: number) => string = (index) => `k.c${index}`,
): string {
  const parts = stored(columns).flatMap((index, position) => {
    const column = columns[index];
    return column?.hashable ? [typed(value(index, position), column)] : [];
  });
  return parts.length === 0 ? '0' : `hash_record_extended(ROW(${parts.join(', ')}), 0)`;
}

function equal(columns: readonly LocalColumn[]): string {
  return stored(columns)
    .map((index, position) => {
      const column = columns[index];
      return `${typed(`x.row_key[${position + 1}]`, column)} ${column?.equals ?? '='} ${typed(`k.c${index}`, column)}`;
    })
    .join(' AND ');
}

function typed(expression: string, column: LocalColumn | undefined): string {
  return `${expression}::${column?.type ?? 'text'}${column?.collate ?? ''}`;
}
