import { LONG_AGO, pgTimeSql, type PgTime } from '../base/pg-time.ts';
import type { Session } from '../postgres/session.ts';

/** How far back this server's commit records go (DESIGN 4.1). */
export interface RecordLimit {
  /** Rows without a record were written no later. */
  readonly lostUpTo: PgTime;
  /** Transaction ids have been used twice here: the record of a row that was frozen may be another transaction's. */
  readonly mayBeFalse: boolean;
  readonly now: PgTime;
}

export async function readRecordLimit(session: Session): Promise<RecordLimit> {
  const [row] = await session.query<{ lost: string; may_be_false: string; now: string }>(
    `SELECT ${pgTimeSql('r.lost_upto')} AS lost, r.may_be_false, ${pgTimeSql('clock_timestamp()')} AS now
     FROM bdr.internal_record_limit() AS r`,
  );
  return {
    lostUpTo: Number(row?.lost) as PgTime,
    mayBeFalse: row?.may_be_false === 't',
    now: Number(row?.now) as PgTime,
  };
}

/** Leaves a mark by which it is known later how old the rows are whose records are gone by then. To be called every now and then. */
export async function markRecords(session: Session): Promise<void> {
  await session.query('SELECT bdr.internal_mark_records()');
}

/** Asked of a peer: up to when it has applied all that its own peers have committed; LONG_AGO where it does not know. */
export async function readAppliedUpTo(peer: Session): Promise<PgTime> {
  const [row] = await peer.query<{ upto: string | null }>(
    `SELECT ${pgTimeSql('bdr.internal_applied_upto()')} AS upto`,
  );
  return row?.upto ? (Number(row.upto) as PgTime) : LONG_AGO;
}
