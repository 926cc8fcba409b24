import { afterAll, beforeAll, expect, test } from 'vitest';
import type { EmbeddedServer } from '../src/embedded/server.ts';
import { startServer } from '../test/support/servers.ts';
import { compareTables } from './compare.ts';
import { BenchDatabase } from './database.ts';

let server: EmbeddedServer;
let a: BenchDatabase;
let b: BenchDatabase;

beforeAll(async () => {
  server = await startServer();
  const { signal } = new AbortController();
  a = new BenchDatabase(server, 'a', signal);
  b = new BenchDatabase(server, 'b', signal);
  for (const database of [a, b]) {
    await database.create();
    await database.query(`CREATE TABLE public.t (id integer, text text)`);
  }
  await a.query(`INSERT INTO public.t VALUES (1, 'one'), (1, 'one'), (2, NULL)`);
});
afterAll(async () => {
  await a.close();
  await b.close();
  await server[Symbol.asyncDispose]();
});

async function fillB(rows: string): Promise<void> {
  await b.query(`TRUNCATE public.t`);
  await b.query(`INSERT INTO public.t VALUES ${rows}`);
}

test('rows are equal in any order', async () => {
  await fillB(`(2, NULL), (1, 'one'), (1, 'one')`);
  expect(await compareTables(a, b, ['t'])).toBe(3);
});

test('a row that is missing, changed, or there a second time is found', async () => {
  for (const rows of [
    `(1, 'one'), (2, NULL)`,
    `(1, 'one'), (1, 'one'), (2, '')`,
    `(1, 'one'), (2, NULL), (2, NULL)`,
  ]) {
    await fillB(rows);
    await expect(compareTables(a, b, ['t'])).rejects.toThrow(/table t differs/);
  }
});
