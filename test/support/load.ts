import { setTimeout as pause } from 'node:timers/promises';
import type { TestNode } from './cluster.ts';

/** Between two transactions, so that a test's machine can follow: what is tested is that nothing is lost, not how fast it is. */
const PACE_MS = 10;

/**
 * Writes to one node until it is stopped: rows of its own that are inserted and updated, and an entry in a table without a key
 * for each transaction, so that one that is applied twice or never shows. Transactions that a crash breaks are counted as
 * unknown: the client was not told whether they were committed.
 */
export class Load {
  readonly committed: string[] = [];
  readonly unknown: string[] = [];
  readonly #node: TestNode;
  readonly #done: Promise<void>;
  #stopping = false;

  constructor(node: TestNode) {
    this.#node = node;
    this.#done = this.#run();
  }

  static readonly SCHEMA = `
    CREATE TABLE counter (id text PRIMARY KEY, n integer NOT NULL);
    CREATE TABLE journal (entry text NOT NULL);
  `;

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#done;
  }

  async #run(): Promise<void> {
    for (let serial = 0; !this.#stopping;) {
      try {
        await using client = await this.#node.connect();
        while (!this.#stopping) {
          serial += 1;
          const entry = `${this.#node.name}-${serial}`;
          const row = `${this.#node.name}-${serial % 50}`;
          this.unknown.push(entry);
          await client.sql('BEGIN');
          await client.sql('INSERT INTO journal VALUES ($1)', [entry]);
          if (serial % 7 === 0) await client.sql('DELETE FROM counter WHERE id = $1', [row]);
          else {
            await client.sql(
              'INSERT INTO counter VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET n = counter.n + 1',
              [row],
            );
          }
          await client.sql('COMMIT');
          this.unknown.pop();
          this.committed.push(entry);
          await pause(PACE_MS);
        }
      } catch {
        // The server was crashed under us: that transaction stays in the list of unknown ones, and a new connection goes on.
      }
    }
  }
}
