import { expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import { PreparedStatements } from './prepared.ts';

test('no more statements are prepared than the limit, and the longest unused go first', async () => {
  await using server = await startServer();
  await using session = await openSession(server);
  const statements = new PreparedStatements(session, 3);
  const prepared = async () =>
    (
      await session.query<{ statement: string }>(
        `SELECT statement FROM pg_prepared_statements ORDER BY prepare_time`,
      )
    ).map(({ statement }) => statement.replace(' AS n', ''));
  const run = async (n: number) => statements.rows<{ n: string }>(`SELECT ${n} AS n`, []);
  for (const n of [1, 2, 3, 1, 4]) expect(await run(n)).toEqual([{ n: String(n) }]);
  expect(await prepared()).toEqual(['SELECT 1', 'SELECT 3', 'SELECT 4']);
  expect(await run(2)).toEqual([{ n: '2' }]);
  expect(await prepared()).toEqual(['SELECT 1', 'SELECT 4', 'SELECT 2']);
  // A statement that the server refused is not there to be given up.
  await expect(statements.rows('SELECT nonsense', [])).rejects.toMatchObject({ code: '42703' });
  for (const n of [5, 6, 7]) await run(n);
  expect(await prepared()).toEqual(['SELECT 5', 'SELECT 6', 'SELECT 7']);
});
