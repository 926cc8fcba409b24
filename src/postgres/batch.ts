import type pg from 'pg';
import { DriverQuery } from './driver-query.ts';
import type { Param, Session } from './session.ts';

/** A statement that `Session.prepare` has prepared, and its parameters. */
export interface BatchStatement {
  readonly name: string;
  readonly params: readonly Param[];
}

export interface BatchAnswer {
  /** How many statements were carried out, from the first on. */
  readonly done: number;
  /** Why the one after them was not; undefined when all were. */
  readonly error: Error | undefined;
}

/**
 * Sends statements at once, in one write, and waits for one answer. The server stops at the first that fails and passes over the
 * rest, transactions that begin behind it included: BEGIN and COMMIT may be among them (manual, "Pipelining"). Rows are not
 * looked at. Never rejects: a connection that is lost, before or on the way, is the answer's error.
 */
export function sendBatch(
  session: Session,
  statements: readonly BatchStatement[],
): Promise<BatchAnswer> {
  return new Promise((resolve) => {
    const query = new BatchQuery(statements, resolve);
    try {
      session.submit(query as unknown as pg.Submittable);
    } catch (error) {
      resolve({ done: 0, error: error as Error });
    }
  });
}

class BatchQuery extends DriverQuery {
  readonly #statements: readonly BatchStatement[];
  #done = 0;

  constructor(statements: readonly BatchStatement[], answer: (answer: BatchAnswer) => void) {
    super('', undefined, (error) => answer({ done: this.#done, error: error ?? undefined }));
    this.#statements = statements;
  }

  override submit(connection: pg.Connection): void {
    const { stream } = connection;
    stream.cork();
    for (const { name, params } of this.#statements) {
      connection.bind({ statement: name, values: params.map(wireValue) }, true);
      connection.execute(null, true);
    }
    connection.sync();
    stream.uncork();
  }

  override handleRowDescription(): void {}

  override handleDataRow(): void {}

  override handleCommandComplete(): void {
    this.#done += 1;
  }
}

function wireValue(param: Param): string | Buffer | null {
  return param === null || Buffer.isBuffer(param) ? param : String(param);
}
