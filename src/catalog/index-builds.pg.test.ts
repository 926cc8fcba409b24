import { afterAll, beforeAll, expect, test } from 'vitest';
import { openNewDatabase } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Session } from '../postgres/session.ts';
import { copyIndexBuilds, putOffIndex, readIndexBuilds } from './index-builds.ts';
import type { QueuedCommand } from './queued-commands.ts';

let server: EmbeddedServer;
let session: Session;
beforeAll(async () => {
  server = await startServer();
  session = await openNewDatabase(server, 'app');
  await session.script('CREATE ROLE alice; SELECT bdr.internal_make_guard()');
});
afterAll(async () => {
  await session.close();
  await server[Symbol.asyncDispose]();
});

const command = (perpetrator: string): QueuedCommand => ({
  perpetrator,
  tag: 'CREATE INDEX',
  text: '',
  position: 1,
  isContext: false,
  searchPath: '"$user", hers',
  settings: '{"DateStyle": "German, DMY"}',
  missing: null,
});
const index = (name: string, isPlain: boolean) => ({
  text: `CREATE INDEX CONCURRENTLY ${name} ON t (a)`,
  table: '"t"',
  index: name,
  isPlain,
});

test("what an ordinary role's index computes is not left to a session that has other rights", async () => {
  const isPutOff = (role: string, isPlain: boolean) =>
    putOffIndex(session, command(role), index(`of_${role}`, isPlain));
  expect(await isPutOff('alice', false)).toBe(false);
  expect(await isPutOff('nobody', true)).toBe(false);
  expect(await isPutOff('alice', true)).toBe(true);
  expect(await isPutOff('postgres', false)).toBe(true);
  expect(await readIndexBuilds(session)).toMatchObject([
    { perpetrator: 'alice', index: 'of_alice', searchPath: '"$user", hers' },
    { perpetrator: 'postgres', index: 'of_postgres', table: '"t"' },
  ]);
});

test('a node that joins takes over what its source has still to build, also when it begins its copy again', async () => {
  await using joining = await openNewDatabase(server, 'joining');
  for (let time = 0; time < 2; time++) await copyIndexBuilds(session, joining);
  expect(await readIndexBuilds(joining)).toEqual(await readIndexBuilds(session));
  await session.script('DELETE FROM bdr.index_build');
  await copyIndexBuilds(session, joining);
  expect(await readIndexBuilds(joining)).toEqual([]);
});
