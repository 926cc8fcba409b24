import type { QualifiedName } from '../base/names.ts';
import type { PgTime } from '../base/pg-time.ts';
import type { NodeId } from './node.ts';

/** BDR's names: the first keeps out other definitions, the second the writes of other nodes' users as well. */
export type LockMode = 'ddl_lock' | 'write_lock';

/** Which transaction of which life of a server holds a lock, or asks for it. */
export interface LockHolder {
  readonly pid: number;
  /** Its virtual transaction id: no other transaction has it before the server is started anew. */
  readonly transaction: string;
  /** When the server was started. */
  readonly serverStart: PgTime;
}

/** What a transaction asks for. */
export interface LockNeed {
  readonly mode: LockMode;
  /** The tables of a write lock, with their partitions; null for all that are replicated. */
  readonly tables: readonly QualifiedName[] | null;
  /** A majority of the nodes is enough for a ddl_lock. */
  readonly mayBeMajority: boolean;
}

/** A transaction of this node's users that waits. */
export interface WaitingTransaction {
  /** Tells asks apart. */
  readonly ask: number;
  readonly askedAt: PgTime;
  readonly holder: LockHolder;
}

/** It waits for the lock. */
export interface LockAsk extends WaitingTransaction, LockNeed {}

/** It is about to run a command, and waits to be told that it may: what for is not known yet. */
export interface CommandAsk extends WaitingTransaction {
  readonly command: AskedCommand;
  /** The setting bdr.ddl_lock_quorum: a majority will do where the command allows it. */
  readonly mayBeMajority: boolean;
}

/** A command that is about to run, as bdr.internal_begin_command() tells it. */
export interface AskedCommand {
  /** The text that it is in, or a call stack; null where that is too long to be told. */
  readonly text: string | null;
  readonly isContext: boolean;
  /** Its text is all that its transaction does, if it is one statement. */
  readonly isAlone: boolean;
  readonly place: CommandPlace;
}

/** Where a command is run: what decides which table a name in it means (sql/routines/lock-targets.sql). */
export interface CommandPlace {
  /** The role that runs it, by name. */
  readonly role: string;
  /** The schemas where names are looked for. */
  readonly path: readonly string[];
  /** The names of the session's temporary relations. */
  readonly temporary: readonly string[];
  /** The relations that its transaction has locked in a way that holds up apply, as they are called in it; null where they are gone. */
  readonly locked: readonly {
    readonly oid: number;
    readonly schema: string | null;
    readonly name: string | null;
  }[];
}

/**
 * What a node says about a lock; the node alone writes it, and all others read it.
 *
 * The owner's own, of which it keeps one for ever: `asked`, `acquired` when the group has granted it, `released`.
 * Another node's answer, which is there until it has seen the release: `catchup` while it waits for what others wrote before
 * they held their users' writes, `acquired` when the lock is granted as far as this node is concerned.
 */
export interface GlobalLockRow extends LockNeed {
  readonly owner: NodeId;
  /** Who says it. */
  readonly node: NodeId;
  /** Tells the owner's locks apart, and rises. An answer names the lock that it answers. */
  readonly number: number;
  /** Rises when a transaction that holds the lock asks for more. */
  readonly round: number;
  readonly state: 'asked' | 'catchup' | 'acquired' | 'released';
  readonly askedAt: PgTime;
  /** In an answer: by nodeKey(), the number of each owner's last lock that the node knew to be released. */
  readonly known: Readonly<Record<string, number>>;
  /** In the owner's own. */
  readonly holder: LockHolder | null;
}

/** Whether what is held is enough for what is needed. */
export function covers(held: LockNeed, need: LockNeed): boolean {
  if (need.mode === 'ddl_lock')
    return held.mode === 'write_lock' || !held.mayBeMajority || need.mayBeMajority;
  if (held.mode !== 'write_lock') return false;
  const { tables } = held;
  if (tables === null) return true;
  return (
    need.tables?.every((table) =>
      tables.some(({ schema, name }) => schema === table.schema && name === table.name),
    ) ?? false
  );
}

/** What is enough for both. */
export function both(held: LockNeed, need: LockNeed): LockNeed {
  const mode = held.mode === 'write_lock' || need.mode === 'write_lock' ? 'write_lock' : 'ddl_lock';
  const tablesOf = ({ mode: its, tables }: LockNeed) => (its === 'write_lock' ? tables : []);
  const [a, b] = [tablesOf(held), tablesOf(need)];
  return {
    mode,
    tables: a === null || b === null ? null : [...a, ...b],
    mayBeMajority: mode === 'ddl_lock' && held.mayBeMajority && need.mayBeMajority,
  };
}
