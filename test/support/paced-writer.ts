import { setTimeout as pause } from 'node:timers/promises';
import type { TestNode } from './cluster.ts';

/** Between two transactions: five nodes of a small machine must apply those of all writers, with their conflicts. */
const PACE_MS = 100;

/**
 * Writes to one node at a rate that apply keeps up with, until it is stopped: an entry in a table without a key for each
 * transaction, so that one that is applied twice or never shows, and a change of one of a few rows that writers on other nodes
 * change at the same time. A transaction that a crash breaks counts as not committed, though it may be.
 */
export class PacedWriter {
  readonly committed: string[] = [];
  readonly #node: TestNode;
  readonly #done: Promise<void>;
  #stopping = false;
  #serial = 0;

  static readonly SCHEMA = `
    CREATE TABLE journal (entry text NOT NULL);
    CREATE TABLE shared (id integer PRIMARY KEY, v text NOT NULL, note text);
    INSERT INTO shared SELECT g, 'start', 'note ' || g FROM generate_series(1, 20) AS g;
  `;

  constructor(node: TestNode) {
    this.#node = node;
    this.#done = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#done;
  }

  async #run(): Promise<void> {
    while (!this.#stopping) {
      try {
        await using client = await this.#node.connect();
        while (!this.#stopping) {
          this.#serial += 1;
          const entry = `${this.#node.name}-${this.#serial}`;
          await client.sql('BEGIN');
          await client.sql('INSERT INTO journal VALUES ($1)', [entry]);
          await client.sql(...this.#change(entry));
          await client.sql('COMMIT');
          this.committed.push(entry);
          await pause(PACE_MS);
        }
      } catch {
        // The server was crashed under us: a new connection goes on.
        await pause(PACE_MS);
      }
    }
  }

  #change(v: string): [string, unknown[]] {
    const id = (this.#serial * 7) % 20;
    switch (this.#serial % 4) {
      case 0:
        return ['DELETE FROM shared WHERE id = $1', [id]];
      case 1:
        return [
          `INSERT INTO shared VALUES ($1, $2, 'again') ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v`,
          [id, v],
        ];
      default:
        return ['UPDATE shared SET v = $2 WHERE id = $1', [id, v]];
    }
  }
}
