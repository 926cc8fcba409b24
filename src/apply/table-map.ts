import { BdrError } from '../base/errors.ts';
import { displayName } from '../base/names.ts';
import { readTablePolicy } from '../catalog/conflict-policies.ts';
import { holdDefinitions, readDefinitions, type Held } from '../catalog/restricted.ts';
import type { Relation } from '../pgoutput/transaction.ts';
import { readRelation } from '../postgres/relation-info.ts';
import type { Session } from '../postgres/session.ts';
import { hasSqlstate, SQLSTATE } from '../postgres/sqlstate.ts';
import { readUserCode, type UserCode } from '../postgres/user-code.ts';
import { isLockConflict } from './lock-conflict.ts';
import { isOwn, joinTable, type Table, type TableTrust } from './table.ts';

/** Errors that rows are the cause of, whatever their table is like: another row has the value, or has to be looked at first. */
const OF_ROWS = [SQLSTATE.uniqueViolation, SQLSTATE.lookAgain];
/** So often is read again what is changing all the time. */
const MOST_READS = 20;

/**
 * The provider's relations joined to local tables, each read once. A relation is described anew when it changes over there, and
 * `doubt` throws all away after an error, so that a table that was mended here is seen. A table that lacks a column is read again
 * in each transaction: nulls for that column are let pass without an error that would tell when it has been added.
 *
 * Whether a table runs code of its owner, who is an ordinary role, must be known for certain before a row is written: what is known
 * counts while definitions are those that it was read with, and they are looked at when the table is locked.
 */
export class TableMap {
  readonly #session: Session;
  readonly #isOfOwnLog: boolean;
  #tables = new WeakMap<Relation, Table>();
  #lacking: Relation[] = [];
  /** What is known was read when definitions were these, or later. */
  #definitions: string | undefined;
  /** Locked in the transaction that is open. */
  #held = new WeakSet<Table>();
  #mayNotify = false;

  /** `isOfOwnLog`: relations are this server's own tables, known by their OIDs whatever they are called by now. */
  constructor(session: Session, { isOfOwnLog = false } = {}) {
    this.#session = session;
    this.#isOfOwnLog = isOfOwnLog;
  }

