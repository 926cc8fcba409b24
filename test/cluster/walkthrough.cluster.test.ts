import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, Host, TestClient, TestNode, until } from '../support/cluster.ts';

/** As in the walk-through: the servers' own user is trusted, bdrsync comes with its password, for replication too. */
const HBA = `
host    all             postgres        127.0.0.1/32            trust
host    replication     postgres        127.0.0.1/32            trust
host all all 0.0.0.0/0  password
host replication bdrsync 127.0.0.1/32 password
`;

/** The statements of the walk-through, one a line as psql sends them. Only host and port are ours. */
const SETUP = ['CREATE USER bdrsync superuser;', `ALTER USER bdrsync WITH PASSWORD '12345#';`];
const DATABASE = ['CREATE USER test_user;', 'CREATE DATABASE test_db OWNER test_user;'];
const EXTENSIONS = ['CREATE EXTENSION btree_gist;', 'CREATE EXTENSION bdr;'];
const createGroup = (server: string) => `SELECT bdr.bdr_group_create(
        local_node_name := 'node1',
        node_external_dsn := '${server} user=bdrsync dbname=test_db password=12345#'
    );`;
const joinGroup = (own: string, other: string) => `SELECT bdr.bdr_group_join(
        local_node_name := 'node2',
        node_external_dsn := '${own} user=bdrsync dbname=test_db password=12345#',
        join_using_dsn := '${other} user=bdrsync dbname=test_db password=12345#'
    );`;

