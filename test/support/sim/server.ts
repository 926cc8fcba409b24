import { must } from '../../../src/base/assert.ts';
import { ZERO_LSN, type Lsn } from '../../../src/base/lsn.ts';
import { LONG_AGO, type PgTime } from '../../../src/base/pg-time.ts';
import type { Writer } from '../../../src/conflict/version.ts';
import type { NodeStatus } from '../../../src/model/node.ts';
import { describeRecord } from './describe-record.ts';
import type { Process, Steps } from './process.ts';
import {
  Transaction,
  type LostValue,
  type LostWrite,
  type ModelSession,
  type OpenAsk,
  type Outgoing,
  type Row,
  type RowVersion,
  type Tombstone,
  type WalRecord,
} from './transaction.ts';
import { dawdle, originOf, type World } from './world.ts';

/** What one key has held: who reads sees the last state that his snapshot shows. */
interface Slot {
  readonly history: { readonly row: Row | undefined; readonly seen: number }[];
  /** The transaction that has locked or written the row. */
  holder: Transaction | undefined;
}

/** What a transaction leaves in tables of the agent's own. */
type Listed = Pick<
  WalRecord,
  | 'tombstones'
  | 'forgotten'
  | 'lost'
  | 'settled'
  | 'outgoing'
  | 'sent'
  | 'asked'
  | 'answered'
  | 'lostWrites'
  | 'settledWrites'
  | 'versions'
  | 'forgottenVersions'
>;

/** What a server has while none of its transactions is open. */
export interface SavedServer {
  readonly wal: readonly WalRecord[];
  readonly flushed: number;
  readonly rows: readonly (readonly [string, Slot['history'][number]])[];
  readonly tombstones: readonly Tombstone[];
  readonly lost: readonly LostValue[];
  readonly counters: readonly [seen: number, nextXid: number, xmax: number, nextChain: number];
  readonly positions: readonly (readonly [number, Lsn])[];
  readonly durable: readonly (readonly [number, Lsn])[];
}

/** So many states of a key are kept: more than a statement can be old. */
const MOST_HISTORY = 64;

/**
 * PostgreSQL as far as replication depends on it: a table at READ COMMITTED with row locks, transaction ids, a log whose records
 * come after their commit times are taken and before their transactions are seen, a disk behind it, replication origins and slots.
 */
export class ModelServer {
  readonly index: number;
  readonly writer: Writer;
  /** How far its clock is off. */
  #offset: number;
  /** The greatest that it has shown before it stepped back. */
  #shown = LONG_AGO;
  readonly #world: World;
  wal: WalRecord[] = [];
  /** Records on disk. */
  flushed = 0;
  #slots = new Map<string, Slot>();
  #tombstones: Tombstone[] = [];
  #lost: LostValue[] = [];
  #outbox: Outgoing[] = [];
  #openAsks: OpenAsk[] = [];
  #lostWrites: LostWrite[] = [];
  #versions: RowVersion[] = [];
  /**
   * bdr.bdr_nodes as it is known here: the states of the nodes by their numbers. Not lost in crashes: what a join or a part does next
   * waits until it is on disk.
   */
  readonly statuses = new Map<number, NodeStatus>();
  /** So often it has crashed. */
  crashes = 0;
  /** Transactions that hold locks or have ids. */
  readonly open = new Set<Transaction>();
  readonly sessions = new Set<ModelSession>();
  /** Processes that end lost sessions. */
  #ending: Process[] = [];
  /** Counts the commits that are seen. */
  seen = 0;
  #nextXid = 1;
  /** One more than the greatest id that has ended: a snapshot's xmax. */
  xmax = 1;
  #nextChain = 1;
  readonly #positions = new Map<number, Lsn>();
  readonly #durable = new Map<number, Lsn>();
  /** confirmed_flush_lsn of the slots on this server, by the number of the node that reads. */
  readonly confirmed = new Map<number, Lsn>();

  /** So long a commit may be held between its steps, and how likely it is. */
  readonly #held: number;
  readonly #isHeld: number;

  constructor(world: World, index: number, writer: Writer, offset: number) {
    this.#held = world.random.pick([0, 30, 300]);
    this.#isHeld = world.switches.dense ? 0.3 : 0.1;
    this.#world = world;
    this.index = index;
    this.writer = writer;
    this.#offset = offset;
  }

