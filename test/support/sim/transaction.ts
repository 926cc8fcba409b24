import type { Lsn } from '../../../src/base/lsn.ts';
import type { PgTime } from '../../../src/base/pg-time.ts';
import type { ChangeKind } from '../../../src/conflict/decide.ts';
import type { Death } from '../../../src/conflict/unique.ts';
import type { Version, Writer } from '../../../src/conflict/version.ts';
import type { Change } from '../../../src/pgoutput/transaction.ts';

/** A row as a heap holds it. */
export interface Row {
  readonly key: string;
  readonly v: string;
  readonly big: string;
  /** Versions that an UPDATE without change of key makes of one row have one number: who waits for a lock follows them. */
  readonly chain: number;
  /** Commit time and origin of its transaction, once it has committed: pg_xact_commit_timestamp_origin(xmin). */
  time: PgTime;
  origin: number;
  /** xmin, once it has committed. */
  xid: number;
}

/** A row of bdr.tombstone; without a key, of a TRUNCATE. */
export interface Tombstone {
  readonly key: string | undefined;
  readonly time: PgTime;
  readonly writer: Writer;
}

/** A row of bdr.row_version: the true version of a row that a join has copied. */
export interface RowVersion {
  readonly key: string;
  readonly time: PgTime;
  readonly writer: Writer;
}

/** A row of bdr.lost_value: something lost to the row that `writer`, by its origin here, wrote under the key. */
export interface LostValue {
  readonly key: string;
  readonly writer: number;
}

/** A row of bdr.outbox: what is to be told of a row that has lost its place in a unique index. */
export interface Outgoing extends Death {
  readonly key: string;
  /** It was sent when it was put there: a deletion in the stead of a parted node. */
  readonly isSent?: true;
}

/** A row of bdr.open_ask: who was asked about a row, and has not answered yet. */
export interface OpenAsk {
  readonly key: string;
  readonly writer: Writer;
  readonly askedAt: PgTime;
}

/** A row of bdr.lost_write; without a row, of a deletion. */
export interface LostWrite {
  readonly key: string;
  readonly row: { readonly key: string; readonly v: string; readonly big: string } | undefined;
  readonly localTime: PgTime | undefined;
  readonly notedAt: PgTime;
  /** The number of the node whose change has overwritten it, and that change. */
  readonly provider: number;
  readonly kind: ChangeKind;
  readonly time: PgTime;
  readonly lsn: Lsn;
  readonly seenUpTo: PgTime;
  /** The commit time of the transaction that left it. */
  stampedAt: PgTime;
}

/** One side of a row of bdr.bdr_conflict_history: a row that was there, or what a change of that version brought. */
export type KeptWrite = { readonly row: Row } | ({ readonly key: string } & Version);

/** How far a replication origin is: session state that pg_replication_origin_xact_setup() sets. */
export interface OriginSetup {
  readonly position: Lsn;
  readonly time: PgTime;
}

export type TableLock = 'row exclusive' | 'share row exclusive' | 'access exclusive';

/** A connection. */
export interface ModelSession {
  readonly name: string;
  /** The number of its replication origin; 0 without. */
  readonly origin: number;
  /** It writes what is not sent as this node's own: heartbeats leave it out (bdr.internal_oldest_writer). */
  readonly isApply: boolean;
  /** What pg_replication_origin_xact_setup() has left. */
  setup: OriginSetup | undefined;
  transaction: Transaction | undefined;
  /** Its client is gone; it goes on until the server has noticed. */
  isLost: boolean;
  isEnded: boolean;
}

/** The steps of a commit. PostgreSQL takes the time before it writes the record, and the commit is seen after that. */
export type CommitPhase = 'open' | 'asked' | 'stamped' | 'written' | 'ended';

/** A local transaction. */
export class Transaction {
  readonly session: ModelSession;
  xid: number | undefined;
  phase: CommitPhase = 'open';
  /** Waits at COMMIT until its record is on disk. */
  isSynchronous = false;
  /** Rows by key as this transaction leaves them; undefined for a deleted one. */
  readonly rows = new Map<string, Row | undefined>();
  /** Keys that it has locked or written. */
  readonly locked = new Set<string>();
  readonly tombstones: Tombstone[] = [];
  /** Tombstones that it has deleted. */
  forgotten: readonly Tombstone[] = [];
  readonly lost: LostValue[] = [];
  /** Lost values that it has deleted. */
  readonly settled: LostValue[] = [];
  /** What it has put into the outbox. */
  readonly outgoing: Outgoing[] = [];
  /** What it has taken out of there. */
  readonly sent: Outgoing[] = [];
  readonly asked: OpenAsk[] = [];
  /** Asks that are open no more. */
  readonly answered: OpenAsk[] = [];
  readonly lostWrites: LostWrite[] = [];
  /** Those that it has deleted. */
  readonly settledWrites: LostWrite[] = [];
  readonly versions: RowVersion[] = [];
  /** Those that it has deleted. */
  forgottenVersions: readonly RowVersion[] = [];
  /** What its record tells logical decoding. */
  readonly changes: Change[] = [];
  truncates = false;
  /** Rows that a user's statement has put others in the place of, or nothing. */
  readonly replaced: Row[] = [];
  /** What it has left in bdr.bdr_conflict_history. */
  readonly inHistory: KeptWrite[] = [];
  /** Keys of rows for which it has removed others that had their values in a unique index. */
  readonly roomFor = new Set<string>();
  /** Ends of the provider's transactions that this one applies. */
  applies: { readonly provider: number; readonly ends: readonly Lsn[] } | undefined;
  time: PgTime | undefined;
  /** It took that time while the clock was behind what it had shown. */
  isLate = false;
  /** How far each node was applied on its server when it took that time, by the node's number. */
  hadApplied: readonly Lsn[] = [];
  /** Index of its record in the log. */
  record: number | undefined;
  tableLock: TableLock | undefined;
  gate: 'shared' | 'exclusive' | undefined;

  constructor(session: ModelSession) {
    this.session = session;
  }
}

/** A commit record with all that its transaction has written before. */
export interface WalRecord {
  readonly xid: number;
  readonly time: PgTime;
  readonly isLate: boolean;
  readonly origin: number;
  readonly changes: readonly Change[];
  readonly rows: ReadonlyMap<string, Row | undefined>;
  readonly tombstones: readonly Tombstone[];
  readonly forgotten: readonly Tombstone[];
  readonly lost: readonly LostValue[];
  readonly settled: readonly LostValue[];
  readonly outgoing: readonly Outgoing[];
  readonly sent: readonly Outgoing[];
  readonly asked: readonly OpenAsk[];
  readonly answered: readonly OpenAsk[];
  readonly lostWrites: readonly LostWrite[];
  readonly settledWrites: readonly LostWrite[];
  readonly versions: readonly RowVersion[];
  readonly forgottenVersions: readonly RowVersion[];
  readonly truncates: boolean;
  readonly replaced: readonly Row[];
  readonly inHistory: readonly KeptWrite[];
  readonly hadApplied: readonly Lsn[];
  /** Where it leaves its session's origin. */
  readonly position: Lsn | undefined;
}
