import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openNewDatabase, openSession } from '../../test/support/agents.ts';
import { until } from '../../test/support/cluster.ts';
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
    openSession(server, database, { applicationName });

  /** Opens a transaction that has an id, and lets another one pass it: only then is it one that a snapshot shows as running. */
  async function writes(writer: Session): Promise<void> {
    await writer.script('BEGIN; SELECT pg_current_xact_id()');
    await session.script('SELECT pg_current_xact_id()');
  }

  /** As `writes`, in the middle of a statement. What is returned ends it, and rolls back. */
  async function works(writer: Session): Promise<() => Promise<void>> {
    await writes(writer);
    return begins(writer, session);
  }

  /** Begins a statement, and returns once `observer` sees that. What is returned ends it, and rolls back. */
  async function begins(writer: Session, observer: Session): Promise<() => Promise<void>> {
    const ended = writer.query('SELECT pg_sleep(1000)').catch(() => undefined);
    await until('the statement to run', async () => (await stateOf(writer, observer)) === 'active');
    return async () => {
      await observer.query('SELECT pg_cancel_backend($1)', [writer.pid]);
      await ended;
      await writer.script('ROLLBACK');
    };
  }

  async function stateOf(writer: Session, observer: Session): Promise<string | undefined> {
    const [row] = await observer.query<{ state: string }>(
      'SELECT state FROM pg_stat_activity WHERE pid = $1',
      [writer.pid],
    );
    return row?.state;
  }

  test('is its own where nobody writes', async () => {
    expect(await isFree()).toBe(true);
  });

  test('is that of a user, whatever he calls his session', async () => {
    await using user = await openAs('mallory', 'node2:apply');
    // Any role may take the agent's mark.
    await markAgentSession(user);
    const end = await works(user);
    expect(await isFree()).toBe(false);
    await end();
    expect(await isFree()).toBe(true);
  });

  test('is that of a session of the agent that does not apply, and of an unmarked one', async () => {
    await using agent = await open('node1:join');
    await markAgentSession(agent);
    const end = await works(agent);
    expect(await isFree()).toBe(false);
    await end();
    await using unmarked = await open('node2:apply');
    const endUnmarked = await works(unmarked);
    expect(await isFree()).toBe(false);
    await endUnmarked();
  });

  test('is not that of a session that applies, nor of another database', async () => {
    await using apply = await open('node2:apply');
    await markAgentSession(apply);
    const ends = [await works(apply)];
    await using elsewhere = await openSession(server, 'elsewhere');
    ends.push(await works(elsewhere));
    expect(await isFree()).toBe(true);
    await using user = await open('psql');
    ends.push(await works(user));
    expect(await isFree()).toBe(false);
    for (const end of ends) await end();
  });

  // A session says that it works before it begins to commit, and takes the commit's time after that.
  test('is not that of a client who is seen idle in his transaction, until he works again', async () => {
    await using user = await open('psql');
    await writes(user);
    expect(await isFree()).toBe(true);
    await user.script('SELECT 1/0').catch(() => undefined);
    // The error comes a moment before the session is idle.
    await until(
      'the client to be idle again',
      async () => (await stateOf(user, session)) === 'idle in transaction (aborted)',
    );
    expect(await isFree()).toBe(true);
    await user.script('ROLLBACK');
    const end = await works(user);
    expect(await isFree()).toBe(false);
    await end();
  });

  test('is that of a client who was idle when sessions were looked at earlier in the transaction', async () => {
    await session.script(`
      INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid)
      SELECT sysid, timeline, dboid FROM bdr.bdr_get_local_nodeid() ON CONFLICT DO NOTHING;
      SELECT bdr.internal_renew_secret();
      CREATE PUBLICATION beats`);
    await session.script(`SELECT pg_create_logical_replication_slot('beats', 'pgoutput')`);
    await using user = await open('psql');
    await writes(user);
    await session.script('BEGIN');
    const seen = await session.query(
      `SELECT FROM pg_stat_activity WHERE pid = $1 AND state LIKE 'idle in%'`,
      [user.pid],
    );
    expect(seen).toHaveLength(1);
    await using other = await open('other');
    const end = await begins(user, other);
    await session.script(`SELECT bdr.internal_heartbeat('{}'); COMMIT`);
    await end();
    const [beat] = await session.query<{ own: string }>(`
      SELECT m[1]::bigint = m[2]::bigint AS own
      FROM pg_logical_slot_get_binary_changes('beats', NULL, NULL, 'proto_version', '1', 'publication_names', 'beats', 'messages', 'true') AS c,
           regexp_match(encode(c.data, 'escape'), '"xid": ([0-9]+), "xmin": ([0-9]+)') AS m
      WHERE m IS NOT NULL`);
    await session.script(`SELECT pg_drop_replication_slot('beats')`);
    expect(beat?.own).toBe('f');
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
