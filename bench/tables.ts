import type { BenchDatabase } from './database.ts';

/** A table of the bench, in schema public. */
export interface Table {
  readonly name: string;
  readonly create: string;
  /** Its rows before the first run. */
  readonly fill?: string;
}

export async function createTables(
  database: BenchDatabase,
  tables: readonly Table[],
): Promise<void> {
  for (const { create } of tables) await database.query(create);
}

/** Makes tables with the rows that they have before the first run. */
export async function createFilledTables(
  database: BenchDatabase,
  tables: readonly Table[],
): Promise<void> {
  await createTables(database, tables);
  for (const { fill } of tables) if (fill !== undefined) await database.query(fill);
}

/** Does what autovacuum would do at some time of its own choice. */
export async function vacuum(database: BenchDatabase, tables: readonly string[]): Promise<void> {
  for (const table of tables) await database.query(`VACUUM (ANALYZE) public.${table}`);
}
