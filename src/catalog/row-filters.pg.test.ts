import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openNewDatabase, openSession } from '../../test/support/agents.ts';
import { becomeLoneNode } from '../../test/support/lone-node.ts';
import { startServer } from '../../test/support/servers.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Session } from '../postgres/session.ts';
import { readUnsettledTables, settlePublications } from './publications.ts';
import { copyRowFilters, readCopyObstacles } from './replication-sets.ts';

const SCHEMA = `
  CREATE TABLE public.sale (id integer, region text, at date, n numeric, v text, PRIMARY KEY (id, region, at, n));
  CREATE TABLE public.line (id integer, region text, sale integer, at date, n numeric, PRIMARY KEY (id, region),
      FOREIGN KEY (sale, region, at, n) REFERENCES public.sale);
  CREATE TABLE public.log (id integer, v text);
  CREATE TABLE public.other_types (b bytea, t timestamptz, i interval, m money, PRIMARY KEY (b, t, i, m));
  CREATE TABLE public.full_row (id integer PRIMARY KEY, v text);
  ALTER TABLE public.full_row REPLICA IDENTITY FULL;
  CREATE TABLE public.parts (id integer PRIMARY KEY) PARTITION BY RANGE (id);
  CREATE TABLE public.part1 PARTITION OF public.parts FOR VALUES FROM (0) TO (10)`;

