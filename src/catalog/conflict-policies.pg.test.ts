import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openNewDatabase } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Session } from '../postgres/session.ts';
import { readConflictHandlers, readTablePolicy } from './conflict-policies.ts';
import { readPolicyStates } from './policy-states.ts';

let server: EmbeddedServer;
let session: Session;

beforeAll(async () => {
  server = await startServer();
  session = await openNewDatabase(server, 'app');
  await session.script(`
    CREATE TABLE public.item (id integer PRIMARY KEY, v text);
    CREATE TABLE public.keyless (id integer);
    CREATE TABLE public.late (id integer PRIMARY KEY DEFERRABLE);
    CREATE TABLE public.parts (id integer PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE public.computed (id integer PRIMARY KEY, twice integer GENERATED ALWAYS AS (id * 2) STORED);
    CREATE TABLE public.named (id integer PRIMARY KEY);
    ALTER TABLE public.named REPLICA IDENTITY USING INDEX named_pkey;
    CREATE FUNCTION public.right(public.item, public.item, text, regclass, bdr.bdr_conflict_type,
        OUT public.item, OUT bdr.bdr_conflict_handler_action) LANGUAGE sql AS $$ SELECT $1, 'ROW'::bdr.bdr_conflict_handler_action $$;
    CREATE FUNCTION public.wrong(public.item, public.item, text, regclass, text,
        OUT public.item, OUT bdr.bdr_conflict_handler_action) LANGUAGE sql AS $$ SELECT $1, 'ROW'::bdr.bdr_conflict_handler_action $$;
    CREATE FUNCTION public.plain(public.item) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$;
  `);
});
afterAll(async () => {
  await session?.close();
  await server?.[Symbol.asyncDispose]();
});

const set = (relation: string, policy: string, nodes = 'NULL') =>
  session.query(`SELECT bdr.bdr_set_conflict_policy('${relation}', '${policy}', ${nodes})`);

test('is refused while BDR is not active', async () => {
  await expect(set('public.item', 'update_wins')).rejects.toThrow('BDR is not active');
});

