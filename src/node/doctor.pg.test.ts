import { describe, expect, test } from 'vitest';
import {
  createGroup,
  joinGroup,
  openNewDatabase,
  openSession,
  startAgent,
} from '../../test/support/agents.ts';
import { until } from '../../test/support/cluster.ts';
import { startServer } from '../../test/support/servers.ts';
import { readEnvironment } from '../config/environment.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { resolveConninfo } from '../postgres/conninfo.ts';
import { readDoctorTables } from '../postgres/doctor-tables.ts';
import type { Session } from '../postgres/session.ts';
import { examine } from './doctor.ts';
import type { Finding } from './finding.ts';

/** What the doctor says of a database, without what is well. */
async function complaints(server: EmbeddedServer, session: Session): Promise<Finding[]> {
  const [here] = await session.query<{ name: string }>('SELECT current_database() AS name');
  const environment = readEnvironment();
  const conninfo = resolveConninfo(server.dsn(here?.name ?? ''), environment);
  const found = await examine(session, { conninfo, environment, latestMigration: 1 });
  return found.filter(({ level }) => level === 'warning' || level === 'error');
}
const shown = (found: readonly Finding[]) => found.map(({ level, check }) => `${level} ${check}`);

/** Runs what the doctor says, comments and all. */
async function mend(session: Session, found: readonly Finding[]): Promise<void> {
  for (const { fix } of found) {
    for (const line of fix?.split('\n') ?? []) await session.script(line);
  }
}

