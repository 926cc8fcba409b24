import { afterAll, beforeAll, expect, test } from 'vitest';
import { openNewDatabase } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Session } from '../postgres/session.ts';
import { purgeQueuedCommands, runQueuedCommand, type QueuedCommand } from './queued-commands.ts';

let server: EmbeddedServer;
let session: Session;
beforeAll(async () => {
  server = await startServer();
  session = await openNewDatabase(server, 'app');
  await session.script(
    'CREATE ROLE alice; CREATE SCHEMA hers AUTHORIZATION alice; SELECT bdr.internal_make_guard()',
  );
});
afterAll(async () => {
  await session.close();
  await server[Symbol.asyncDispose]();
});

const command = (more: Partial<QueuedCommand>): QueuedCommand => ({
  perpetrator: 'alice',
  tag: 'CREATE TABLE',
  text: '',
  position: null,
  isContext: false,
  searchPath: 'hers',
  settings: '{}',
  missing: null,
  ...more,
});

const run = (text: string, more: Partial<QueuedCommand> = {}) =>
  session.transaction(() => runQueuedCommand(session, command(more), text));

async function value(sql: string): Promise<string | undefined> {
  const [row] = await session.query<{ value: string }>(`SELECT (${sql})::text AS value`);
  return row?.value;
}

test('a command means what it meant where it was run, and leaves the session as it was', async () => {
  const before = await value(`current_setting('TimeZone') || current_setting('DateStyle')`);
  await run(`CREATE TABLE t (day date DEFAULT '1.2.2026', at timestamptz DEFAULT '2026-01-01')`, {
    settings: JSON.stringify({ DateStyle: 'German, DMY', TimeZone: 'Asia/Tokyo' }),
  });
  await session.script('INSERT INTO hers.t DEFAULT VALUES');
  expect(await value(`SELECT to_char(day, 'YYYY-MM-DD') FROM hers.t`)).toBe('2026-02-01');
  expect(await value(`SELECT at = '2025-12-31 15:00+00' FROM hers.t`)).toBe('true');
  expect(await value(`SELECT tableowner FROM pg_tables WHERE tablename = 't'`)).toBe('alice');
  expect(await value(`current_setting('TimeZone') || current_setting('DateStyle')`)).toBe(before);
});

test('its settings are those that are known, and not ways to other rights', async () => {
  await run('CREATE TABLE u ()', {
    settings: JSON.stringify({
      role: 'postgres',
      session_replication_role: 'origin',
      TimeZone: 'UTC',
    }),
  });
  expect(await value(`SELECT tableowner FROM pg_tables WHERE tablename = 'u'`)).toBe('alice');
});

test('rows that were there get the values that were sent', async () => {
  await run(
    `ALTER TABLE t ADD COLUMN made timestamptz DEFAULT now(), ADD COLUMN n integer DEFAULT 3`,
    {
      missing: JSON.stringify([
        { schema: 'hers', table: 't', column: 'made', value: '2001-02-03 04:05:06.789+00' },
      ]),
    },
  );
  expect(await value(`SELECT made = '2001-02-03 04:05:06.789+00' AND n = 3 FROM hers.t`)).toBe(
    'true',
  );
  await session.script('INSERT INTO hers.t DEFAULT VALUES');
  expect(await value(`SELECT count(*) FROM hers.t WHERE made > '2020-01-01'`)).toBe('1');
});

test.each([
  ['a role that is not there', 'CREATE TABLE v ()', { perpetrator: 'nobody' }, '42704'],
  ['rights that the role does not have', 'CREATE TABLE public.v ()', {}, '42501'],
  ['a role that would be another', 'SET ROLE postgres; CREATE TABLE public.v ()', {}, '42501'],
])('%s is an error, and nothing is done', async (_, text, more, code) => {
  await expect(run(text, more)).rejects.toMatchObject({ code });
  expect(await value(`to_regclass('public.v') IS NULL AND to_regclass('hers.v') IS NULL`)).toBe(
    'true',
  );
});

test('old commands are forgotten', async () => {
  await session.script(`
    INSERT INTO bdr.bdr_queued_commands (lsn, queued_at, perpetrator, command_tag, command, settings)
    SELECT '0/1', now() - age, 'alice', 'CREATE TABLE', 'CREATE TABLE x ()', '{}'
    FROM unnest('{1 minute,3 hours}'::interval[]) AS age`);
  await purgeQueuedCommands(session, 60 * 60 * 1000);
  expect(await value('SELECT count(*) FROM bdr.bdr_queued_commands')).toBe('1');
});
