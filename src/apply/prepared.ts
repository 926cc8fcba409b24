import { sendBatch, type BatchAnswer, type BatchStatement } from '../postgres/batch.ts';
import type { Param, Session } from '../postgres/session.ts';

/** A prepared statement costs the server tens of kilobytes; a database may have thousands of tables. */
const MOST_PREPARED = 500;

/** A statement's text and its parameters. */
export interface Statement {
  readonly sql: string;
  readonly params: readonly Param[];
}

/** Runs statements of a session that come again and again: each text is prepared once, the longest unused are given up. */
export class PreparedStatements {
  readonly #session: Session;
  readonly #limit: number;
  /** Names by text, the longest unused first. */
  readonly #names = new Map<string, string>();
  #made = 0;

  constructor(session: Session, limit = MOST_PREPARED) {
    this.#session = session;
    this.#limit = limit;
  }

  async rows<Row extends object>(sql: string, params: readonly Param[]): Promise<Row[]> {
    return (await this.#session.execute<Row>(this.#nameOf(sql), sql, params)).rows;
  }

  /** Returns how many rows the statement took. It is sent before this returns: statements run in the order of the calls. */
  async run(sql: string, params: readonly Param[]): Promise<number> {
    return (await this.#session.execute(this.#nameOf(sql), sql, params)).count;
  }

  /** As `run`, for a statement that takes one row or none. */
  async takes(sql: string, params: readonly Param[]): Promise<boolean> {
    return (await this.run(sql, params)) > 0;
  }

  /**
   * Sends statements as one batch, see `sendBatch`, once all of them are prepared; throws when one cannot be. If there are more
   * different ones than can be kept, the server stops at one that was given up.
   */
  async send(statements: readonly Statement[]): Promise<{ readonly answer: Promise<BatchAnswer> }> {
    const preparing = new Map<string, Promise<void>>();
    const batch = statements.map(({ sql, params }): BatchStatement => {
      const name = this.#nameOf(sql);
      if (!this.#session.isPrepared(name) && !preparing.has(name)) {
        preparing.set(name, this.#session.prepare(name, sql));
      }
      return { name, params };
    });
    await Promise.all(preparing.values());
    return { answer: sendBatch(this.#session, batch) };
  }

  #nameOf(sql: string): string {
    const name = this.#names.get(sql) ?? `bdr_${++this.#made}`;
    this.#names.delete(sql);
    this.#names.set(sql, name);
    if (this.#names.size > this.#limit) {
      const [[oldest, unused]] = [...this.#names.entries()].slice(0, 1) as [[string, string]];
      this.#names.delete(oldest);
      // In its place in the row of statements. In a transaction that has failed it stays prepared, under a name never used again.
      this.#session.unprepare(unused).catch(() => undefined);
    }
    return name;
  }
}
