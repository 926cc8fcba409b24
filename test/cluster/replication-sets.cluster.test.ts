import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { publications, slotName, type Link } from '../../src/model/link.ts';
import { Cluster, concurrently, until, type TestNode } from '../support/cluster.ts';

/**
 * Three databases of one server as nodes: the first and the third get the sets default, europe and logs, the second only the default.
 * Tables: item is in default, sale in europe, log in logs, which send nothing but INSERT, and mine in none.
 */
describe('replication sets', () => {
  let cluster: Cluster;
  let one: TestNode;
  let two: TestNode;
  let three: TestNode;
  const WIDE = '{default,europe,logs}';
  const begin = (node: TestNode, via: TestNode, sets: string) =>
    node.sql('SELECT bdr.bdr_group_join($1, $2, $3, replication_sets := $4)', [
      node.name,
      node.dsn,
      via.dsn,
      sets,
    ]);
  beforeAll(async () => {
    cluster = await Cluster.bare(1, { replicatesDdl: true });
    one = cluster.node(1);
    await one.sql(`
      CREATE ROLE trader LOGIN;
      CREATE TABLE item (id integer PRIMARY KEY, v text);
      CREATE TABLE sale (id serial PRIMARY KEY, v text, UNIQUE (v));
      CREATE TABLE log (id integer PRIMARY KEY, v text);
      CREATE TABLE mine (id integer PRIMARY KEY, v text);
      ALTER TABLE sale OWNER TO trader;
      SELECT bdr.bdr_group_create('node1', '${one.dsn}', replication_sets := '${WIDE}')`);
    await one.ready();
    await one.sqlAs('trader', `SELECT bdr.table_set_replication_sets('sale', '{europe}')`);
    await one.sql(`
      INSERT INTO bdr.bdr_replication_set_config VALUES ('logs', true, false, false);
      SELECT bdr.table_set_replication_sets('log', '{logs}'), bdr.table_set_replication_sets('mine', '{}');
      INSERT INTO item VALUES (1, 'old'); INSERT INTO sale (v) VALUES ('old');
      INSERT INTO log VALUES (1, 'old'); INSERT INTO mine VALUES (1, 'one')`);
    two = await cluster.addNode('node2', one.host, 'app2');
    await begin(two, one, '{default}');
    await two.ready();
    three = await cluster.addNode('node3', one.host, 'app3');
  });
  afterAll(() => cluster[Symbol.asyncDispose]());

  const values = async (node: TestNode, table: string) =>
    (await node.sql(`SELECT v FROM ${table} ORDER BY id`)).map(([v]) => v);
  const setsOn = async (node: TestNode, table: string) =>
    (await node.sql(`SELECT bdr.table_get_replication_sets('${table}')::text`))[0]?.[0];

  test('a joining node is refused where it would be filled with less than it is to get', async () => {
    await begin(three, two, WIDE);
    await expect(three.sql('SELECT bdr.bdr_node_join_wait_for_ready()')).rejects.toThrow(
      'the remote node does not get all that this node is to get: public.log, public.sale',
    );
  });

  test('a joining node gets all tables, and the rows of those that it is sent', async () => {
    await begin(three, one, WIDE);
    await three.ready();
    expect(await values(two, 'item')).toEqual(['old']);
    for (const table of ['sale', 'log', 'mine']) expect(await values(two, table)).toEqual([]);
    for (const table of ['item', 'sale', 'log']) {
      expect(await values(three, table)).toEqual(['old']);
    }
    expect(await values(three, 'mine')).toEqual([]);
    expect(
      await three.sql(
        'SELECT relname::text, memberships, replicate_deletes FROM bdr.replication_set_tables ORDER BY 1',
      ),
    ).toEqual([
      ['item', ['default', 'all'], true],
      ['log', ['logs', 'all'], false],
      ['mine', ['all'], true],
      ['sale', ['europe', 'all'], true],
    ]);
  });

  test('what a node is not to get is not sent', async () => {
    await cluster.settled();
    await two.sql('SELECT bdr.bdr_apply_pause()');
    await one.sql(`
      INSERT INTO item VALUES (2, 'sent'); INSERT INTO sale (v) VALUES ('held back');
      INSERT INTO log VALUES (2, 'held back'); INSERT INTO mine VALUES (2, 'held back')`);
    const idOf = async (node: TestNode) => {
      const [row] = await node.sql(
        'SELECT sysid, timeline::integer, dboid::integer FROM bdr.bdr_get_local_nodeid()',
      );
      const [sysid, timeline, dboid] = row as [string, number, number];
      return { sysid, timeline, dboid };
    };
    const link: Link = { provider: await idOf(one), subscriber: await idOf(two) };
    const slot = slotName(link);
    await until('the second node to let its stream go', async () => {
      const [row] = await one.sql('SELECT active FROM pg_replication_slots WHERE slot_name = $1', [
        slot,
      ]);
      return row?.[0] === false;
    });
    const messages = await one.sql(
      `SELECT data FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', $2)`,
      [slot, publications(link).join(',')],
    );
    const text = messages.map(([data]) => (data as Buffer).toString('latin1')).join('\n');
    expect(text).toContain('sent');
    for (const hidden of ['held back', 'sale', 'log', 'mine']) expect(text).not.toContain(hidden);
    await two.sql('SELECT bdr.bdr_apply_resume()');
    expect(await cluster.equal('item')).toEqual(['(1,old)', '(2,sent)']);
    expect(await values(three, 'sale')).toEqual(['old', 'held back']);
  });

  test('who does not get a table may write to it all the same, and is sent nothing back', async () => {
    await two.sql(`INSERT INTO sale VALUES (100, 'of two')`);
    await three.sql(`INSERT INTO sale VALUES (101, 'of three')`);
    await cluster.settled();
    await three.sql(`UPDATE sale SET v = 'of two, by three' WHERE id = 100`);
    const all = ['old', 'held back', 'of two, by three', 'of three'];
    await cluster.settled();
    expect([await values(one, 'sale'), await values(three, 'sale')]).toEqual([all, all]);
    expect(await values(two, 'sale')).toEqual(['of two']);
    // Of a later writer, though he had not seen the row.
    await two.sql(`UPDATE sale SET v = 'of two again' WHERE id = 100`);
    await cluster.equal('sale', [one, three]);
    expect(await values(one, 'sale')).toContain('of two again');
  });

  test('nodes that get a table settle their conflicts in it, also in a unique index', async () => {
    await concurrently([one, three], async () => {
      await one.sql(
        `UPDATE sale SET v = 'first' WHERE id = 101; INSERT INTO sale VALUES (102, 'same')`,
      );
      await three.sql(
        `UPDATE sale SET v = 'second' WHERE id = 101; INSERT INTO sale VALUES (103, 'same')`,
      );
      await two.sql(`INSERT INTO sale VALUES (104, 'same')`);
    });
    await cluster.equal('sale', [one, three]);
    const rows = await values(one, 'sale');
    expect(rows).toContain('second');
    expect(rows.filter((v) => v === 'same')).toHaveLength(1);
  });

  test('a set sends the actions that it is configured for; TRUNCATE goes with deletions', async () => {
    await two.sql(`
      INSERT INTO log VALUES (3, 'c'), (4, 'd'); UPDATE log SET v = 'changed' WHERE id = 3; DELETE FROM log WHERE id = 4`);
    await cluster.settled();
    for (const node of [one, three]) {
      expect(await values(node, 'log')).toEqual(['old', 'held back', 'c', 'd']);
    }
    await one.sql('TRUNCATE log, sale, mine');
    await cluster.settled();
    expect(await values(three, 'log')).toHaveLength(4);
    expect(await values(three, 'sale')).toEqual([]);
    expect(await values(two, 'sale'), 'which it is not sent').toHaveLength(2);
    await three.sql(
      `INSERT INTO bdr.bdr_replication_set_config VALUES ('logs') ON CONFLICT (set_name) DO UPDATE SET replicate_deletes = true`,
    );
    await cluster.settled();
    await until('the other node to go by it', async () => {
      const [row] = await one.sql(
        'SELECT count(*)::integer FROM bdr.internal_publication_changes()',
      );
      return row?.[0] === 0;
    });
    await one.sql('TRUNCATE log');
    await cluster.settled();
    expect(await values(three, 'log')).toEqual([]);
  });

  test('sets change under load: what is sent begins and ends between two transactions', async () => {
    await one.sql('TRUNCATE sale RESTART IDENTITY');
    await two.sql('TRUNCATE sale');
    await cluster.settled();
    const stop = new AbortController();
    const load = (async () => {
      await using client = await one.connect();
      for (let id = 1; !stop.signal.aborted; id++) {
        await client.sql(`INSERT INTO sale VALUES (${id}, 'load ${id}')`);
        await pause(2);
      }
    })();
    const count = async (node: TestNode) =>
      Number((await node.sql('SELECT count(*)::integer FROM sale'))[0]?.[0]);
    const grown = async (node: TestNode) => {
      const before = await count(node);
      await until('rows to arrive', async () => (await count(node)) > before + 20);
    };
    /** From the smallest to the greatest none is missing. */
    const gaps = async (node: TestNode) =>
      (await node.sql('SELECT max(id) - min(id) + 1 - count(*)::integer FROM sale'))[0]?.[0];
    await grown(three);
    expect(await count(two)).toBe(0);
    await three.sql(`SELECT bdr.connection_set_replication_sets('{default,europe}', 'node2')`);
    await grown(two);
    const arrived = (node: TestNode, sets: string) =>
      until('the sets to arrive', async () => (await setsOn(node, 'sale')) === sets);
    await one.sqlAs('trader', `SELECT bdr.table_set_replication_sets('sale', NULL)`);
    await arrived(two, '{default,all}');
    await grown(two);
    await two.sqlAs('trader', `SELECT bdr.table_set_replication_sets('sale', '{europe,more}')`);
    await arrived(one, '{europe,more,all}');
    await grown(two);
    await one.sql(`SELECT bdr.connection_set_replication_sets('{default}', 'node2')`);
    const last = await count(one);
    await grown(three);
    stop.abort();
    await load;
    await cluster.settled();
    await cluster.same('sale', [one, three]);
    expect(await gaps(two)).toBe(0);
    const [row] = await two.sql('SELECT min(id) > 1, max(id) FROM sale');
    expect(row?.[0]).toBe(true);
    expect(Number(row?.[1])).toBeLessThanOrEqual(last);
    for (const node of cluster.nodes) {
      expect(
        await node.sql(
          `SELECT count(*)::integer FROM bdr.bdr_conflict_history WHERE object_name = 'sale' AND object_schema = 'public' AND remote_commit_time > now() - interval '1 minute' AND remote_tuple->>'v' LIKE 'load%'`,
        ),
      ).toEqual([[0]]);
    }
  });

  test('with synchronize the rows that are there come too, and nothing that others write is lost', async () => {
    await expect(
      two.sqlAs(
        'trader',
        `SELECT bdr.table_set_replication_sets('sale', NULL, synchronize := true)`,
      ),
    ).rejects.toThrow('this node does not get all changes of table public.sale');
    const stop = new AbortController();
    const kept = new Set<number>();
    const loads = [one, three].map(async (node, at) => {
      await using client = await node.connect();
      // A statement that waits for the lock on another node is to be run again.
      const write = async (text: string) => {
        try {
          await client.sql(text);
          return true;
        } catch (error) {
          expect(error).toMatchObject({ code: '40001' });
          return false;
        }
      };
      for (let id = 100001 + at; !stop.signal.aborted; id += 2) {
        if (await write(`INSERT INTO sale VALUES (${id}, 'more ${id}')`)) kept.add(id);
        if (id % 5 === 0 && (await write(`DELETE FROM sale WHERE id = ${id}`))) kept.delete(id);
        await pause(5);
      }
    });
    await one.sqlAs(
      'trader',
      `SELECT bdr.table_set_replication_sets('sale', NULL, synchronize := true)`,
    );
    stop.abort();
    await Promise.all(loads);
    const rows = await cluster.equal('sale');
    expect(rows.length).toBeGreaterThan(100 + kept.size);
    const [more] = await two.sql('SELECT array_agg(id ORDER BY id) FROM sale WHERE id > 100000');
    expect(more?.[0]).toEqual([...kept].toSorted((a, b) => a - b));
  });

  test('two nodes that put one table into different sets at the same moment do it one after the other', async () => {
    await one.sql('CREATE TABLE fought (id integer PRIMARY KEY)');
    await cluster.settled();
    for (let round = 0; round < 3; round++) {
      await Promise.all(
        cluster.nodes.map((node) =>
          node.sql(
            `SELECT bdr.table_set_replication_sets('fought', '{${node.name},round${round}}')`,
          ),
        ),
      );
      await cluster.settled();
      const [first, ...others] = await Promise.all(
        cluster.nodes.map((node) => setsOn(node, 'fought')),
      );
      expect(first).toContain(`round${round}`);
      for (const other of others) expect(other).toBe(first);
    }
  });

  test('a new table is in default, on all nodes; one that is put elsewhere at once is never sent', async () => {
    await two.sql(`
      CREATE TABLE made (id integer PRIMARY KEY, v text); INSERT INTO made VALUES (1, 'a');
      CREATE TABLE counted AS SELECT 7 AS id, 'rows'::text AS v`);
    await three.sql(`
      BEGIN; CREATE TABLE hidden (id integer PRIMARY KEY, v text);
      SELECT bdr.table_set_replication_sets('hidden', '{europe}'); INSERT INTO hidden VALUES (1, 'hidden'); COMMIT`);
    await cluster.settled();
    expect(await cluster.same('made')).toEqual(['(1,a)']);
    expect(await cluster.same('counted')).toEqual(['(7,rows)']);
    for (const node of cluster.nodes) expect(await setsOn(node, 'hidden')).toBe('{europe,all}');
    expect(await values(one, 'hidden')).toEqual(['hidden']);
    expect(await values(two, 'hidden')).toEqual([]);
    await two.sql(`ALTER TABLE hidden RENAME TO moved`);
    await cluster.settled();
    for (const node of cluster.nodes) expect(await setsOn(node, 'moved')).toBe('{europe,all}');
  });

  test('nothing is left behind for a node that was parted', async () => {
    const left = async () =>
      (
        await one.sql(`
        SELECT count(*)::integer FROM pg_publication AS p JOIN bdr.bdr_nodes AS n ON n.node_name = 'node3'
        WHERE starts_with(p.pubname, format('bdr_%s_%s_%s_', n.node_sysid, n.node_timeline, n.node_dboid))`)
      )[0]?.[0];
    expect(await left()).toBe(3);
    await one.sql(`SELECT bdr.bdr_part_by_node_names('{node3}')`);
    await until('the publications to be gone', async () => (await left()) === 0);
    await three.sql('SELECT bdr.remove_bdr_from_local_node(true)');
    expect(await three.sql('SELECT count(*)::integer FROM pg_publication')).toEqual([[0]]);
    await one.sql(`INSERT INTO item VALUES (9, 'after')`);
    await cluster.equal('item', [one, two]);
  });
});
