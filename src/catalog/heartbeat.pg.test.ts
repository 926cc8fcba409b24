import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openNewDatabase, openSession } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import { readEnvironment } from '../config/environment.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { markAgentSession } from '../postgres/advisory.ts';
import { resolveConninfo } from '../postgres/conninfo.ts';
import { Session } from '../postgres/session.ts';

// Who holds a watermark back: whoever may still write to the node's stream, and nobody else (DESIGN 4.5).

describe.each([14, 18])('the oldest transaction of a heartbeat, on PostgreSQL %i', (major) => {
  let server: EmbeddedServer;
  let session: Session;
  beforeAll(async () => {
    server = await startServer({ major, settings: { max_prepared_transactions: 2 } });
    session = await openNewDatabase(server, 'app');
    await session.script(`
      CREATE ROLE mallory LOGIN;
      CREATE TABLE public.item (id integer);
      GRANT INSERT ON public.item TO mallory`);
    await session.script('CREATE DATABASE elsewhere');
  });
  afterAll(async () => {
    await session.close();
    await server[Symbol.asyncDispose]();
  });

  /** Whether a heartbeat that is made now says that nothing older than itself runs. */
  async function isFree(): Promise<boolean> {
    return session.transaction(async () => {
      const [row] = await session.query<{ free: string }>(
        `SELECT bdr.internal_oldest_writer(pg_current_snapshot(), x.id) = x.id AS free
         FROM (SELECT pg_current_xact_id() AS id) AS x`,
      );
      return row?.free === 't';
    });
  }

  const open = (applicationName: string, database = 'app') =>
    Session.connect(resolveConninfo(server.dsn(database), readEnvironment()), { applicationName });

  /** Opens a transaction that has an id, and lets anuser one pass it: only then is it one that a snapshot shows as running. */
  async function writes(writer: Session): Promise<void> {
    await writer.script('BEGIN; SELECT pg_current_xact_id()');
    await session.script('SELECT pg_current_xact_id()');
  }

  test('is its own where nobody writes', async () => {
    expect(await isFree()).toBe(true);
  });

  test('is that of a user, whatever he calls his session', async () => {
    await using user = await openAs('mallory', 'node2:apply');
    // Any role may take the agent's mark.
    await markAgentSession(user);
    await writes(user);
    expect(await isFree()).toBe(false);
    await user.script('ROLLBACK');
    expect(await isFree()).toBe(true);
  });

  test('is that of a session of the agent that does not apply, and of an unmarked one', async () => {
    await using agent = await open('node1:join');
    await markAgentSession(agent);
    await writes(agent);
    expect(await isFree()).toBe(false);
    await agent.script('ROLLBACK');
    await using unmarked = await open('node2:apply');
    await writes(unmarked);
    expect(await isFree()).toBe(false);
    await unmarked.script('ROLLBACK');
  });

  test('is not that of a session that applies, nor of anuser database', async () => {
    await using apply = await open('node2:apply');
    await markAgentSession(apply);
    await writes(apply);
    await using elsewhere = await openSession(server, 'elsewhere');
    await writes(elsewhere);
    expect(await isFree()).toBe(true);
    await using user = await open('psql');
    await writes(user);
    expect(await isFree()).toBe(false);
    for (const one of [apply, elsewhere, user]) await one.script('ROLLBACK');
  });

  test('is that of a prepared transaction, which no session shows', async () => {
    await using user = await open('psql');
    await user.script(`BEGIN; INSERT INTO public.item VALUES (1); PREPARE TRANSACTION 'held'`);
    expect(await isFree()).toBe(false);
    await user.script(`ROLLBACK PREPARED 'held'`);
    expect(await isFree()).toBe(true);
  });

  function openAs(user: string, applicationName: string): Promise<Session> {
    const dsn = `${server.dsn('app').replace(/user=\S+/, '')} user=${user}`;
    return Session.connect(resolveConninfo(dsn, readEnvironment()), { applicationName });
  }
});
