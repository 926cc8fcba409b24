import { parseLsn, type Lsn } from '../base/lsn.ts';
import { pgTimeSql, type PgTime } from '../base/pg-time.ts';
import { holdApply } from '../catalog/apply-gate.ts';
import { committedProgress } from '../catalog/committed-positions.ts';
import { providerOfOrigin } from '../model/link.ts';
import { nodeKey, type NodeId } from '../model/node.ts';
import { readOrigins } from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';

/** Where a copy stands in the history of the group. */
export interface CopyPosition {
  /** What the copy shows of the source's own transactions: text of a pg_snapshot. */
  readonly snapshot: string;
  /** A position of the source's log at or after the end of everything that the snapshot shows. */
  readonly sourceLsn: Lsn;
  /** Up to where the source had applied each node, by nodeKey(): all of that is in the copy, and nothing after it. */
  readonly applied: ReadonlyMap<string, Lsn>;
  /** The source's clock at the snapshot. */
  readonly takenAt: PgTime;
}

export interface SourceSnapshot {
  readonly position: CopyPosition;
  /** The id under which other sessions of the source see the same; valid while the session's transaction is open. */
  readonly exportId: string;
}

/**
 * Opens a transaction in `session` that exports its snapshot, with the source's apply held for that moment: apply transactions
 * hold ROW SHARE on bdr_local_node, so who has it EXCLUSIVE knows that none is between its commit and its position (DESIGN 7).
 * `holder` is another session of the source.
 */
export async function takeSourceSnapshot(
  session: Session,
  holder: Session,
  sourceId: NodeId,
): Promise<SourceSnapshot> {
  await holdApply(holder);
  try {
    await session.script('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    const [taken] = await session.query<{ id: string; snapshot: string; time: string }>(
      `SELECT pg_export_snapshot() AS id, pg_current_snapshot()::text AS snapshot, ${pgTimeSql('clock_timestamp()')} AS time`,
    );
    const applied = new Map<string, Lsn>();
    for (const { name } of await readOrigins(holder)) {
      const provider = providerOfOrigin(name, sourceId.dboid);
      if (provider) applied.set(nodeKey(provider), await committedProgress(holder, name));
    }
    const [log] = await holder.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn() AS lsn');
    if (!taken || !log) throw new Error('assertion failed: the source gave no snapshot');
    return {
      exportId: taken.id,
      position: {
        snapshot: taken.snapshot,
        sourceLsn: parseLsn(log.lsn),
        applied,
        takenAt: Number(taken.time) as PgTime,
      },
    };
  } finally {
    await holder.script('ROLLBACK');
    // What the snapshot shows must outlive a crash of the source, even what was committed there without waiting for the disk.
    await holder.script(
      `BEGIN; SET LOCAL synchronous_commit = local; SELECT pg_logical_emit_message(true, 'bdr_mark', ''); COMMIT`,
    );
  }
}