  begin(): void {
    for (const relation of this.#lacking.splice(0)) this.#tables.delete(relation);
    this.#held = new WeakSet();
  }

  /** Call it where a transaction begins, the second try of one too, with the definitions that it sees. */
  defined(definitions: string): void {
    this.#held = new WeakSet();
    this.#mayNotify = false;
    if (this.#definitions === definitions) return;
    this.forget();
    this.#definitions = definitions;
  }

  /** The table, if it has been read and is held as far as it must be. */
  known(relation: Relation): Table | undefined {
    const table = this.#tables.get(relation);
    if (!table || !this.#isHeld(table)) return undefined;
    this.#mayNotify ||= table.runsCode;
    return table;
  }

  /** Call it inside a transaction. Throws BdrError when there is no such table here. */
  async find(relation: Relation): Promise<Table> {
    for (let reads = 0; reads < MOST_READS; reads++) {
      const table = await this.seek(relation);
      if (!table) throw missing(relation);
      if (await this.hold(table)) return table;
    }
    throw new BdrError('apply_failed', {
      message: `table ${displayName(relation)} could not be looked at, because definitions change all the time`,
    });
  }

  /** As `find`, outside of a transaction too: what is to be held is not held yet. Undefined when there is no such table here. */
  async seek(relation: Relation): Promise<Table | undefined> {
    const known = this.#tables.get(relation);
    if (known) return known;
    this.#definitions ??= await readDefinitions(this.#session);
    const local = await readRelation(this.#session, this.#isOfOwnLog ? relation.id : relation);
    if (!local) return undefined;
    const isUsers = !isOwn(relation);
    const [code] = isUsers ? await readUserCode(this.#session, [local.name]) : [];
    const policy = isUsers ? await readTablePolicy(this.#session, local.name) : undefined;
    const table = joinTable(relation, local, code && trustOf(code), policy);
    if (code && table.role !== undefined) refuseOpaqueKey(table, code);
    this.#tables.set(relation, table);
    if (table.columns.some((column) => column.missing)) this.#lacking.push(relation);
    return table;
  }

  /** Keeps a table as it is until the end of the open transaction; false when it may be another one by now, to be sought anew. */
  async hold(table: Table): Promise<boolean> {
    if (this.#tables.get(table.relation) !== table) return false;
    this.#mayNotify ||= table.runsCode;
    if (this.#isHeld(table)) return true;
    if (!(await holdDefinitions(this.#session, await this.heldFor([table])))) {
      this.forget();
      return false;
    }
    this.#held.add(table);
    return true;
  }

  /** Whether the transaction that is open may have said NOTIFY: by code of users, of its tables or in a command, or to its agent. */
  get mayNotify(): boolean {
    return this.#mayNotify;
  }

  /** It may, whatever its tables are. */
  willNotify(): void {
    this.#mayNotify = true;
  }

  /** What a transaction that uses these tables has to hold. */
  async heldFor(tables: readonly Table[]): Promise<Held> {
    this.#definitions ??= await readDefinitions(this.#session);
    const held = tables.filter(({ hold }) => hold !== 'nothing');
    return {
      tables: held.map(({ local }) => local.oid),
      casts: held.some(({ hold }) => hold === 'table and casts'),
      definitions: this.#definitions,
    };
  }

  /** Forgets all after an error, unless that says nothing about tables. */
  doubt(error: unknown): void {
    const isOfRows = isLockConflict(error) || hasSqlstate(error, ...OF_ROWS);
    if (!isOfRows) this.forget();
  }

  forget(): void {
    this.#tables = new WeakMap();
    this.#held = new WeakSet();
    this.#definitions = undefined;
  }

  #isHeld(table: Table): boolean {
    return table.hold === 'nothing' || this.#held.has(table);
  }
}

/**
 * Does beforehand what a session's first look at a table costs beyond the others: the server has its catalogs to read and its
 * statements to plan.
 */
export async function prepareLooks(session: Session): Promise<void> {
  const table = { schema: 'bdr', name: 'bdr_nodes' };
  await readRelation(session, table);
  await readUserCode(session, [table]);
  await readTablePolicy(session, table);
}

/** A superuser's table may run what it likes. */
function trustOf({ isOwnersTrusted, owner, places, hasUsersTypes }: UserCode): TableTrust {
  const runsCode = places.length > 0;
  if (isOwnersTrusted) return { role: undefined, hold: 'nothing', runsCode };
  return {
    role: runsCode ? owner : undefined,
    hold: hasUsersTypes ? 'table and casts' : 'table',
    runsCode,
  };
}

/** What is remembered of deletions is compared by key, apart from the table, and with the rights of apply. */
function refuseOpaqueKey(table: Table, { opaqueColumns }: UserCode): void {
  const column = table.key.columns.find(({ local }) => local && opaqueColumns.includes(local.name));
  if (!column || table.key.kind !== 'unique') return;
  const name = displayName(table.local.name);
  throw new BdrError('apply_failed', {
    message: `column "${column.name}" of the key of table ${name} is of a type that runs code of a role that is no superuser`,
    detail: 'Keys are compared with the rights of apply, which that code must not get.',
    hint: 'Let a superuser own the type, and what it is made of, or make the key of another type.',
  });
}

function missing(relation: Relation): BdrError {
  const name = displayName(relation);
  return new BdrError('apply_failed', {
    message: `table ${name} does not exist on this node`,
    detail: 'A peer has sent a change of it.',
    hint: 'Create it here with the same columns; the link goes on by itself.',
    sqlstate: '42P01',
  });
}
