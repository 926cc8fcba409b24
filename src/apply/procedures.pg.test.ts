import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import type { Lsn } from '../base/lsn.ts';
import type { PgTime } from '../base/pg-time.ts';
import { leaveStep } from '../catalog/ahead.ts';
import { install } from '../catalog/install.ts';
import { readSqlFiles } from '../catalog/sql-files.ts';
import { sqlDir } from '../config/paths.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { ensureOrigin, resetOrigin, setUpOrigin } from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';
import { Procedures } from './procedures.ts';

let server: EmbeddedServer;
let session: Session;
let procedures: Procedures;

beforeAll(async () => {
  server = await startServer();
  session = await openSession(server, 'postgres', { pipeline: true });
  procedures = new Procedures(session);
  await install(session, readSqlFiles(sqlDir()));
  await session.script(`
    CREATE TABLE public.item (id integer PRIMARY KEY, "a'b$1""c" text, bdr_values text, bdr_used text);`);
  await ensureOrigin(session, 'provider');
  await setUpOrigin(session, 'provider');
});
afterAll(async () => {
  await session?.close();
  await server?.[Symbol.asyncDispose]();
});
beforeEach(async () => {
  await session.script('TRUNCATE public.item');
});

const INSERT = `INSERT INTO public.item (id, "a'b$1""c", bdr_values, bdr_used) VALUES ($1::integer, $2, $3, $4);`;
const insert = (id: number, a: string | null = null, b: string | null = null) => ({
  sql: INSERT,
  params: [id, a, b, 'x'],
});
const commit = (position: number) =>
  leaveStep({ tables: [], position: position as Lsn, time: 0 as PgTime, mayNotify: false });

async function called(steps: Parameters<Procedures['call']>[0], after?: number) {
  const { answer } = await procedures.call(steps, after as Lsn | undefined);
  return (await answer).error;
}

async function rows() {
  const found = await session.query<Record<string, string | null>>(
    `SELECT id, "a'b$1""c" AS a, bdr_values AS b, age(xmin) AS age FROM public.item ORDER BY id`,
  );
  return found.map(({ id, a, b }) => [Number(id), a, b]);
}

test('steps are taken in their order, each with its values, and commit where they say', async () => {
  const odd = `'"\\{}, $1 NULL ü 😀`;
  const error = await called([
    insert(1, odd, 'NULL'),
    insert(2, null, ''),
    commit(0x100),
    insert(3, '{', '"'),
    commit(0x200),
  ]);
  expect(error).toBeUndefined();
  expect(await rows()).toEqual([
    [1, odd, 'NULL'],
    [2, null, ''],
    [3, '{', '"'],
  ]);
  const [ids] = await session.query<{ n: string }>(
    'SELECT count(DISTINCT xmin::text) AS n FROM public.item',
  );
  expect(ids?.n).toBe('2');
  expect(await resetOrigin(session)).toBe(0x200);
});

test('a step that fails undoes its transaction, and the origin stays where the one before has left it', async () => {
  const error = await called([insert(1), commit(0x300), insert(2), insert(1), commit(0x400)]);
  expect(error).toMatchObject({ code: '23505' });
  expect(await rows()).toEqual([[1, null, null]]);
  expect(await resetOrigin(session)).toBe(0x300);
});

test('a call that was sent behind one that failed does nothing', async () => {
  const first = await procedures.call(
    [insert(1), commit(0x500), insert(1), commit(0x600)],
    undefined,
  );
  const second = await procedures.call([insert(3), commit(0x700)], 0x600 as Lsn);
  expect((await first.answer).error).toMatchObject({ code: '23505' });
  expect((await second.answer).error).toMatchObject({ code: 'BDR01', detail: 'turn' });
  expect(await rows()).toEqual([[1, null, null]]);
  expect(await called([insert(3), commit(0x700)], 0x500)).toBeUndefined();
  expect(await resetOrigin(session)).toBe(0x700);
});

test('what a session has made stays bounded, whatever it is asked for', async () => {
  const made = async () => {
    const [row] = await session.query<{ procedures: string; statements: string }>(
      `SELECT (SELECT count(*) FROM pg_proc WHERE proname LIKE 'bdr_apply_%' AND pronamespace = pg_my_temp_schema()) AS procedures,
              (SELECT count(*) FROM pg_prepared_statements) AS statements`,
    );
    return [Number(row?.procedures), Number(row?.statements)];
  };
  const before = await made();
  const other = (n: number) => ({ sql: `${INSERT} -- ${n}\n`, params: insert(n).params });
  // As many as fit share one procedure with those before them.
  for (let n = 0; n < 20; n++) expect(await called([other(n), commit(0x800)])).toBeUndefined();
  await called([other(100), commit(0x800)]);
  expect(await made()).toEqual([8, 8]);
  const many = Array.from({ length: 300 }, (_, n) => other(1000 + n));
  for (const step of many) await called([step, commit(0x900)]);
  expect(await made()).toEqual([8, 8]);
  expect(
    await called([
      ...many.map(({ sql }, n) => ({ sql, params: insert(5000 + n).params })),
      commit(0x900),
    ]),
  ).toBeUndefined();
  expect(await made()).toEqual([8, 8]);
  expect(before[0]).toBeLessThanOrEqual(8);
});

test('what cannot be made is an error of the call, and no harm to the next', async () => {
  await expect(called([{ sql: 'THIS IS NOT SQL', params: [] }])).rejects.toMatchObject({
    code: '42601',
  });
  expect(await called([insert(1), commit(0xa00)])).toBeUndefined();
});
