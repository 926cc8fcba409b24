import type { ConcurrentIndex } from '../ddl/concurrent-index.ts';
import type { Session } from '../postgres/session.ts';
import { momentSql, type Moment } from './monitoring.ts';
import type { QueuedCommand } from './queued-commands.ts';

/** An index that a peer has built CONCURRENTLY and that this node has still to build. */
export interface IndexBuild extends Omit<ConcurrentIndex, 'isPlain'> {
  readonly id: string;
  readonly perpetrator: string;
  readonly searchPath: string;
  /** A JSON object. */
  readonly settings: string;
  /** The table's OID; null where there was none of the name. */
  readonly relation: string | null;
}

/** How far it is. */
export interface IndexBuildState {
  readonly id: string;
  readonly table: string;
  readonly index: string;
  readonly since: Moment;
  /** Why the last try failed; null where none did. */
  readonly error: string | null;
}

/** Notes, in the apply transaction, that an index is to be built. False where that must be done at once, in its place. */
export async function putOffIndex(
  session: Session,
  { perpetrator, searchPath, settings }: QueuedCommand,
  { text, table, index, isPlain }: ConcurrentIndex,
): Promise<boolean> {
  const [row] = await session.query<{ noted: string }>(
    'SELECT bdr.internal_put_off_index($1, $2, $3, $4::jsonb, $5, $6, $7::boolean) AS noted',
    [perpetrator, text, searchPath, settings, table, index, String(isPlain)],
  );
  return row?.noted === 't';
}

export async function hasIndexBuilds(session: Session): Promise<boolean> {
  const [row] = await session.query<{ any: string }>(
    'SELECT EXISTS (SELECT FROM bdr.index_build) AS any',
  );
  return row?.any === 't';
}

/** In the order in which they arrived. */
export async function readIndexBuilds(session: Session): Promise<IndexBuild[]> {
  return session.query<IndexBuild>(/* sql */ `
    SELECT build AS id, perpetrator, command AS text, search_path AS "searchPath", settings, table_name AS table, index_name AS index,
           relation
    FROM bdr.index_build
    ORDER BY queued_at
  `);
}

/** Sets, for the session, what a command has brought of settings: those that it can bring, and no others. */
export async function takeSettings(session: Session, settings: string): Promise<void> {
  await session.query(
    /* sql */ `
      SELECT set_config(s.key, s.value, false)
      FROM jsonb_each_text($1::jsonb) AS s
      WHERE bdr.internal_command_settings() ? s.key
    `,
    [settings],
  );
}

/** Whether it is still to be built: it may have been given up. */
export async function isNoted(session: Session, { id }: IndexBuild): Promise<boolean> {
  const found = await session.query('SELECT FROM bdr.index_build WHERE build = $1', [id]);
  return found.length > 0;
}

/** Whether its table was there when it was noted, and is there no more. */
export async function isTableGone(session: Session, { relation }: IndexBuild): Promise<boolean> {
  if (relation === null) return false;
  const found = await session.query('SELECT FROM pg_class WHERE oid = $1', [relation]);
  return found.length === 0;
}

export async function endIndexBuild(session: Session, { id }: IndexBuild): Promise<void> {
  await session.run('DELETE FROM bdr.index_build WHERE build = $1', [id]);
}

export async function noteFailedBuild(
  session: Session,
  { id }: IndexBuild,
  error: string,
): Promise<void> {
  await session.run('UPDATE bdr.index_build SET error = $2 WHERE build = $1', [id, error]);
}

export async function readIndexBuildStates(session: Session): Promise<IndexBuildState[]> {
  return session.query<IndexBuildState>(/* sql */ `
    SELECT build AS id, table_name AS table, index_name AS index, ${momentSql('queued_at')} AS since, error
    FROM bdr.index_build
    ORDER BY queued_at
  `);
}

/** Takes over what a source has still to build, as its snapshot shows it: the copy of its definitions lacks these. */
export async function copyIndexBuilds(snapshot: Session, target: Session): Promise<void> {
  const [noted] = await snapshot.query<{ list: string }>(
    `SELECT coalesce(json_agg(b.*), '[]')::text AS list FROM bdr.index_build AS b`,
  );
  await target.run('DELETE FROM bdr.index_build');
  await target.run(
    'INSERT INTO bdr.index_build SELECT b.* FROM json_populate_recordset(NULL::bdr.index_build, $1::json) AS b',
    [noted?.list ?? '[]'],
  );
  await target.run(
    'UPDATE bdr.index_build SET relation = bdr.internal_relation_named(table_name, search_path, perpetrator)',
  );
}
