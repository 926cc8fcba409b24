import { expect, test } from 'vitest';
import { findSystemPgDump, pgDumpEnvironment } from './pg-dump-system.ts';

test('pg_dump gets the parameters as variables and none of those that the process has', () => {
  const environment = { PATH: '/bin', PGHOST: 'elsewhere', PGSERVICE: 'x', HOME: undefined };
  const connection = {
    host: 'here',
    dbname: 'd',
    password: "it's",
    sslmode: 'require',
    keepalives: '1',
  };
  expect(pgDumpEnvironment(connection, environment)).toEqual({
    PATH: '/bin',
    PGHOST: 'here',
    PGDATABASE: 'd',
    PGPASSWORD: "it's",
    PGSSLMODE: 'require',
  });
});

test('a machine without pg_dump has none', async () => {
  expect(await findSystemPgDump({ PATH: '/nowhere' })).toBeUndefined();
});

test('looking for it can be aborted', async () => {
  await expect(findSystemPgDump({ PATH: '/nowhere' }, AbortSignal.abort())).rejects.toThrow(
    'aborted',
  );
});
