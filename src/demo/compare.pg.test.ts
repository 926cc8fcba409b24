import { afterAll, beforeAll, expect, test } from 'vitest';
import { openNewDatabase } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Session } from '../postgres/session.ts';
import { waitUntilEqual } from './compare.ts';
import { DemoNode } from './demo-node.ts';

const SIGNAL = new AbortController().signal;

let server: EmbeddedServer;
let sessions: Session[];
let nodes: DemoNode[];

beforeAll(async () => {
  server = await startServer();
  const names = ['compare_1', 'compare_2'];
  sessions = [];
  for (const name of names) {
    const session = await openNewDatabase(server, name);
    await session.script('CREATE TABLE public.item (id int)');
    sessions.push(session);
  }
  nodes = names.map((name) => new DemoNode(name, server, name, {}));
});

afterAll(async () => {
  await Promise.all(sessions.map(async (session) => session.close()));
  await server.stop();
});

test("a role's table of bdr_guard, made where it is first needed, is no table of the user", async () => {
  await sessions[0]?.script(
    'CREATE SCHEMA bdr_guard; CREATE TABLE bdr_guard.role_10 (id int); INSERT INTO bdr_guard.role_10 VALUES (1)',
  );
  await expect(waitUntilEqual(nodes, SIGNAL, 200)).resolves.toEqual({ tables: 1, rows: 0 });
});

test('a row that is on one node only is told, with its table and both counts', async () => {
  await sessions[1]?.script('INSERT INTO public.item VALUES (7)');
  await expect(waitUntilEqual(nodes, SIGNAL, 200)).rejects.toMatchObject({
    message: 'table public.item is not equal on all nodes',
    detail: '0 rows on compare_1, 1 on compare_2. Only on compare_2: (7).',
  });
});
