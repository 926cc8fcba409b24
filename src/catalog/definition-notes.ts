import { formatLsn, type Lsn } from '../base/lsn.ts';
import type { NodeId } from '../model/node.ts';
import type { Session } from '../postgres/session.ts';

/** A node has applied a command of another node: what comes later in its stream was written after it (sql/routines/definition-notes.sql). */
export interface DefinitionNote {
  /** Whose command it was. */
  readonly node: NodeId;
  /** Where its transaction was committed there, as text. */
  readonly commitLsn: string;
}

/** Leaves a note in this node's log, at once. `session` has no origin: the note is this node's own. */
export async function tellDefinition(
  session: Session,
  { sysid, timeline, dboid }: NodeId,
  commitLsn: Lsn,
): Promise<void> {
  await session.query('SELECT bdr.internal_tell_definition($1, $2::oid, $3::oid, $4::pg_lsn)', [
    sysid,
    timeline,
    dboid,
    formatLsn(commitLsn),
  ]);
}

/** Whether the command is applied here too, or will not be. */
export async function hasDefinition(
  session: Session,
  { node, commitLsn }: DefinitionNote,
): Promise<boolean> {
  const [row] = await session.query<{ here: string }>(
    'SELECT bdr.internal_has_definition($1, $2::oid, $3::oid, $4::pg_lsn) AS here',
    [node.sysid, node.timeline, node.dboid, commitLsn],
  );
  return row?.here === 't';
}
