import { afterAll, beforeAll, expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import { readEnvironment } from '../config/environment.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { resolveConninfo } from './conninfo.ts';
import { Session } from './session.ts';

let server: EmbeddedServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server[Symbol.asyncDispose]());

test('what is set for a database or a role does not reach into sessions', async () => {
  await using first = await openSession(server);
  await first.script('CREATE DATABASE odd');
  await first.script(`
    CREATE ROLE lowly;
    ALTER DATABASE odd SET role = 'lowly';
    ALTER DATABASE odd SET temp_file_limit = 0;
    ALTER DATABASE odd SET work_mem = '64kB';
    ALTER DATABASE odd SET restrict_nonsystem_relation_kind = 'view';
    ALTER DATABASE odd SET exit_on_error = on;
    ALTER DATABASE odd SET default_transaction_read_only = on;
    ALTER DATABASE odd SET statement_timeout = '1ms';
    ALTER ROLE ALL IN DATABASE odd SET search_path = 'nowhere'`);
  await using session = await openSession(server, 'odd');
  const [row] = await session.query(`
    SELECT current_user = session_user AS self, current_setting('temp_file_limit') AS temp, current_setting('exit_on_error') AS exits,
           current_setting('transaction_read_only') AS reads, current_setting('statement_timeout') AS timeout,
           current_setting('search_path') AS path, current_setting('restrict_nonsystem_relation_kind') AS restricts`);
  expect(row).toEqual({
    self: 't',
    temp: '-1',
    exits: 'off',
    reads: 'off',
    timeout: '0',
    path: 'pg_catalog, pg_temp',
    restricts: '',
  });
});

// Both can keep a statement from being answered.
test.each([
  'statement_timeout = 1',
  `temp_file_limit = 0; ALTER DATABASE kind SET work_mem = '64kB'`,
])('target_session_attrs goes by what a session begins with, with %s', async (set) => {
  await using maintenance = await openSession(server);
  await maintenance.script('DROP DATABASE IF EXISTS kind');
  await maintenance.script('CREATE DATABASE kind');
  await maintenance.script(`
      ALTER DATABASE kind SET ${set};
      ALTER DATABASE kind SET default_transaction_read_only = on`);
  const connect = (kind: string) =>
    Session.connect(
      resolveConninfo(`${server.dsn('kind')} target_session_attrs=${kind}`, readEnvironment()),
      { applicationName: 'test' },
    );
  for (const kind of ['any', 'primary', 'read-only']) await (await connect(kind)).close();
  for (const kind of ['standby', 'read-write']) {
    await expect(connect(kind)).rejects.toThrow(
      /not of the kind that target_session_attrs asks for/,
    );
  }
});