describe('the SQL of the walk-through', () => {
  const cluster = new Cluster();
  let one: TestNode;
  let two: TestNode;
  const address = (node: TestNode) => `host=127.0.0.1 port=${node.host.server.port}`;

  /** A client of role test_user, the owner of the database, who may do nothing else. */
  const asTestUser = async (node: TestNode) => {
    const client = new pg.Client({
      host: '127.0.0.1',
      port: node.host.server.port,
      user: 'test_user',
      password: 'secret',
      database: 'test_db',
    });
    await client.connect();
    return new TestClient(client);
  };

  beforeAll(async () => {
    for (const number of [1, 2]) {
      const host = await Host.start({ hba: HBA });
      cluster.hosts.push(host);
      const maintenance = new TestNode('postgres', host, 'postgres');
      for (const statement of [...SETUP, ...DATABASE]) await maintenance.sql(statement);
      await maintenance.sql(`ALTER USER test_user WITH PASSWORD 'secret'`);
      cluster.nodes.push(new TestNode(`node${number}`, host, 'test_db'));
    }
    one = cluster.node(1);
    two = cluster.node(2);
  });
  afterAll(() => cluster[Symbol.asyncDispose]());

  test('CREATE EXTENSION btree_gist and bdr work on stock servers', async () => {
    for (const node of cluster.nodes) {
      for (const statement of EXTENSIONS) await node.sql(statement);
      expect(await node.sql('SELECT bdr.bdr_is_active_in_db()')).toEqual([[false]]);
      expect(await node.sql('SELECT * FROM bdr.bdr_nodes')).toEqual([]);
    }
  });

  test('a create or join that is rolled back leaves nothing, in either call style', async () => {
    const leavings = `
      SELECT (SELECT count(*) FROM bdr.bdr_nodes), (SELECT count(*) FROM bdr.bdr_connections),
             (SELECT count(*) FROM bdr.bdr_local_node), (SELECT count(*) FROM pg_publication),
             (SELECT count(*) FROM pg_event_trigger WHERE evtname = 'bdr_guard'),
             (SELECT count(*) FROM pg_db_role_setting), (SELECT count(*) FROM pg_replication_slots),
             (SELECT count(*) FROM pg_replication_origin), bdr.bdr_is_active_in_db()`;
    const dsn = `${address(two)} user=bdrsync dbname=test_db password=12345#`;
    for (const call of [
      createGroup(address(two)),
      `SELECT bdr.bdr_group_create('node2', '${dsn}')`,
      `SELECT bdr.bdr_group_create('node2', '${dsn}', '${dsn}', 5, ARRAY['default'])`,
      joinGroup(address(two), address(one)),
      `SELECT bdr.bdr_group_join('node2', '${dsn}', '${dsn}', NULL, NULL)`,
      `SELECT bdr.bdr_group_join('node2', node_external_dsn => '${dsn}', join_using_dsn => '${dsn}', apply_delay => 10)`,
    ]) {
      await using client = await two.connect();
      await client.sql('BEGIN;');
      await client.sql(call);
      expect(await client.sql('SELECT bdr.bdr_is_active_in_db()')).toEqual([[true]]);
      await client.sql('ROLLBACK;');
      expect(await client.sql(leavings)).toEqual([['0', '0', '0', '0', '0', '0', '0', '0', false]]);
    }
  });

  test('bdr_group_create makes the first node, of a database that is in use', async () => {
    await using owner = await asTestUser(one);
    await owner.sql('CREATE SCHEMA shop');
    await owner.sql('CREATE TABLE shop.item (id integer PRIMARY KEY, name text)');
    await owner.sql(`INSERT INTO shop.item VALUES (1, 'first')`);
    await one.sql(createGroup(address(one)));
    expect(await one.sql('SELECT bdr.bdr_is_active_in_db()')).toEqual([[true]]);
    await one.ready();
  });

  test('bdr_group_join adds the second, with what the first holds', async () => {
    await two.sql(joinGroup(address(two), address(one)));
    await two.ready();
    await using owner = await asTestUser(two);
    expect(await owner.sql('SELECT * FROM shop.item')).toEqual([[1, 'first']]);
  });

  test('bdr_nodes and bdr_connections show both nodes on both', async () => {
    await until('both nodes to know that both are ready', async () => {
      const seen = await Promise.all(
        cluster.nodes.map((node) => node.sql(`SELECT FROM bdr.bdr_nodes WHERE node_status = 'r'`)),
      );
      return seen.every((rows) => rows.length === 2);
    });
    await using first = await one.connect();
    const { fields } = await first.client.query('select * from bdr.bdr_nodes;');
    expect(fields.slice(0, 9).map(({ name }) => name)).toEqual([
      'node_sysid',
      'node_timeline',
      'node_dboid',
      'node_status',
      'node_name',
      'node_local_dsn',
      'node_init_from_dsn',
      'node_read_only',
      'node_seq_id',
    ]);
    for (const table of ['bdr_nodes', 'bdr_connections']) {
      const [a, b] = await Promise.all(
        cluster.nodes.map((node) => node.sql(`select * from bdr.${table} order by 1, 2, 3;`)),
      );
      expect(a).toHaveLength(2);
      expect(a, table).toEqual(b);
    }
  });

  test('rows of an ordinary user go both ways, those of tables that he makes later too', async () => {
    await using first = await asTestUser(one);
    await using second = await asTestUser(two);
    await first.sql(`INSERT INTO shop.item VALUES (2, 'second')`);
    await second.sql(`INSERT INTO shop.item VALUES (3, 'third')`);
    await first.sql('CREATE TABLE shop.later (id integer PRIMARY KEY)');
    await first.sql('CREATE TABLE shop.copied AS SELECT 1 AS n');
    for (const client of [first, second]) {
      await client.sql('CREATE TEMPORARY TABLE scratch (n integer)');
      expect(client.notices).toEqual([]);
    }
    expect(await cluster.equal('shop.copied')).toEqual(['(1)']);
    await first.sql('INSERT INTO shop.later VALUES (1)');
    await second.sql('INSERT INTO shop.later VALUES (2)');
    expect(await cluster.equal('shop.item')).toEqual(['(1,first)', '(2,second)', '(3,third)']);
    expect(await cluster.equal('shop.later')).toEqual(['(1)', '(2)']);
  });

  test('an ordinary user sees nothing of schema bdr that is not for him', async () => {
    await using user = await asTestUser(one);
    expect(
      await user.sql('SELECT bdr.bdr_is_active_in_db(), bdr.bdr_get_local_node_name()'),
    ).toEqual([[true, 'node1']]);
    const relations = await one.sql(
      `SELECT oid::regclass::text, relrowsecurity FROM pg_class
       WHERE relnamespace = 'bdr'::regnamespace AND relkind IN ('r', 'v')`,
    );
    for (const [name, isByRow] of relations) {
      // What is said of tables and sequences of his own; he has none.
      if (isByRow === true) expect(await user.sql(`SELECT * FROM ${String(name)}`)).toEqual([]);
      else
        await expect(user.sql(`SELECT * FROM ${String(name)}`)).rejects.toMatchObject({
          code: '42501',
        });
    }
    for (const call of [
      `bdr.bdr_group_create('x', 'y')`,
      `bdr.bdr_group_join('x', 'y', 'z')`,
      `bdr.bdr_part_by_node_names('{node2}')`,
      'bdr.remove_bdr_from_local_node(true)',
      'bdr.bdr_apply_pause()',
      'bdr.bdr_connections_changed()',
      'bdr.internal_sync_publication()',
      'bdr.internal_make_guard()',
    ]) {
      await expect(user.sql(`SELECT ${call}`), call).rejects.toMatchObject({ code: '42501' });
    }
  });

  test('remove_bdr_from_local_node(true) makes an ordinary database of the node, and DROP EXTENSION works', async () => {
    await expect(two.sql('DROP EXTENSION bdr')).rejects.toMatchObject({
      message: 'Dropping the BDR extension is prohibited while BDR is active',
    });
    await two.sql('select bdr.remove_bdr_from_local_node(true)');
    expect(await two.sql('SELECT bdr.bdr_is_active_in_db()')).toEqual([[false]]);
    expect(await two.sql('SELECT count(*) FROM shop.item')).toEqual([['3']]);
    await two.sql('DROP EXTENSION bdr');
    expect(await two.sql(`SELECT FROM pg_namespace WHERE nspname LIKE 'bdr%'`)).toEqual([]);
    await using owner = await asTestUser(two);
    await owner.sql(`CREATE TABLE shop.own (id integer); INSERT INTO shop.item VALUES (4, 'mine')`);
    await two.sql('CREATE EXTENSION bdr');
  });
});