describe('in a node', () => {
  beforeAll(async () => {
    await session.script(`
      INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid)
      SELECT '7', 1, oid FROM pg_database WHERE datname = 'app';
      INSERT INTO bdr.bdr_nodes (node_sysid, node_timeline, node_dboid, node_status, node_name)
      SELECT '7', 1, oid, 'r', 'here' FROM pg_database WHERE datname = 'app';
      INSERT INTO bdr.bdr_nodes (node_sysid, node_timeline, node_dboid, node_status, node_name)
      VALUES ('8', 1, 1, 'r', 'there'), ('9', 1, 1, 'k', 'gone');
      SELECT bdr.internal_renew_secret();
      -- No agent is there to settle the lock.
      SET bdr.skip_ddl_locking = on`);
  });
  const policies = () =>
    session.query(`SELECT table_name, policy, nodes, is_in_effect FROM bdr.bdr_conflict_policies`);
  const identity = async () => {
    const [row] = await session.query<{ id: string }>(
      `SELECT relreplident AS id FROM pg_class WHERE oid = 'public.item'::regclass`,
    );
    return row?.id;
  };
  const table = { schema: 'public', name: 'item' };

  test('a policy makes the table send whole old rows; last update wins takes both back', async () => {
    const definitions = () =>
      session.query('SELECT max(change) AS last FROM bdr.definition_change');
    expect(await readTablePolicy(session, table)).toBeUndefined();
    await set('public.item', 'first_update_wins');
    expect(await policies()).toEqual([
      { table_name: 'item', policy: 'first_update_wins', nodes: null, is_in_effect: 't' },
    ]);
    expect([await identity(), await readTablePolicy(session, table)]).toEqual([
      'f',
      { name: 'first_update_wins' },
    ]);
    const before = await definitions();
    await set('public.item', 'node_priority', `ARRAY['there', 'here']`);
    expect(await readTablePolicy(session, table)).toEqual({
      name: 'node_priority',
      nodes: ['there', 'here'],
    });
    // What apply knows of tables is read anew.
    expect(await definitions()).not.toEqual(before);
    await set('public.item', 'last_update_wins');
    expect([await identity(), await policies()]).toEqual(['d', []]);
  });

  test('a row that arrives does the same, in a session that applies', async () => {
    await session.script(`
      SET session_replication_role = replica;
      INSERT INTO bdr.conflict_policy VALUES
          ('public', 'item', 'update_wins', NULL, 'd'), ('public', 'not here', 'update_wins', NULL, 'd')`);
    expect(await identity()).toBe('f');
    expect(await policies()).toContainEqual({
      table_name: 'not here',
      policy: 'update_wins',
      nodes: null,
      is_in_effect: 'f',
    });
    await session.script(`DELETE FROM bdr.conflict_policy; SET session_replication_role = origin`);
    expect(await identity()).toBe('d');
  });

  test.each([
    ['public.item', 'newest', 'NULL', 'conflict policy "newest" is not known'],
    ['public.item', 'column_merge', 'NULL', 'conflict policy "column_merge" is not supported yet'],
    ['public.item', 'delta', 'NULL', 'conflict policy "delta" is not supported yet'],
    ['public.item', 'node_priority', 'NULL', 'nodes are given for node_priority'],
    ['public.item', 'update_wins', `ARRAY['here']`, 'nodes are given for node_priority'],
    ['public.item', 'node_priority', `ARRAY['here', 'gone']`, 'No node(s) named gone found'],
    ['public.item', 'node_priority', `'{}'`, 'No node(s) named {} found'],
    ['public.keyless', 'update_wins', 'NULL', 'has no PRIMARY KEY that is checked at once'],
    ['public.late', 'update_wins', 'NULL', 'has no PRIMARY KEY that is checked at once'],
    ['public.parts', 'update_wins', 'NULL', 'is a partitioned table'],
    ['public.computed', 'update_wins', 'NULL', 'has generated columns'],
    ['public.named', 'update_wins', 'NULL', 'has a REPLICA IDENTITY of its own'],
    ['pg_catalog.pg_class', 'update_wins', 'NULL', 'is a system catalog'],
    ['bdr.tombstone', 'update_wins', 'NULL', 'is not a table that is replicated'],
  ])('%s, %s, %s is refused: %s', async (relation, policy, nodes, why) => {
    await expect(set(relation, policy, nodes)).rejects.toThrow(why);
    expect(await policies()).toEqual([]);
  });

  const create = (name: string, handler: string) =>
    session.query(`
      SELECT bdr.bdr_create_conflict_handler('public.item', '${name}', 'public.${handler}', 'update_update', '5 s')`);
  const ITEMS = 'public.item, public.item, text, regclass';

  test('handlers are listed as in BDR, and make their table’s policy handler', async () => {
    await create('merge', `right(${ITEMS}, bdr.bdr_conflict_type)`);
    expect(
      await session.query(
        `SELECT ch_name, ch_type, ch_reloid::regclass, ch_fun, ch_timeframe FROM bdr.bdr_list_conflict_handlers`,
      ),
    ).toEqual([
      {
        ch_name: 'merge',
        ch_type: 'update_update',
        ch_reloid: 'public.item',
        ch_fun: 'public."right"(public.item,public.item,text,regclass,bdr.bdr_conflict_type)',
        ch_timeframe: '00:00:05',
      },
    ]);
    expect(await policies()).toMatchObject([{ policy: 'handler' }]);
    const drop = () =>
      session.query(`SELECT bdr.bdr_drop_conflict_handler('public.item', 'merge')`);
    await drop();
    await expect(drop()).rejects.toThrow(/^handler merge for relation with oid \d+ not found$/);
    await set('public.item', 'update_wins');
    await expect(create('merge', `right(${ITEMS}, bdr.bdr_conflict_type)`)).rejects.toThrow(
      'are resolved by policy update_wins',
    );
    await set('public.item', 'last_update_wins');
  });

  test.each([
    [`wrong(${ITEMS}, text)`, 'Three last input arguments are not'],
    ['plain(public.item)', 'Return type is not RECORD.'],
  ])('%s cannot be one: %s', async (handler, hint) => {
    await expect(create('no', handler)).rejects.toMatchObject({
      message: expect.stringMatching(/^conflict handler function signature must be/) as string,
      hint: expect.stringContaining(hint) as string,
    });
  });

  describe('the owner of a table', () => {
    const HANDLER = (name: string, table: string) =>
      `CREATE FUNCTION ${name}(mine ${table}, theirs ${table}, text, regclass, bdr.bdr_conflict_type,
       OUT result ${table}, OUT action bdr.bdr_conflict_handler_action) LANGUAGE plpgsql AS $$ BEGIN action := 'SKIP'; END $$`;
    beforeAll(async () => {
      await session.script(`
        CREATE ROLE mallory;
        CREATE ROLE team;
        GRANT team TO mallory;
        CREATE SCHEMA hers AUTHORIZATION mallory;
        GRANT CREATE ON SCHEMA public TO mallory;
        CREATE TABLE hers.of_team (id integer PRIMARY KEY);
        ALTER TABLE hers.of_team OWNER TO team;
        ${HANDLER('public.of_superuser', 'public.item')};
        SET ROLE mallory;
        CREATE TABLE hers.item (id integer PRIMARY KEY, v text);
        CREATE TABLE hers.keyless (id integer);
        ${HANDLER('hers.handler', 'hers.item')};
        ${HANDLER('public.of_mallory', 'public.item')};
        RESET ROLE;
        ${HANDLER('hers.not_hers', 'hers.item')}`);
    });
    /** As mallory, who is no superuser. */
    const asOwner = async (sql: string) => {
      await session.script('SET SESSION AUTHORIZATION mallory');
      try {
        return await session.query(sql);
      } finally {
        await session.script('RESET SESSION AUTHORIZATION');
      }
    };
    const policy = (table: string, name: string) =>
      `SELECT bdr.bdr_set_conflict_policy('${table}', '${name}')`;
    const handler = (table: string, name: string) =>
      `SELECT bdr.bdr_create_conflict_handler('${table}', 'h',
         '${name}(${table}, ${table}, text, regclass, bdr.bdr_conflict_type)', 'update_update')`;

    test('and whoever has his rights sets its policy and its handlers, and sees them', async () => {
      await asOwner(policy('hers.item', 'update_wins'));
      await asOwner(policy('hers.item', 'delete_wins'));
      await asOwner(policy('hers.of_team', 'update_wins'));
      await set('public.item', 'update_wins');
      const seen = await asOwner('SELECT table_name, policy FROM bdr.conflict_policy ORDER BY 1');
      expect(seen).toEqual([
        { table_name: 'item', policy: 'delete_wins' },
        { table_name: 'of_team', policy: 'update_wins' },
      ]);
      for (const table of ['hers.item', 'hers.of_team']) {
        await asOwner(policy(table, 'last_update_wins'));
      }
      await set('public.item', 'last_update_wins');
      await asOwner(handler('hers.item', 'hers.handler'));
      expect(await policies()).toMatchObject([{ table_name: 'item', policy: 'handler' }]);
      await asOwner(`SELECT bdr.bdr_drop_conflict_handler('hers.item', 'h')`);
      await asOwner(policy('hers.item', 'last_update_wins'));
      expect(await policies()).toEqual([]);
    });

    test('can do nothing to others’ tables, nor past the functions', async () => {
      const refused = /^permission denied to relation public.item$/;
      await session.script(handler('public.item', 'public.of_superuser'));
      await expect(asOwner(policy('public.item', 'update_wins'))).rejects.toThrow(refused);
      await expect(asOwner(policy('public.item', 'last_update_wins'))).rejects.toThrow(refused);
      await expect(asOwner(handler('public.item', 'public.of_mallory'))).rejects.toThrow(refused);
      await expect(
        asOwner(`SELECT bdr.bdr_drop_conflict_handler('public.item', 'h')`),
      ).rejects.toThrow(refused);
      expect(
        await asOwner(`DELETE FROM bdr.conflict_policy RETURNING table_name`),
        'not even seen',
      ).toEqual([]);
      const rowSecurity = /violates row-level security policy/;
      const row = (table: string, name = 'update_wins', nodes = 'NULL') =>
        asOwner(`INSERT INTO bdr.conflict_policy VALUES (${table}, '${name}', ${nodes}, 'd')`);
      await expect(row(`'bdr', 'bdr_nodes'`)).rejects.toThrow(rowSecurity);
      await expect(row(`'hers', 'missing'`)).rejects.toThrow(rowSecurity);
      await expect(row(`'hers', 'keyless'`)).rejects.toThrow('has no PRIMARY KEY');
      await expect(row(`'hers', 'item'`, 'node_priority', `'{nobody}'`)).rejects.toThrow(
        'No node(s) named nobody found',
      );
      const listed = (table: string, name: string) =>
        asOwner(
          `INSERT INTO bdr.bdr_conflict_handlers VALUES ('x', 'update_update', ${table}, '${name}')`,
        );
      const types = '(hers.item,hers.item,text,regclass,bdr.bdr_conflict_type)';
      await expect(listed(`'public', 'item'`, `hers.handler${types}`)).rejects.toThrow(rowSecurity);
      await expect(listed(`'hers', 'item'`, 'hers.handler')).rejects.toThrow();
      await expect(listed(`'hers', 'item'`, ` hers.handler${types}`)).rejects.toThrow(
        'must be written as',
      );
      await expect(listed(`'hers', 'item'`, `hers.not_hers${types}`)).rejects.toThrow(
        /^permission denied for function/,
      );
      await session.script(`
        SELECT bdr.bdr_drop_conflict_handler('public.item', 'h');
        SELECT bdr.bdr_set_conflict_policy('public.item', 'last_update_wins')`);
      expect(await policies()).toEqual([]);
    });

    test('gains nothing by functions that a superuser calls, nor by giving the role back in them', async () => {
      const tricks = [
        'NULL',
        `RESET ROLE`,
        `SET LOCAL ROLE postgres`,
        'RESET SESSION AUTHORIZATION',
      ];
      for (const trick of tricks) {
        await session.script(`
          SET ROLE mallory;
          CREATE OR REPLACE FUNCTION hers.trick() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
          BEGIN
            ${trick};
            PERFORM bdr.bdr_set_conflict_policy('public.item', 'update_wins');
            RETURN 'done';
          EXCEPTION WHEN OTHERS THEN RETURN SQLERRM;
          END $$;
          RESET ROLE`);
        const [said] = await session.query<{ trick: string }>('SELECT hers.trick()');
        expect(said?.trick).toMatch(/^permission denied|^cannot set parameter/);
        expect(await policies()).toEqual([]);
      }
    });

    test('cannot have a function run with rights that he has not, on any node', async () => {
      await expect(asOwner(handler('hers.item', 'hers.not_hers'))).rejects.toMatchObject({
        message: expect.stringMatching(/^permission denied for function hers.not_hers/) as string,
        code: '42501',
      });
      await expect(session.query(handler('hers.item', 'hers.not_hers'))).rejects.toThrow(
        'permission denied for function',
      );
      // As it comes to a node where the function is another's.
      await session.script(`
        SET session_replication_role = replica;
        INSERT INTO bdr.bdr_conflict_handlers
        VALUES ('x', 'update_update', 'hers', 'item', 'hers.not_hers(hers.item,hers.item,text,regclass,bdr.bdr_conflict_type)');
        SET session_replication_role = origin`);
      const [row] = await session.query<{ oid: string }>(
        `SELECT 'hers.item'::regclass::oid AS oid`,
      );
      const name = { schema: 'hers', name: 'item' };
      const found = await readConflictHandlers(
        session,
        { oid: row?.oid ?? '', name },
        'update_update',
        0,
      );
      expect(found).toMatchObject([
        { found: { flaw: expect.stringContaining('has not the rights') as string } },
      ]);
      await session.script(`
        SET session_replication_role = replica;
        INSERT INTO bdr.conflict_policy VALUES ('hers', 'item', 'node_priority', '{here,paris}', 'd');
        INSERT INTO bdr.bdr_conflict_handlers VALUES ('y', 'update_update', 'hers', 'item', 'hers.none()');
        INSERT INTO bdr.conflict_policy VALUES ('hers', 'none', 'update_wins', NULL, 'd');
        SET session_replication_role = origin`);
      expect(await readPolicyStates(session)).toEqual([
        {
          table: name,
          policy: 'node_priority',
          isHere: true,
          hasKey: true,
          tellsOldRows: true,
          unknownNodes: ['paris'],
          handlers: [
            {
              name: 'x',
              signature: expect.stringContaining('not_hers') as string,
              state: 'not_owners',
            },
            { name: 'y', signature: 'hers.none()', state: 'missing' },
          ],
        },
        {
          table: { schema: 'hers', name: 'none' },
          policy: 'update_wins',
          isHere: false,
          hasKey: false,
          tellsOldRows: false,
          unknownNodes: [],
          handlers: [],
        },
      ]);
      await session.script('DELETE FROM bdr.conflict_policy');
      await session.script('DELETE FROM bdr.bdr_conflict_handlers');
    });
  });
});
