import { afterAll, beforeAll, expect, test } from 'vitest';
import { openNewDatabase } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Session } from '../postgres/session.ts';

let server: EmbeddedServer;
let session: Session;
beforeAll(async () => {
  server = await startServer();
  session = await openNewDatabase(server, 'app');
  await session.script('CREATE ROLE mallory; CREATE SCHEMA hers AUTHORIZATION mallory');
});
afterAll(async () => {
  await session.close();
  await server[Symbol.asyncDispose]();
});

const isSuperuser = async (role: string) =>
  (
    await session.query<{ super: string }>(
      'SELECT rolsuper AS super FROM pg_roles WHERE rolname = $1',
      [role],
    )
  )[0]?.super === 't';

/** Shadows catalogs by temporary views that run the caller's code, then runs `script`, all as mallory. */
async function runWithShadows(script: string): Promise<void> {
  const shadows = ['pg_database', 'pg_class', 'pg_namespace', 'pg_publication', 'pg_depend'];
  await session.script(`
    SET SESSION AUTHORIZATION mallory;
    CREATE OR REPLACE FUNCTION hers.grab() RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
      ALTER ROLE mallory SUPERUSER;
      RETURN true;
    EXCEPTION
      WHEN insufficient_privilege THEN RETURN true;
    END $$;
    ${shadows.map((name) => `CREATE TEMP VIEW ${name} AS SELECT * FROM pg_catalog.${name} WHERE hers.grab();`).join('\n')}
  `);
  try {
    await session.script(script);
  } finally {
    await session.script('RESET SESSION AUTHORIZATION; DISCARD TEMP');
  }
}

// Names of relations and types are looked up among temporary objects first, unless pg_temp is named last.
test('a role cannot slip temporary objects into functions that run with the rights of their owner', async () => {
  await session.script(`
    INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid)
    SELECT sysid, timeline, dboid FROM bdr.bdr_get_local_nodeid()`);
  await runWithShadows(`
    SELECT bdr.bdr_is_active_in_db(), bdr.bdr_get_local_nodeid(), bdr.bdr_get_local_node_name(),
           bdr.bdr_apply_is_paused()`);
  expect(await isSuperuser('mallory')).toBe(false);
  await runWithShadows('CREATE TABLE hers.t (id integer PRIMARY KEY)');
  expect(await isSuperuser('mallory')).toBe(false);
  await session.script('DELETE FROM bdr.bdr_local_node');
});

// Planning a query of a table runs what its indexes call with constants.
test('a role cannot let what looks at its tables run code, where commands are captured', async () => {
  await session.script(`
    INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid)
    SELECT sysid, timeline, dboid FROM bdr.bdr_get_local_nodeid();
    INSERT INTO bdr.bdr_nodes (node_sysid, node_timeline, node_dboid, node_status, node_name, node_seq_id)
    SELECT sysid, timeline, dboid, 'r', 'here', 1 FROM bdr.bdr_get_local_nodeid();
    SELECT bdr.internal_renew_secret(), bdr.internal_make_guard()`);
  try {
    await session.script(`
      SET SESSION AUTHORIZATION mallory;
      CREATE FUNCTION hers.climb() RETURNS void LANGUAGE plpgsql AS $$
      BEGIN
          ALTER ROLE mallory SUPERUSER;
      EXCEPTION WHEN insufficient_privilege THEN NULL;
      END $$;
      CREATE FUNCTION hers.trap(integer) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
      BEGIN
          PERFORM hers.climb();
          RETURN true;
      END $$;
      CREATE TABLE hers.trapped (id integer);
      CREATE INDEX ON hers.trapped (id) WHERE hers.trap(1);
      CREATE TABLE hers.numbered (id serial PRIMARY KEY, n integer);
      CREATE INDEX ON hers.numbered (n) WHERE hers.trap(1)`);
    // What fails would take the rights back.
    await session.script(`
      ALTER TABLE hers.trapped ADD COLUMN r double precision DEFAULT random()`);
    await session.script(`SELECT bdr.convert_sequence('hers.numbered_id_seq', 'step')`);
    await session.script('CREATE TABLE hers.taken AS SELECT * FROM hers.trapped');
  } finally {
    await session.script('RESET SESSION AUTHORIZATION');
  }
  expect(await isSuperuser('mallory')).toBe(false);
  expect(await session.query(`SELECT DISTINCT perpetrator FROM bdr.bdr_queued_commands`)).toEqual([
    { perpetrator: 'mallory' },
  ]);
  await session.script(`
    DELETE FROM bdr.bdr_local_node; DELETE FROM bdr.bdr_nodes; DELETE FROM bdr.sequence_kind;
    DROP EVENT TRIGGER bdr_guard; DROP SCHEMA bdr_guard CASCADE`);
});