describe.each([14, 18])('on PostgreSQL %i', (major) => {
  test('a server as it comes lacks much, and what the doctor says mends it', async () => {
    await using server = await startServer({
      major,
      settings: {
        wal_level: 'replica',
        track_commit_timestamp: false,
        max_replication_slots: 0,
        max_wal_senders: 0,
        wal_sender_timeout: 0,
        ...(major >= 18 ? { max_active_replication_origins: 0 } : {}),
      },
    });
    {
      await using session = await openNewDatabase(server, 'app');
      const found = await complaints(server, session);
      expect(shown(found)).toEqual([
        'error wal_level',
        'error track_commit_timestamp',
        'error slots',
        'error senders',
        'error origins',
        'warning wal_sender_timeout',
        'error replication_connection',
      ]);
      await mend(
        session,
        found.filter(({ check }) => check !== 'replication_connection'),
      );
    }
    await server.stop();
    await server.start();
    await using session = await openSession(server, 'app');
    expect(await complaints(server, session)).toEqual([]);
  });

  test('tables that do not replicate well are found, and mended where SQL can', async () => {
    await using server = await startServer({ major });
    await using session = await openNewDatabase(server, 'app');
    await session.script(`
      CREATE TABLE public.well (id uuid PRIMARY KEY, note text);
      CREATE TABLE public.no_key (a integer);
      CREATE TABLE public.candidate (a integer NOT NULL UNIQUE);
      CREATE TABLE public.late (a integer PRIMARY KEY DEFERRABLE);
      CREATE TABLE public.hidden (a integer PRIMARY KEY);
      ALTER TABLE public.hidden REPLICA IDENTITY NOTHING;
      CREATE TABLE public.second (a integer PRIMARY KEY, b text UNIQUE, c text);
      CREATE UNIQUE INDEX second_expression ON public.second (lower(c)) WHERE c <> '';
      CREATE TABLE public.excluding (a integer PRIMARY KEY, r int4range, EXCLUDE USING gist (r WITH &&));
      CREATE TABLE public.serial (id serial PRIMARY KEY);
      INSERT INTO public.serial DEFAULT VALUES;
      CREATE TABLE public."Odd Name" (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
      CREATE TABLE public.not_in_key (id uuid PRIMARY KEY, number serial);
      CREATE TABLE public.parts (id bigserial PRIMARY KEY) PARTITION BY RANGE (id);
      CREATE TABLE public.part_1 PARTITION OF public.parts FOR VALUES FROM (0) TO (1000);
      CREATE UNLOGGED TABLE public.scratch (a integer);
      SELECT lo_create(0);
    `);
    const found = await complaints(server, session);
    const texts = found.map(({ level, check, message }) => {
      const about = /(table|sequence) (public\.("[^"]*"|\w+))/.exec(message)?.[2] ?? '';
      return `${level} ${check} ${about}`;
    });
    expect(texts.toSorted()).toEqual([
      'error exclusion_constraint public.excluding',
      'warning large_objects ',
      'warning sequence public."Odd Name_id_seq"',
      'warning sequence public.parts_id_seq',
      'warning sequence public.serial_id_seq',
      'warning table_key public.candidate',
      'warning table_key public.hidden',
      'warning table_key public.late',
      'warning table_key public.no_key',
      'warning unique_index public.second',
    ]);
    // Sequences are converted in a group, where nodes have numbers.
    const byHand = ['large_objects', 'sequence', 'unique_index'];
    await mend(
      session,
      found.filter(({ check, message }) => !byHand.includes(check) && !message.includes('late')),
    );
    expect(shown(await complaints(server, session)).toSorted()).toEqual([
      'warning large_objects',
      'warning sequence',
      'warning sequence',
      'warning sequence',
      'warning table_key',
      'warning unique_index',
    ]);
  });

  test('an encoding and a subscription that peers would not get along with are found', async () => {
    await using server = await startServer({ major });
    await using maintenance = await openSession(server);
    await maintenance.script(
      `CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'`,
    );
    await using session = await openSession(server, 'bytes');
    await session.script(
      `CREATE SUBSCRIPTION feed CONNECTION '' PUBLICATION p WITH (connect = false)`,
    );
    const found = await complaints(server, session);
    expect(shown(found)).toEqual(['warning bdr', 'warning encoding', 'warning subscription']);
  });

  test('the doctor takes the same tables for replicated as bdr does', async () => {
    await using server = await startServer({ major });
    await using session = await openNewDatabase(server, 'app');
    await session.script(`
      CREATE SCHEMA other;
      CREATE TABLE other.t (a integer PRIMARY KEY);
      CREATE TABLE public.parts (a integer) PARTITION BY LIST (a);
      CREATE TABLE public.part PARTITION OF public.parts DEFAULT;
      CREATE UNLOGGED TABLE public.u (a integer);
      CREATE TEMPORARY TABLE temporary (a integer);
      CREATE TABLE public.member (a integer);
      ALTER EXTENSION plpgsql ADD TABLE public.member;
    `);
    const { tables } = await readDoctorTables(session);
    const bdr = await session.query<{ name: string }>(
      'SELECT t::text AS name FROM bdr.internal_replicated_tables() AS t ORDER BY 1',
    );
    expect(tables.map(({ name }) => `${name.schema}.${name.name}`)).toEqual(
      bdr.map(({ name }) => name),
    );
    expect(bdr).toEqual([{ name: 'other.t' }, { name: 'public.part' }]);
  });

  test('a role that is no superuser is told so, and the rest is left out', async () => {
    await using server = await startServer({ major });
    await using session = await openNewDatabase(server, 'app');
    await session.script(`
      CREATE TABLE public.t (id serial PRIMARY KEY);
      CREATE ROLE somebody;
      SET ROLE somebody;
    `);
    expect(shown(await complaints(server, session))).toEqual([
      'error superuser',
      'warning sequence',
    ]);
  });
});

test('a group that works gives no complaint, and one without its agent does', async () => {
  await using server = await startServer();
  await using a = await openNewDatabase(server, 'a');
  await using b = await openNewDatabase(server, 'b');
  await a.script('CREATE TABLE public.t (id uuid PRIMARY KEY)');
  {
    await using _agent = startAgent(server);
    await createGroup(a, 'alpha', server.dsn('a'));
    await joinGroup(b, 'beta', server.dsn('b'), server.dsn('a'));
    await until(
      'both to be well',
      async () =>
        (await complaints(server, a)).length === 0 && (await complaints(server, b)).length === 0,
    );
    // Its DSN leads to the wrong database now.
    await b.query(`UPDATE bdr.bdr_connections SET conn_dsn = $1 WHERE conn_dsn = $2`, [
      `${server.dsn('postgres')} password=geheim`,
      server.dsn('b'),
    ]);
    const found = await complaints(server, b);
    expect(shown(found)).toContain('error peer');
    expect(JSON.stringify(found)).not.toContain('geheim');
    await b.query(`UPDATE bdr.bdr_connections SET conn_dsn = $1 WHERE conn_dsn LIKE '%geheim'`, [
      server.dsn('b'),
    ]);
  }
  const found = await complaints(server, a);
  expect(shown(found)).toContain('error agent');
  expect(found.find(({ check }) => check === 'slot')).toMatchObject({
    level: 'warning',
    message: expect.stringContaining('beta is not connected') as string,
  });
});