describe.each([15, 18])('row filters, on PostgreSQL %i', (major) => {
  let server: EmbeddedServer;
  let session: Session;
  beforeAll(async () => {
    server = await startServer({ major });
    session = await openNewDatabase(server, 'app');
    await session.script(SCHEMA);
    await becomeLoneNode(session, ['there', 'yonder'], major);
  });
  afterAll(async () => {
    await session?.close();
    await server?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    await session.script(`
      DELETE FROM bdr.table_row_filter;
      DELETE FROM bdr.table_replication_sets;
      DELETE FROM bdr.bdr_replication_set_config;
      UPDATE bdr.bdr_connections SET conn_replication_sets = '{default}';
      SELECT bdr.internal_sync_publication();
      DELETE FROM bdr.bdr_queued_commands`);
  });

  const filter = (table: string, set: string, text: string | null) =>
    session.query('SELECT bdr.table_set_row_filter($1::regclass, $2, $3)', [table, set, text]);
  const filterOf = async (table: string, set = 'default') => {
    const [row] = await session.query<{ filter: string | null }>(
      'SELECT bdr.table_get_row_filter($1::regclass, $2) AS filter',
      [table, set],
    );
    return row?.filter;
  };
  /** What of a table goes to the node with this identifier: kinds of changes and their condition. */
  const sent = async (table: string, sysid: number) => {
    const rows = await session.query<{ what: string }>(
      `SELECT concat_ws(' ', substring(p.pubname FROM '[a-z]+$'), pg_get_expr(r.prqual, r.prrelid)) AS what
       FROM pg_publication AS p JOIN pg_publication_rel AS r ON r.prpubid = p.oid
       WHERE r.prrelid = $1::regclass AND (p.pubname = 'bdr' OR p.pubname LIKE $2) ORDER BY 1`,
      [table, `bdr_${sysid}_1_1_%`],
    );
    return rows.map(({ what }) => what);
  };
  const actions = (condition: string) =>
    ['delete', 'insert', 'update'].map((action) => `${action} ${condition}`);

  test('of a table are those of one of its sets that a node gets; a set without one sends all rows', async () => {
    expect(await sent('public.sale', 8)).toEqual(['bdr']);
    await filter('public.sale', 'default', `region = 'eu'`);
    expect(await filterOf('public.sale')).toBe(`(region = 'eu'::text)`);
    for (const node of [8, 9]) {
      expect(await sent('public.sale', node)).toEqual(actions(`(region = 'eu'::text)`));
    }
    await session.script(`SELECT bdr.connection_set_replication_sets('{default,all}', 'there')`);
    expect(await sent('public.sale', 8), 'of all').toEqual(['delete', 'insert', 'update']);
    expect(await sent('public.sale', 9)).toEqual(actions(`(region = 'eu'::text)`));
    await session.script(`SELECT bdr.connection_set_replication_sets(NULL, 'yonder')`);
    expect(await sent('public.sale', 9), 'everybody gets it whole').toEqual(['bdr']);
    await filter('public.sale', 'all', 'id = 1 OR id = 2');
    expect(await sent('public.sale', 8)).toEqual(
      actions(`((((id = 1) OR (id = 2)) IS TRUE) OR ((region = 'eu'::text) IS TRUE))`),
    );
    expect(await sent('public.sale', 9)).toEqual(['delete', 'insert', 'update']);
    expect(await readUnsettledTables(session), 'what is there is what is wanted').toEqual([]);
    await filter('public.sale', 'all', null);
    await filter('public.sale', 'default', null);
    expect(await sent('public.sale', 8)).toEqual(['bdr']);
  });

  test('each kind of change has the filters of the sets that send it', async () => {
    await session.script(`
      SELECT bdr.table_set_replication_sets('public.sale', '{a,b}');
      INSERT INTO bdr.bdr_replication_set_config VALUES ('a', true, false, false), ('b', false, true, true);
      SELECT bdr.connection_set_replication_sets('{a,b}', 'there')`);
    await filter('public.sale', 'a', 'id > 5');
    expect(await sent('public.sale', 8)).toEqual(['delete', 'insert (id > 5)', 'update']);
  });

  test('are brought up to date by the agent where the sets of nodes change elsewhere', async () => {
    await filter('public.sale', 'a', 'id > 5');
    await session.script(`
      SELECT bdr.table_set_replication_sets('public.sale', '{a}');
      SET session_replication_role = replica;
      UPDATE bdr.bdr_connections SET conn_replication_sets = '{default,a}' WHERE conn_sysid = '8';
      SET session_replication_role = origin`);
    expect(await readUnsettledTables(session)).toEqual([{ name: 'public.sale', isUnknown: false }]);
    expect(await settlePublications(session)).toEqual([]);
    expect(await sent('public.sale', 8)).toEqual(actions('(id > 5)'));
    expect(await sent('public.sale', 9)).toEqual([]);
  });

  test.each([
    'id IN (1, 2) AND NOT region IS NULL',
    `at BETWEEN '2020-01-01' AND '2020-12-31'`,
    'n < 10.5',
    'id % 4 = 1',
    `starts_with(region, 'it''s; (not) -- a comment')`,
    `"region" >= 'a' COLLATE "C"`,
    'true',
    '(n > 1.5e3 OR n IS NULL) IS NOT UNKNOWN AND id IS DISTINCT FROM 5',
    `region IN ('de', 'fr') AND at <> '2020-01-01'::date AND NOT region = ANY ('{a,b}'::text[])`,
    `ID::bigint IN (1, 2) AND "id" NOT BETWEEN SYMMETRIC 3 AND 2`,
    `region::VARCHAR IS NOT NULL OR 'a'::"char" IS NULL OR 'a'::Character  Varying IS NULL`,
  ])('may be %s', async (text) => {
    await filter('public.sale', 'default', text);
    expect(await readUnsettledTables(session)).toEqual([]);
    const [row] = await session.query<{ filter: string }>(
      'SELECT filter FROM bdr.replication_set_row_filters',
    );
    await filter('public.sale', 'default', null);
    await filter('public.sale', 'default', row?.filter ?? '');
    expect(await filterOf('public.sale'), 'read again it is the same').toBe(row?.filter);
  });

  test.each([
    // Not one expression.
    ['true) WITH (publish = $$$$', '42601'],
    ['true); DROP TABLE public.sale; --', '42601'],
    ['true) , public.log WHERE (true', '42601'],
    [`region = 'a' /* ' */ ) , bdr.message_secret WHERE (true /* ' */`, '42601'],
    [`region = E'a\\') , bdr.message_secret WHERE (true OR ''=\\''`, '42601'],
    [`region = $a$ ' $a$ ) , public.log WHERE ($a$ ' $a$ = ''`, '42601'],
    [`region = 'open`, '42601'],
    ['"', '42601'],
    [' ', '42601'],
    ['', '42601'],
    ['id = 1 id', '42601'],
    // What the server refuses.
    ['id', '42804'],
    ['nothing = 1', '42703'],
    ['id = (SELECT 1)', '0A000'],
    ['now() > at', '0A000'],
    ['xmin IS NOT NULL', '42703'],
    // What the server would have to read to refuse it.
    ['item = 1', '42703'],
    [`sale = '(1)'`, '42703'],
    ['sale.id = 1', '0A000'],
    [`'1'::public.d IS NULL`, '0A000'],
    [`'1'::d IS NULL`, '0A000'],
    [`'1'::id IS NULL`, '0A000'],
    [`'1'::"CHAR" IS NULL`, '0A000'],
    [`'1'::"TEXT" IS NULL`, '0A000'],
    [`id '1' IS NULL`, '0A000'],
    [`is '1' IS NULL`, '0A000'],
    [`'1'::text\u00a0 IS NULL`, '0A000'],
    [`'1'::\u00a0text IS NULL`, '0A000'],
    [`'public.log'::regclass IS NULL`, '0A000'],
    ['CAST(id AS text) IS NULL', '0A000'],
    ['lower(region) IS NULL', '0A000'],
    ['region COLLATE nothing IS NULL', '42703'],
    // What may fail while the log is read.
    ['10 / id > 1', '0A000'],
    ['id + 1 = 2', '0A000'],
    ['id % id = 0', '0A000'],
    ['id % 0 = 0', '0A000'],
    ['id % (id % 2) = 0', '0A000'],
    [`region ~ '('`, '0A000'],
    ['(region, id) < (region, 5)', '0A000'],
    ['(id, n) = ANY (ARRAY[(1, 2)])', '0A000'],
    ['ARRAY[id, id] IS NOT NULL', '0A000'],
    [`ARRAY[ARRAY['a'], ARRAY['b']] IS NOT NULL`, '0A000'],
    [`GREATEST(region, 'a') > 'x'`, '0A000'],
    // What is not in the key.
    [`v = 'a'`, '42P10'],
    [`region = 'eu' AND v IS NULL`, '42P10'],
  ])('may not be %s', async (text, code) => {
    await expect(filter('public.sale', 'default', text)).rejects.toMatchObject({ code });
    expect(await filterOf('public.sale')).toBeNull();
    expect(await sent('public.sale', 8)).toEqual(['bdr']);
  });

  test('of tables with confusing names mean the columns or nothing', async () => {
    await session.script(`
      CREATE TABLE public.between (id integer, "between" text, "unknown" text, "select" text, date date, "Ä" integer, ä integer[],
          PRIMARY KEY (id, "between", "select", date, "Ä"))`);
    await filter(
      'public.between',
      'default',
      `"between" = 'a' AND "select" >= 'b' AND date = '2020-01-01'::date AND "Ä" = 1`,
    );
    await filter('public.between', 'default', (await filterOf('public.between')) ?? '');
    for (const [text, code] of [
      ['id = (select id)', '0A000'],
      [`id BETWEEN 1 AND 2 AND unknown = 'a'`, '42P10'],
      ['ä IS NULL', '42P10'],
      [`date '2020-01-01' = date`, '0A000'],
    ] as const) {
      await expect(filter('public.between', 'default', text), text).rejects.toMatchObject({ code });
    }
    await session.script('DROP TABLE public.between; SELECT bdr.internal_sync_publication()');
  });

  test('are the same in whatever session they are set and looked at', async () => {
    await using other = await openSession(server, 'app');
    await other.script(`
      SET bdr.skip_ddl_locking = on; SET datestyle = 'SQL, DMY'; SET timezone = 'Asia/Tokyo'; SET intervalstyle = iso_8601;
      SET quote_all_identifiers = on; SET standard_conforming_strings = off`);
    await other.query(
      `SELECT bdr.table_set_row_filter('public.other_types', 'default', $$t < '2020-01-02' AND i > '1 mon'$$)`,
    );
    const told = `((t < '2020-01-02 00:00:00+00'::timestamp with time zone) AND (i > '1 mon'::interval))`;
    expect(await filterOf('public.other_types')).toBe(told);
    for (const looking of [session, other]) expect(await readUnsettledTables(looking)).toEqual([]);
  });

  test('whose words the others could not take are refused', async () => {
    await expect(filter('public.other_types', 'default', `b = 'abc'`)).rejects.toMatchObject({
      code: '42601',
    });
    await expect(filter('public.other_types', 'default', `m > '1'`)).rejects.toMatchObject({
      code: '0A000',
    });
  });

  test('that arrive are not refused for the sake of other nodes', async () => {
    await session.script(`
      UPDATE bdr.bdr_nodes SET node_server_major = 14 WHERE node_name = 'yonder';
      SET session_replication_role = replica`);
    await filter('public.sale', 'default', 'id = 1');
    await session.script(`
      SET session_replication_role = origin; UPDATE bdr.bdr_nodes SET node_server_major = ${major}`);
    expect(await sent('public.sale', 8)).toEqual(actions('(id = 1)'));
  });

  test('are set in transactions that see what others have committed', async () => {
    for (const level of ['REPEATABLE READ', 'SERIALIZABLE']) {
      await session.script(`BEGIN ISOLATION LEVEL ${level}`);
      await expect(filter('public.sale', 'default', 'id = 1')).rejects.toMatchObject({
        code: '55000',
        message: `row filters cannot be set in a ${level} transaction`,
      });
      await session.script('ROLLBACK');
    }
  });

  test('are set in the order of commands, also by who writes the row', async () => {
    await using other = await openSession(server, 'app');
    // No node's agent is there to give the lock.
    await other.script('SET bdr.skip_ddl_locking = off; SET statement_timeout = 500');
    for (const row of [
      `bdr.table_row_filter VALUES ('public.sale'::regclass, 'default', 'id = 1')`,
      `bdr.table_replication_sets VALUES ('public.sale'::regclass, '{a}')`,
    ]) {
      await expect(other.script(`INSERT INTO ${row}`), row).rejects.toMatchObject({
        code: '57014',
      });
    }
    expect(await filterOf('public.sale')).toBeNull();
  });

  test('need a key; the primary key, where the replica identity is the whole row', async () => {
    await expect(filter('public.log', 'default', 'id = 1')).rejects.toMatchObject({
      message: 'column "id" of table public.log may not be in a row filter',
      detail: 'The table has no key by which other nodes find the rows.',
    });
    await expect(filter('public.full_row', 'default', `v = 'a'`)).rejects.toMatchObject({
      code: '42P10',
      detail: 'It is not part of the key by which other nodes find the rows.',
    });
    await filter('public.full_row', 'default', 'id = 1');
    await session.script(`
      INSERT INTO public.full_row VALUES (1, 'a'); UPDATE public.full_row SET v = 'b'; DELETE FROM public.full_row`);
  });

  test('use no column that is generated: it is not sent', async () => {
    await session.script(`
      SET bdr.permit_unsafe_ddl_commands = on;
      CREATE TABLE public.made (id integer, g integer GENERATED ALWAYS AS (id % 4) STORED, PRIMARY KEY (id, g));
      RESET bdr.permit_unsafe_ddl_commands`);
    await expect(filter('public.made', 'default', 'g = 1')).rejects.toMatchObject({
      code: '42P10',
    });
    await filter('public.made', 'default', 'id % 4 = 1');
    await session.script('DROP TABLE public.made; SELECT bdr.internal_sync_publication()');
  });

  test('are refused for what is no replicated table, and for names that no set has', async () => {
    await expect(filter('bdr.bdr_nodes', 'default', 'true')).rejects.toMatchObject({
      code: '42809',
    });
    await expect(filter('public.sale', 'A', 'true')).rejects.toMatchObject({ code: '42602' });
    await expect(
      session.query(`SELECT bdr.table_set_row_filter('public.sale', NULL, 'true')`),
    ).rejects.toMatchObject({ code: '42602' });
  });

  test('of a partitioned table are its partitions’, whose keys must hold the columns', async () => {
    await filter('public.parts', 'default', 'id < 5');
    expect(await sent('public.part1', 8)).toEqual(actions('(id < 5)'));
    await filter('public.part1', 'default', 'id < 3');
    expect(await sent('public.part1', 8)).toEqual(actions('(id < 3)'));
    await session.script(
      'CREATE TABLE public.part2 PARTITION OF public.parts FOR VALUES FROM (10) TO (20)',
    );
    expect(await sent('public.part2', 9)).toEqual(actions('(id < 5)'));
    await session.script('ALTER TABLE public.parts DETACH PARTITION public.part2');
    expect(await sent('public.part2', 9)).toEqual(['bdr']);
    await session.script('DROP TABLE public.part2');
  });

  test('follow a column that is renamed', async () => {
    await filter('public.sale', 'default', `region = 'eu'`);
    await session.script('ALTER TABLE public.sale RENAME region TO area');
    expect(await filterOf('public.sale')).toBe(`(area = 'eu'::text)`);
    expect(await sent('public.sale', 8)).toEqual(actions(`(area = 'eu'::text)`));
    expect(await readUnsettledTables(session)).toEqual([]);
    await session.script('ALTER TABLE public.sale RENAME area TO region');
    const commands = await session.query<{ command: string }>(
      `SELECT command FROM bdr.bdr_queued_commands WHERE command_tag = 'DO'`,
    );
    expect(commands, 'the others’ follow by themselves').toHaveLength(1);
  });

  test('a command that would take away what a filter needs is refused', async () => {
    await session.script(`
      CREATE TABLE public.kept (id integer PRIMARY KEY, k integer NOT NULL, v text);
      CREATE UNIQUE INDEX kept_k ON public.kept (k)`);
    await filter('public.kept', 'default', 'id = 1');
    for (const [command, code] of [
      ['ALTER TABLE public.kept DROP COLUMN id', '2BP01'],
      ['ALTER TABLE public.kept DROP COLUMN id CASCADE', '2BP01'],
      ['ALTER TABLE public.kept ALTER COLUMN id TYPE bigint', '0A000'],
      ['ALTER TABLE public.kept DROP CONSTRAINT kept_pkey', '42P10'],
      ['ALTER TABLE public.kept REPLICA IDENTITY USING INDEX kept_k', '42P10'],
      ['ALTER TABLE public.kept REPLICA IDENTITY NOTHING', '42P10'],
    ] as const) {
      await expect(session.script(command), command).rejects.toMatchObject({ code });
    }
    expect(await sent('public.kept', 8)).toEqual(actions('(id = 1)'));
    await filter('public.kept', 'default', null);
    await session.script('ALTER TABLE public.kept REPLICA IDENTITY USING INDEX kept_k');
    await filter('public.kept', 'default', 'k = 1');
    await expect(session.script('DROP INDEX public.kept_k')).rejects.toMatchObject({
      code: '42P10',
    });
    await session.script('DROP TABLE public.kept; SELECT bdr.internal_sync_publication()');
    expect(await session.query('SELECT FROM bdr.table_row_filter')).toEqual([]);
  });

  test('go to the other nodes as a command of the table’s owner, in the server’s words', async () => {
    await filter('public.sale', 'default', `region='eu'`);
    await filter('public.sale', 'default', `(region = 'eu'::text)`);
    await session.script('SET bdr.skip_ddl_replication = on');
    await filter('public.sale', 'default', null);
    await session.script('RESET bdr.skip_ddl_replication');
    const queued = await session.query<{ command: string }>(
      'SELECT perpetrator, command_tag, command FROM bdr.bdr_queued_commands ORDER BY queued_at',
    );
    expect(queued).toEqual([
      {
        perpetrator: 'postgres',
        command_tag: 'DO',
        command: expect.stringContaining('region = ') as string,
      },
    ]);
    await session.script(
      `SET session_replication_role = replica; ${queued[0]?.command}; SET session_replication_role = origin`,
    );
    expect(await sent('public.sale', 8)).toEqual(actions(`(region = 'eu'::text)`));
  });

  test('are refused while a node’s server is too old', async () => {
    await session.script(
      `UPDATE bdr.bdr_nodes SET node_server_major = 14 WHERE node_name = 'yonder'`,
    );
    await expect(filter('public.sale', 'default', 'id = 1')).rejects.toMatchObject({
      code: '0A000',
      message: 'row filters need PostgreSQL 15 or later on all nodes',
      detail: 'The server of node yonder is older.',
    });
    await session.script(`UPDATE bdr.bdr_nodes SET node_server_major = ${major}`);
  });

  test('a node that gets less cannot fill one that is to get more; nor one whose foreign keys would refer to nothing', async () => {
    await filter('public.sale', 'default', 'id < 10');
    expect(await readCopyObstacles(session, ['default'])).toEqual({
      incomplete: [],
      dangling: ['line_sale_region_at_n_fkey of table public.line'],
    });
    expect((await readCopyObstacles(session, ['all'])).incomplete).toEqual(['public.sale']);
    await filter('public.sale', 'all', 'id < 5');
    expect((await readCopyObstacles(session, ['all'])).incomplete, 'another filter').toEqual([
      'public.sale',
    ]);
    await session.script(`SELECT bdr.connection_set_replication_sets(NULL, 'here')`);
    expect((await readCopyObstacles(session, ['all'])).incomplete).toEqual([]);
    await filter('public.sale', 'all', null);
    await filter('public.sale', 'default', `region = 'eu'`);
    expect((await readCopyObstacles(session, ['default'])).dangling, 'of all rows').toHaveLength(1);
    for (const table of ['public.sale', 'public.line']) {
      await filter(table, 'default', `region = 'eu'`);
    }
    expect((await readCopyObstacles(session, ['default'])).dangling, 'by the same value').toEqual(
      [],
    );
    for (const table of ['public.sale', 'public.line']) await filter(table, 'default', 'id = 1');
    expect((await readCopyObstacles(session, ['default'])).dangling, 'by others').toHaveLength(1);
  });

  test('rows can be sent again only by a node that has them all', async () => {
    await filter('public.sale', 'default', 'id < 10');
    const send = () =>
      session.query(
        `SELECT bdr.table_set_replication_sets('public.sale', NULL, synchronize := true)`,
      );
    await expect(send()).rejects.toThrow(
      'this node does not get all changes of table public.sale, before and after',
    );
  });

  test('a joining node takes them over before its keys are there', async () => {
    await filter('public.sale', 'default', `region = 'eu'`);
    await filter('public.parts', 'a', 'id < 5');
    await using target = await openNewDatabase(server, 'joining');
    await target.script(`
      CREATE TABLE public.sale (id integer, region text, at date, n numeric, v text);
      CREATE TABLE public.parts (id integer) PARTITION BY RANGE (id)`);
    await becomeLoneNode(target, ['there', 'yonder'], major);
    const status = (to: string) =>
      target.script(`
        UPDATE bdr.bdr_nodes SET node_status = '${to}' WHERE node_name = 'here'`);
    await status('i');
    await copyRowFilters(session, target);
    await copyRowFilters(session, target);
    await target.script(
      'ALTER TABLE public.sale ADD PRIMARY KEY (id, region, at, n); ALTER TABLE public.parts ADD PRIMARY KEY (id)',
    );
    await status('r');
    expect(await settlePublications(target)).toEqual([]);
    expect(
      await target.query('SELECT * FROM bdr.replication_set_row_filters ORDER BY relname'),
    ).toEqual([
      { nspname: 'public', relname: 'parts', set_name: 'a', filter: '(id < 5)' },
      { nspname: 'public', relname: 'sale', set_name: 'default', filter: `(region = 'eu'::text)` },
    ]);
    await expect(
      target.script('ALTER TABLE public.sale DROP CONSTRAINT sale_pkey'),
    ).rejects.toMatchObject({ code: '42P10' });
  });

  test('are for superusers, and run nothing of what others have made', async () => {
    await session.script(`
      CREATE ROLE mallory LOGIN; CREATE SCHEMA hers AUTHORIZATION mallory;
      SET ROLE mallory; CREATE TABLE hers.item (id integer PRIMARY KEY);
      -- Found by her search_path, and never called.
      CREATE FUNCTION hers.starts_with(integer, text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE EXCEPTION ''called''; END';
      RESET ROLE;
      DELETE FROM bdr.bdr_queued_commands`);
    await using hers = await openSession(server, 'app');
    // No agent is there to settle the lock, which only a superuser's session passes over.
    await hers.script('SET bdr.skip_ddl_locking = on; SET search_path = hers, pg_catalog');
    const nothingRan = async (why?: string) =>
      expect(await session.query('SELECT is_called FROM hers.calls'), why).toEqual([
        { is_called: 'f' },
      ]);
    const set = (table: string, text: string) =>
      hers.query('SELECT bdr.table_set_row_filter($1::regclass, $2, $3)', [table, 'default', text]);
    await set('hers.item', 'id = 1');
    expect(await sent('hers.item', 8)).toEqual(actions('(id = 1)'));
    expect(await session.query('SELECT perpetrator FROM bdr.bdr_queued_commands')).toEqual([
      { perpetrator: 'postgres' },
    ]);
    await hers.script('SET ROLE mallory');
    await expect(set('hers.item', 'id = 1')).rejects.toMatchObject({ code: '42501' });
    for (const write of [
      `INSERT INTO bdr.table_row_filter VALUES ('hers.item'::regclass, 'other', 'id = 1')`,
      `UPDATE bdr.table_row_filter SET filter = 'true'`,
      'DELETE FROM bdr.table_row_filter',
    ]) {
      await expect(hers.query(write), write).rejects.toMatchObject({ code: '42501' });
    }
    // The server would turn constants into values of her types, as a superuser, before it says that it takes no such types.
    await hers.script(`
      CREATE SEQUENCE hers.calls;
      CREATE FUNCTION hers.f(integer) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN PERFORM nextval(''hers.calls''); RETURN true; END';
      CREATE DOMAIN hers.d AS integer CHECK (hers.f(VALUE));
      CREATE DOMAIN pg_temp.d AS integer CHECK (hers.f(VALUE));
      CREATE DOMAIN pg_temp."CHAR" AS integer CHECK (hers.f(VALUE));
      CREATE DOMAIN pg_temp.id AS integer CHECK (hers.f(VALUE));
      CREATE TYPE hers.pair AS (a hers.d);
      CREATE TABLE hers.typed (id integer, k hers.d[], k1 hers.d, c hers.pair, PRIMARY KEY (id, k, k1, c));
      CREATE TABLE hers.plain (id integer PRIMARY KEY, k hers.d[], c hers.pair);
      CREATE TABLE hers.text (id integer PRIMARY KEY, k hers.d);
      CREATE TABLE hers.between (id integer PRIMARY KEY, k hers.d);
      CREATE TABLE hers.object (id regclass PRIMARY KEY);
      CREATE TABLE hers.odd (":" integer, "." integer, hers integer, d integer, _d integer, u integer,
          PRIMARY KEY (":", ".", hers, d, _d, u));
      GRANT USAGE ON SEQUENCE hers.calls TO PUBLIC; GRANT CREATE, USAGE ON SCHEMA hers TO PUBLIC;
      RESET ROLE`);
    for (const [table, text, code] of [
      ['hers.plain', `'{1}'::hers.d[] IS NULL`, '0A000'],
      ['hers.plain', `'{1}'::pg_temp.d[] IS NULL`, '0A000'],
      ['hers.plain', `'1'::d IS NULL`, '0A000'],
      ['hers.plain', `'1'::id IS NULL`, '0A000'],
      ['hers.plain', `'1'::"CHAR" IS NULL`, '0A000'],
      ['hers.plain', `id '1' IS NULL`, '0A000'],
      ['hers.plain', `CAST('1' AS d) IS NULL`, '0A000'],
      ['hers.plain', `k = '{1}'`, '42P10'],
      ['hers.plain', `c = '(1)'`, '42P10'],
      ['hers.plain', `plain = '(1,"{1}","(1)")'`, '42703'],
      ['hers.plain', `plain.* = '(1,"{1}","(1)")'`, '0A000'],
      ['hers.text', `text = '(1,1)'`, '42703'],
      ['hers.between', `between = '(1,1)'`, '0A000'],
      ['hers.typed', `k = '{1}'`, '0A000'],
      ['hers.typed', `k1 = '1'`, '0A000'],
      ['hers.typed', `c = '(1)'`, '0A000'],
      ['hers.object', `id = 'hers.plain'`, '0A000'],
      ['hers.odd', `'{1}'::d[] IS NULL`, '0A000'],
      ['hers.odd', `'{1}'::hers.d[] IS NULL`, '0A000'],
      ['hers.odd', `_d U&'{1}' IS NULL`, '42601'],
    ] as const) {
      await expect(set(table, text), text).rejects.toMatchObject({ code });
      await nothingRan(text);
    }
    for (const name of ['starts_with', 'hers.starts_with', 'OPERATOR(hers.+)']) {
      await expect(set('hers.item', `${name}(id, 'a')`), name).rejects.not.toThrow('called');
    }
    // Of several rows in one statement none is published before it was looked at.
    await hers.script('DELETE FROM bdr.table_row_filter');
    await expect(
      hers.query(
        `INSERT INTO bdr.table_row_filter VALUES ('hers.item'::regclass, 'aaa', 'id = 1'),
           ('hers.item'::regclass, 'zzz', 'true); SELECT nextval(''hers.calls''); --')`,
      ),
    ).rejects.toThrow('must be one expression');
    await nothingRan();
    await session.script(`SELECT bdr.connection_set_replication_sets('{zzz}', 'there')`);
    await expect(
      hers.query(
        `INSERT INTO bdr.table_row_filter VALUES ('hers.item'::regclass, 'aaa', 'id = 1'),
           ('hers.item'::regclass, 'default', 'true); SELECT nextval(''hers.calls''); --')`,
      ),
    ).rejects.toThrow('must be one expression');
    await nothingRan();
  });
});

test('row filters are refused on PostgreSQL 14', async () => {
  await using server = await startServer({ major: 14 });
  await using session = await openNewDatabase(server, 'app');
  await session.script(SCHEMA);
  await becomeLoneNode(session, ['there', 'yonder'], 15);
  await expect(
    session.query(`SELECT bdr.table_set_row_filter('public.sale', 'default', 'id = 1')`),
  ).rejects.toMatchObject({ code: '0A000', detail: 'This server is older.' });
  expect(await readUnsettledTables(session)).toEqual([]);
});