  /** clock_timestamp() */
  clock(): PgTime {
    return (this.#world.time + this.#offset) as PgTime;
  }

  /** It shows less than it has shown. */
  get isBehind(): boolean {
    return this.clock() <= this.#shown;
  }

  /** The clock is set. */
  step(by: number): void {
    this.#world.note?.(`clock of ${this.index} steps by ${by}`);
    if (this.clock() > this.#shown) this.#shown = this.clock();
    this.#offset += by;
  }

  // Sessions and transactions ------------------------------------------------------------------------------------------

  connect(name: string, origin = 0, isApply = false): ModelSession {
    const session: ModelSession = {
      name: `${this.index} ${name}`,
      origin,
      isApply,
      setup: undefined,
      transaction: undefined,
      isLost: false,
      isEnded: false,
    };
    this.sessions.add(session);
    return session;
  }

  /** The client is gone. The server ends a COMMIT that it has begun, and notices the rest some time later. */
  abandon(session: ModelSession): void {
    if (session.isEnded || session.isLost) return;
    session.isLost = true;
    this.#ending.push(this.#world.scheduler.spawn(`${session.name} ends`, this.#end(session)));
  }

  *#end(session: ModelSession): Steps {
    yield undefined;
    const { transaction } = session;
    if (transaction && transaction.phase !== 'open') yield* this.#finish(transaction);
    else if (transaction) this.rollback(session);
    this.close(session);
  }

  /** The client says goodbye: what is open is rolled back at once. */
  close(session: ModelSession): void {
    if (session.transaction) this.rollback(session);
    session.isEnded = true;
    this.sessions.delete(session);
  }

  /** Whether no session holds an origin. */
  isFree(origin: number): boolean {
    for (const session of this.sessions) if (session.origin === origin) return false;
    return true;
  }

  begin(session: ModelSession): Transaction {
    const transaction = new Transaction(session);
    session.transaction = transaction;
    this.open.add(transaction);
    return transaction;
  }

  /** pg_current_xact_id() */
  xidOf(transaction: Transaction): number {
    transaction.xid ??= this.#nextXid++;
    return transaction.xid;
  }

  /** Whether a transaction that is on the log is seen, too. */
  isSeen(xid: number): boolean {
    for (const transaction of this.open) if (transaction.xid === xid) return false;
    return true;
  }

  /** postgres/snapshot-shows.ts: whether a commit of a time up to that is on the log and not seen. */
  hasUnseenCommit(upTo: PgTime): boolean {
    for (const { phase, time } of this.open) {
      if (phase === 'written' && time !== undefined && time <= upTo) return true;
    }
    return false;
  }

  rollback(session: ModelSession): void {
    const { transaction } = session;
    if (!transaction) return;
    this.#release(transaction);
    transaction.phase = 'ended';
    // postgres/origins.ts, rollBack(): pg_replication_origin_xact_reset() follows every ROLLBACK.
    if (!this.#world.has('origin position kept after rollback')) session.setup = undefined;
  }

  *commit(session: ModelSession, isSynchronous = false): Steps {
    const transaction = must(session.transaction, 'transaction');
    transaction.phase = 'asked';
    transaction.isSynchronous = isSynchronous;
    yield* this.#finish(transaction);
  }

  *#finish(transaction: Transaction): Steps {
    if (transaction.xid === undefined) {
      this.#release(transaction);
      transaction.phase = 'ended';
      return;
    }
    if (transaction.phase === 'asked') {
      const { setup, origin } = transaction.session;
      // An origin that is set up stamps its own time; 0 stands for no time of its own.
      transaction.time = origin > 0 && setup ? setup.time : this.clock();
      transaction.isLate = transaction.time <= this.#shown && origin === 0;
      transaction.phase = 'stamped';
      transaction.hadApplied = this.#world.servers.map(({ index }) =>
        this.position(originOf(index)),
      );
      this.#world.checks.stamped(this, transaction);
      yield undefined;
      yield* dawdle(this.#world, this.#isHeld, this.#held);
    }
    if (transaction.phase === 'stamped') {
      this.#write(transaction);
      transaction.phase = 'written';
      yield undefined;
      yield* dawdle(this.#world, this.#isHeld, this.#held);
    }
    if (transaction.isSynchronous) {
      const record = must(transaction.record, 'record');
      yield { ready: () => this.flushed > record };
    }
    this.#show(transaction);
  }

  #write(transaction: Transaction): void {
    const { session, rows, changes, tombstones, forgotten, lost, settled } = transaction;
    const { outgoing, sent, asked, answered, lostWrites, settledWrites } = transaction;
    const { truncates, hadApplied, replaced, inHistory } = transaction;
    const { versions, forgottenVersions } = transaction;
    const time = transaction.time as PgTime;
    for (const row of rows.values()) {
      if (!row) continue;
      row.time = time;
      row.origin = session.origin;
      row.xid = must(transaction.xid, 'transaction id');
    }
    for (const note of lostWrites) note.stampedAt = time;
    const position = session.origin > 0 ? session.setup?.position : undefined;
    const record: WalRecord = {
      xid: must(transaction.xid, 'transaction id'),
      time,
      isLate: transaction.isLate,
      origin: session.origin,
      changes,
      rows,
      tombstones,
      forgotten,
      lost,
      settled,
      outgoing,
      sent,
      asked,
      answered,
      lostWrites,
      settledWrites,
      versions,
      forgottenVersions,
      truncates,
      replaced,
      inHistory,
      hadApplied,
      position,
    };
    this.#world.checks.written(this, transaction, this.position(session.origin));
    transaction.record = this.wal.length;
    this.wal.push(record);
    this.#world.note?.(`${session.name} commits ${describeRecord(record)}`);
    if (position !== undefined) advance(this.#positions, session.origin, position);
  }

  #show(transaction: Transaction): void {
    this.seen += 1;
    for (const [key, row] of transaction.rows) {
      const { history } = this.#slot(key);
      history.push({ row, seen: this.seen });
      if (history.length > MOST_HISTORY) history.shift();
    }
    this.#remember(transaction);
    this.xmax = Math.max(this.xmax, (transaction.xid ?? 0) + 1);
    this.#release(transaction);
    transaction.phase = 'ended';
  }

  #remember(listed: Listed): void {
    const { tombstones, forgotten, lost, settled, outgoing, sent, asked, answered } = listed;
    const { lostWrites, settledWrites, versions, forgottenVersions } = listed;
    if (tombstones.length > 0) this.#tombstones.push(...tombstones);
    if (forgotten.length > 0) {
      this.#tombstones = this.#tombstones.filter((one) => !forgotten.includes(one));
    }
    if (lost.length > 0) this.#lost.push(...lost);
    if (settled.length > 0) this.#lost = this.#lost.filter((one) => !settled.includes(one));
    if (outgoing.length > 0) this.#outbox.push(...outgoing);
    if (sent.length > 0) this.#outbox = this.#outbox.filter((one) => !sent.includes(one));
    if (asked.length > 0) this.#openAsks.push(...asked);
    if (answered.length > 0) {
      this.#openAsks = this.#openAsks.filter((one) => !answered.includes(one));
    }
    if (lostWrites.length > 0) this.#lostWrites.push(...lostWrites);
    if (settledWrites.length > 0) {
      this.#lostWrites = this.#lostWrites.filter((one) => !settledWrites.includes(one));
    }
    if (versions.length > 0) this.#versions.push(...versions);
    if (forgottenVersions.length > 0) {
      this.#versions = this.#versions.filter((one) => !forgottenVersions.includes(one));
    }
  }

