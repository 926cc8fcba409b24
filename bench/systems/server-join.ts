import { quoteLiteral } from '../../src/base/names.ts';
import { until } from '../../src/demo/until.ts';
import type { BenchDatabase } from '../database.ts';
import type { Joiner } from './system.ts';
import { createTables, createFilledTables, type Table } from '../tables.ts';

const COPY_MS = 15 * 60_000;

export async function publish(database: BenchDatabase): Promise<void> {
  await database.query(`CREATE PUBLICATION bench FOR ALL TABLES`);
}

/** A subscription as two active nodes need it, and as fast as the server can. */
export async function subscribe(
  subscriber: BenchDatabase,
  provider: BenchDatabase,
  name: string,
  copyData: boolean,
): Promise<void> {
  await subscriber.query(/* sql */ `
    CREATE SUBSCRIPTION ${name} CONNECTION ${quoteLiteral(provider.dsn)} PUBLICATION bench
    WITH (origin = none, streaming = parallel, binary = true, synchronous_commit = off, copy_data = ${copyData})
  `);
}

/** Subscribes and returns when all tables are copied. */
export async function copyByTablesync(
  subscriber: BenchDatabase,
  provider: BenchDatabase,
  name: string,
): Promise<void> {
  await subscribe(subscriber, provider, name, true);
  await until(
    `tablesync of ${name} is done`,
    async () => {
      const [row] = await subscriber.query<{ done: string }>(
        `SELECT bool_and(srsubstate = 'r') AS done FROM pg_subscription_rel`,
      );
      return row?.done === 't';
    },
    { deadlineMs: COPY_MS },
  );
}

/** Copies a database by tablesync. */
export class ServerJoiner implements Joiner {
  readonly source: BenchDatabase;
  #tables: readonly Table[] = [];

  constructor(source: BenchDatabase) {
    this.source = source;
  }

  async prepare(tables: readonly Table[]): Promise<void> {
    await this.source.create();
    await createFilledTables(this.source, tables);
    await publish(this.source);
    this.#tables = tables;
  }

  async join(copy: BenchDatabase): Promise<void> {
    await createTables(copy, this.#tables);
    await publish(copy);
    await copyByTablesync(copy, this.source, `${copy.name}_from_source`);
    await subscribe(this.source, copy, `${copy.name}_to_source`, false);
  }

  async undo(copy: BenchDatabase): Promise<void> {
    await this.source.query(`DROP SUBSCRIPTION ${copy.name}_to_source`);
    await copy.query(`DROP SUBSCRIPTION ${copy.name}_from_source`);
    await copy.drop();
  }
}
