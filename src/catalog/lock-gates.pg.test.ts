import { afterAll, beforeAll, expect, test } from 'vitest';
import { openNewDatabase, openSession } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { markAgentSession, sayGatesClosed, sayGatesOpen } from '../postgres/advisory.ts';
import type { Session } from '../postgres/session.ts';
import { makeGates, readGates, removeGate } from './lock-gates.ts';

const ITEM = { schema: 'public', name: 'item' };

let server: EmbeddedServer;
let agent: Session;
beforeAll(async () => {
  server = await startServer();
  agent = await openNewDatabase(server, 'app');
  await markAgentSession(agent);
  // Gates hold back nobody in a database that is no node.
  await agent.script(`
    CREATE TABLE public.item (id integer);
    INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid)
    VALUES ('7', 1, 1)`);
});
afterAll(async () => {
  await agent.close();
  await server[Symbol.asyncDispose]();
});

test('whoever waits at a gate while it is opened and taken away goes on', async () => {
  let written = 0;
  // Some of them look at the gate just before it is open, and at who waits for their table just after. A session that is new takes
  // longest from the one to the other.
  for (let round = 0; round < 40; round++) {
    await makeGates(agent, [ITEM], { areOpen: false });
    await sayGatesClosed(agent);
    const writers = await Promise.all([1, 2, 3, 4].map(() => openSession(server, 'app')));
    const writing = Promise.all(
      writers.map((writer) => writer.query('INSERT INTO public.item VALUES (1)')),
    );
    await Promise.all([writing, sayGatesOpen(agent).then(() => removeGate(agent, 'public.item'))]);
    written += writers.length;
    for (const writer of writers) await writer.close();
  }
  expect(await readGates(agent)).toEqual([]);
  const [row] = await agent.query<{ count: string }>('SELECT count(*) FROM public.item');
  expect(row?.count).toBe(String(written));
});