  #release(transaction: Transaction): void {
    for (const key of transaction.locked) {
      const slot = this.#slot(key);
      if (slot.holder === transaction) slot.holder = undefined;
    }
    this.open.delete(transaction);
    transaction.session.transaction = undefined;
  }

  // Rows ---------------------------------------------------------------------------------------------------------------

  newChain(): number {
    return this.#nextChain++;
  }

  #slot(key: string): Slot {
    let slot = this.#slots.get(key);
    if (!slot) {
      slot = { history: [], holder: undefined };
      this.#slots.set(key, slot);
    }
    return slot;
  }

  keys(): IterableIterator<string> {
    return this.#slots.keys();
  }

  holder(key: string): Transaction | undefined {
    return this.#slots.get(key)?.holder;
  }

  lock(transaction: Transaction, key: string): void {
    this.#slot(key).holder = transaction;
    transaction.locked.add(key);
  }

  /** The last row of a key that is committed and seen. */
  latest(key: string): Row | undefined {
    return this.#slots.get(key)?.history.at(-1)?.row;
  }

  /** What a statement sees under a key whose snapshot was taken at `snapshot`; its own transaction's rows too. */
  visible(transaction: Transaction, key: string, snapshot: number): Row | undefined {
    if (transaction.rows.has(key)) return transaction.rows.get(key);
    const history = this.#slots.get(key)?.history ?? [];
    for (let i = history.length - 1; i >= 0; i--) {
      const state = history[i] as { row: Row | undefined; seen: number };
      if (state.seen <= snapshot) return state.row;
    }
    return undefined;
  }

  /** bdr.tombstone as a statement of the transaction sees it. */
  tombstones(transaction: Transaction): readonly Tombstone[] {
    return transaction.tombstones.length === 0
      ? this.#tombstones
      : [...this.#tombstones, ...transaction.tombstones];
  }

  /** bdr.tombstone as everybody sees it. */
  remembered(): readonly Tombstone[] {
    return this.#tombstones;
  }

  /** bdr.lost_value as everybody sees it. */
  lostValues(): readonly LostValue[] {
    return this.#lost;
  }

  /** bdr.outbox as everybody sees it. */
  outbox(): readonly Outgoing[] {
    return this.#outbox;
  }

  /** bdr.open_ask as everybody sees it. */
  openAsks(): readonly OpenAsk[] {
    return this.#openAsks;
  }

  /** bdr.lost_write as everybody sees it. */
  lostWrites(): readonly LostWrite[] {
    return this.#lostWrites;
  }

  /** bdr.row_version as everybody sees it. */
  versions(): readonly RowVersion[] {
    return this.#versions;
  }

  /** The rows of the table as everybody sees them. */
  rows(): Map<string, Row> {
    const rows = new Map<string, Row>();
    for (const key of [...this.#slots.keys()].sort()) {
      const row = this.latest(key);
      if (row) rows.set(key, row);
    }
    return rows;
  }

  // Disk ---------------------------------------------------------------------------------------------------------------

  /** Writes the log to disk, now and then. */
  *walWriter(): Steps {
    for (;;) {
      yield { ready: () => this.flushed < this.wal.length };
      this.flush();
    }
  }

  flush(): void {
    for (; this.flushed < this.wal.length; this.flushed++) {
      const { origin, position } = this.wal[this.flushed] as WalRecord;
      if (position !== undefined) advance(this.#durable, origin, position);
    }
  }

  /** pg_replication_origin_progress(…, false) */
  position(origin: number): Lsn {
    return this.#positions.get(origin) ?? ZERO_LSN;
  }

  /** pg_replication_origin_advance(), then a flush: where a new link begins. */
  beginAt(origin: number, position: Lsn): void {
    advance(this.#positions, origin, position);
    advance(this.#durable, origin, position);
  }

  /** ensureSlot() where nobody writes: the position from which the slot of a reader sends. */
  ensureSlot(reader: number): Lsn {
    const known = this.confirmed.get(reader);
    if (known !== undefined) return known;
    this.flush();
    const start = this.wal.length as Lsn;
    this.confirmed.set(reader, start);
    return start;
  }

  durable(origin: number): Lsn {
    return this.#durable.get(origin) ?? ZERO_LSN;
  }

  // Going back ---------------------------------------------------------------------------------------------------------

  /** For a search that goes back to it: what plain rows need, without unique indexes, policies, joins and parts. */
  save(): SavedServer {
    return {
      wal: [...this.wal],
      flushed: this.flushed,
      rows: [...this.#slots].flatMap(([key, { history }]) => {
        const last = history.at(-1);
        return last ? [[key, last] as const] : [];
      }),
      tombstones: [...this.#tombstones],
      lost: [...this.#lost],
      counters: [this.seen, this.#nextXid, this.xmax, this.#nextChain],
      positions: [...this.#positions],
      durable: [...this.#durable],
    };
  }

  /** Its sessions are gone. */
  restore(saved: SavedServer): void {
    for (const session of this.sessions) session.isEnded = true;
    this.sessions.clear();
    this.open.clear();
    this.wal = [...saved.wal];
    this.flushed = saved.flushed;
    this.#slots = new Map(
      saved.rows.map(([key, last]) => [key, { history: [last], holder: undefined }]),
    );
    this.#tombstones = [...saved.tombstones];
    this.#lost = [...saved.lost];
    [this.seen, this.#nextXid, this.xmax, this.#nextChain] = saved.counters;
    replace(this.#positions, saved.positions);
    replace(this.#durable, saved.durable);
  }

  /** Loses all that is not on disk, and recovers the rest from the log. Its sessions are gone. */
  crash(): void {
    this.crashes += 1;
    for (const process of this.#ending) this.#world.scheduler.kill(process);
    this.#ending = [];
    for (const transaction of this.open) transaction.phase = 'ended';
    for (const session of this.sessions) {
      session.isEnded = true;
      session.transaction = undefined;
    }
    this.sessions.clear();
    this.open.clear();
    this.wal.length = this.flushed;
    this.#slots = new Map();
    this.#tombstones = [];
    this.#lost = [];
    this.#outbox = [];
    this.#openAsks = [];
    this.#lostWrites = [];
    this.#versions = [];
    this.#positions.clear();
    for (const [origin, position] of this.#durable) this.#positions.set(origin, position);
    for (const record of this.wal) {
      this.seen += 1;
      for (const [key, row] of record.rows) this.#slot(key).history.push({ row, seen: this.seen });
      this.#remember(record);
    }
    this.xmax = this.#nextXid;
  }
}

/** An origin never goes back (replorigin_session_advance). */
function advance(positions: Map<number, Lsn>, origin: number, position: Lsn): void {
  if (position > (positions.get(origin) ?? ZERO_LSN)) positions.set(origin, position);
}

function replace<K, V>(map: Map<K, V>, entries: readonly (readonly [K, V])[]): void {
  map.clear();
  for (const [key, value] of entries) map.set(key, value);
}
