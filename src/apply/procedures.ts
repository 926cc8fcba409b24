import { formatLsn, type Lsn } from '../base/lsn.ts';
import type { Step } from '../catalog/ahead.ts';
import { sendBatch, type BatchAnswer } from '../postgres/batch.ts';
import type { Session } from '../postgres/session.ts';
import { smallintArray, valueArray } from './arrays.ts';
import { callSql, dropSql, procedureSql } from './procedure.ts';

/** A procedure takes some time to compile, and its plans some memory. */
const MOST_STEPS = 128;
/** A session has so many of them. */
const MOST_PROCEDURES = 8;

interface Procedure {
  readonly name: string;
  /** What it can do: the number of each step by its text. */
  readonly numbers: ReadonlyMap<string, number>;
}

/**
 * Runs steps of plpgsql in a session, many in one call, by temporary procedures: what a procedure has once planned is planned for
 * the session's life. One is made for the steps that are met, together with those of the one before it, as far as they fit.
 */
export class Procedures {
  readonly #session: Session;
  /** The last used first. */
  #procedures: Procedure[] = [];
  #made = 0;

  constructor(session: Session) {
    this.#session = session;
  }

  /**
   * Sends a call that takes the steps in order. Outside of a transaction: the steps commit. `after` is where the session's origin
   * must stand then, or nothing is done. Throws when the procedure cannot be made.
   */
  async call(
    steps: readonly Step[],
    after: Lsn | undefined,
  ): Promise<{ readonly answer: Promise<BatchAnswer> }> {
    const { name, numbers } = await this.#procedureFor(steps);
    const values: (string | null)[] = [];
    for (const { params } of steps) {
      for (const param of params) values.push(param === null ? null : String(param));
    }
    const taken = smallintArray(steps.map(({ sql }) => numbers.get(sql) ?? -1));
    const position = after === undefined ? null : formatLsn(after);
    const params = [position, taken, valueArray(values)];
    return { answer: sendBatch(this.#session, [{ name, params }]) };
  }

  async #procedureFor(steps: readonly Step[]): Promise<Procedure> {
    const texts = new Set(steps.map(({ sql }) => sql));
    const known = this.#procedures.find(({ numbers }) => isSubset(texts, numbers));
    const procedure = known ?? (await this.#make(texts));
    if (this.#procedures[0] !== procedure) {
      this.#procedures = [procedure, ...this.#procedures.filter((other) => other !== procedure)];
    }
    return procedure;
  }

  async #make(texts: ReadonlySet<string>): Promise<Procedure> {
    const before = this.#procedures[0]?.numbers.keys() ?? [];
    const all = new Set([...before, ...texts]);
    const list = [...(all.size > MOST_STEPS ? texts : all)];
    const name = `bdr_apply_${++this.#made}`;
    const unused = this.#procedures.splice(MOST_PROCEDURES - 1);
    for (const { name: other } of unused) {
      await this.#session.unprepare(other);
      await this.#session.script(dropSql(other));
    }
    await this.#session.script(procedureSql(name, list));
    await this.#session.prepare(name, callSql(name));
    return { name, numbers: new Map(list.map((text, number) => [text, number])) };
  }
}

function isSubset(texts: ReadonlySet<string>, numbers: ReadonlyMap<string, number>): boolean {
  for (const text of texts) if (!numbers.has(text)) return false;
  return true;
}