test('every function of schema bdr names its search path, temporary objects last', async () => {
  const others = await session.query<{ name: string }>(`
    SELECT p.oid::regprocedure::text AS name
    FROM pg_proc AS p
    WHERE p.pronamespace = 'bdr'::regnamespace
      -- Where the body was parsed when the function was made, no name is looked up later.
      AND p.prosqlbody IS NULL
      AND NOT coalesce(p.proconfig && ARRAY['search_path=pg_catalog, pg_temp', 'search_path=""'], false)`);
  // Its one statement looks at the path itself, with the rights of whoever has set it, and names what it calls in full.
  expect(others).toEqual([{ name: 'bdr.internal_note_search_path()' }]);
});

test.each([
  `SELECT bdr.internal_queue_command('postgres', 'CREATE TABLE')`,
  `SELECT bdr.internal_queue_drop('postgres', 'DROP TABLE', 'DROP TABLE t')`,
  `SELECT bdr.internal_refuse_rewrite('postgres', 'pg_authid'::regclass, 2, '{}')`,
  // What the server says of who calls it, as far as a role can forge that.
  `DO $$
   DECLARE queued boolean;
   BEGIN
       queued := bdr.internal_queue_command(
           'postgres', 'CREATE TABLE' /*"
PL/pgSQL function bdr.internal_capture_command() line 5 at assignment*/);
   END $$`,
  `DO $$
   BEGIN
       EXECUTE 'SELECT bdr.internal_queue_command(''postgres'', ''CREATE TABLE'') /*"
PL/pgSQL function bdr.internal_capture_command() line 5 at assignment*/';
   END $$`,
  `CREATE FUNCTION hers."bdr.internal_capture_command"() RETURNS void LANGUAGE plpgsql AS $$
   DECLARE queued boolean;
   BEGIN
       queued := bdr.internal_queue_command(current_user, 'CREATE TABLE');
   END $$;
   SET search_path = hers;
   SELECT "bdr.internal_capture_command"()`,
  `INSERT INTO bdr.bdr_queued_commands (lsn, queued_at, perpetrator, command_tag, command, settings)
   VALUES ('0/1', now(), 'mallory', 'CREATE TABLE', 'CREATE TABLE t ()', '{}')`,
])('a role cannot queue a command but by running it: %s', async (script) => {
  await expect(
    session.script(`SET SESSION AUTHORIZATION mallory; ${script}`),
  ).rejects.toMatchObject({ code: '42501' });
  await session.script('RESET SESSION AUTHORIZATION; RESET search_path');
});

test('a function that runs with the rights of its owner is for everybody only where it must be', async () => {
  const open = await session.query<{ name: string }>(`
    SELECT p.oid::regprocedure::text AS name
    FROM pg_proc AS p
    WHERE p.pronamespace = 'bdr'::regnamespace AND p.prosecdef
      AND has_function_privilege('mallory', p.oid, 'EXECUTE')
    ORDER BY 1`);
  expect(open.map(({ name }) => name)).toEqual([
    'bdr.bdr_apply_is_paused()',
    'bdr.bdr_get_local_node_name()',
    'bdr.bdr_get_local_nodeid()',
    'bdr.bdr_is_active_in_db()',
    'bdr.bdr_replication_identifier_is_replaying()',
    // Goes by locks that its caller has taken with rights of his own.
    'bdr.internal_acquire_lock_on_locked(text,regclass[],boolean)',
    // What an event trigger calls, and who else calls it is told so.
    'bdr.internal_begin_command(text,text)',
    // Of global_seq_nextval(): they tell a number, and begin a millisecond that the next use would begin.
    'bdr.internal_begin_millisecond(regclass)',
    // It only refuses.
    'bdr.internal_check_whole(regclass)',
    'bdr.internal_is_being_filled()',
    'bdr.internal_keep_local_columns()',
    'bdr.internal_keep_local_defaults()',
    'bdr.internal_keep_row_filters()',
    'bdr.internal_list_columns_again()',
    // A ddl_lock is for everybody, as a command takes one.
    'bdr.internal_order_definition()',
    'bdr.internal_publish_new_tables()',
    // What event triggers call, and who else calls it is told so.
    'bdr.internal_queue_command(text,text)',
    'bdr.internal_queue_drop(text,text,text)',
    'bdr.internal_refuse_rewrite(text,oid,integer,smallint[])',
    'bdr.internal_snowflake_number()',
    // What an event trigger calls, and who else calls it is told so.
    'bdr.internal_take_lists_away(oid[])',
    // As in BDR.
    'bdr.table_get_local_columns(regclass)',
    'bdr.table_get_replication_sets(regclass)',
    'bdr.table_get_row_filter(regclass,text)',
  ]);
});
