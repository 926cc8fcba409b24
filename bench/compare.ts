import { quoteQualified } from '../src/base/names.ts';
import type { BenchDatabase } from './database.ts';

interface Digest {
  readonly rows: number;
  readonly hash: string;
}

/**
 * Compares tables of two databases by a hash of 128 bits of every row; throws where they differ. Returns how many rows they
 * have.
 */
export async function compareTables(
  a: BenchDatabase,
  b: BenchDatabase,
  tables: readonly string[],
): Promise<number> {
  let rows = 0;
  for (const table of tables) {
    const [inA, inB] = await Promise.all([digest(a, table), digest(b, table)]);
    if (inA.rows !== inB.rows || inA.hash !== inB.hash) {
      throw new Error(
        `table ${table} differs between A and B, in database ${b.name}: ${inA.rows} rows, ${inA.hash}, and ${inB.rows} rows, ${inB.hash}`,
      );
    }
    rows += inA.rows;
  }
  return rows;
}

async function digest(database: BenchDatabase, table: string): Promise<Digest> {
  // Sums do not depend on the order of the rows, and unlike exclusive or they see a row that is there twice.
  const [row] = await database.query<{ rows: string; hash: string }>(/* sql */ `
    SELECT count(*) AS rows,
           format('hash %s/%s', sum(hashtextextended(t::text, 0)), sum(hashtextextended(t::text, 1))) AS hash
    FROM ${quoteQualified({ schema: 'public', name: table })} AS t
  `);
  return { rows: Number(row?.rows), hash: row?.hash ?? '' };
}
