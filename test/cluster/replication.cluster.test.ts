import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, until } from '../support/cluster.ts';

describe('two nodes', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.start(
      2,
      `CREATE TABLE item (id integer PRIMARY KEY, name text, amount numeric);
       INSERT INTO item SELECT g, 'name ' || g, g FROM generate_series(1, 1000) AS g;
       CREATE TABLE event (at timestamptz DEFAULT now(), what text);
       CREATE TABLE part (day date, id integer, v text, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
       CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
       CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM ('2026-07-01') TO ('2027-01-01');`,
    );
  });
  afterAll(() => cluster[Symbol.asyncDispose]());

  test('a joining node gets the rows that are there', async () => {
    expect(await cluster.equal('item')).toHaveLength(1000);
  });

  test('inserts, updates and deletes go both ways', async () => {
    const [one, two] = [cluster.node(1), cluster.node(2)];
    await one.sql(
      `INSERT INTO item VALUES (2001, 'one', 1); UPDATE item SET amount = -1 WHERE id = 1; DELETE FROM item WHERE id = 2`,
    );
    await two.sql(
      `INSERT INTO item VALUES (2002, 'two', 2); UPDATE item SET amount = -3 WHERE id = 3; DELETE FROM item WHERE id = 4`,
    );
    const rows = await cluster.equal('item');
    expect(rows).toHaveLength(1000);
    expect(rows).toEqual(
      expect.arrayContaining([
        '(2001,one,1)',
        '(2002,two,2)',
        '(1,"name 1",-1)',
        '(3,"name 3",-3)',
      ]),
    );
  });

  test('a change of key arrives as one', async () => {
    await cluster.node(2).sql('UPDATE item SET id = 9000 WHERE id = 10');
    const rows = await cluster.equal('item');
    expect(rows).toContain('(9000,"name 10",10)');
    expect(rows).not.toContain('(10,"name 10",10)');
  });

  test('a table without a key takes inserts, and refuses updates where they are made', async () => {
    await cluster.node(1).sql(`INSERT INTO event (what) VALUES ('a'), ('a')`);
    await cluster.node(2).sql(`INSERT INTO event (what) VALUES ('b')`);
    expect(await cluster.equal('event')).toHaveLength(3);
    await expect(cluster.node(1).sql(`UPDATE event SET what = 'c'`)).rejects.toMatchObject({
      code: '55000',
    });
    await expect(cluster.node(2).sql(`DELETE FROM event`)).rejects.toMatchObject({ code: '55000' });
  });

  test('partitioned tables replicate, rows that move between partitions too', async () => {
    await cluster
      .node(1)
      .sql(`INSERT INTO part VALUES ('2026-02-01', 1, 'a'), ('2026-08-01', 2, 'b')`);
    await cluster.settled();
    await cluster
      .node(2)
      .sql(`UPDATE part SET day = '2026-09-01' WHERE id = 1; UPDATE part SET v = 'c' WHERE id = 2`);
    expect(await cluster.equal('part')).toEqual(['(2026-08-01,2,c)', '(2026-09-01,1,a)']);
  });

  test('a table made on both nodes after the join replicates', async () => {
    for (const node of cluster.nodes)
      await node.sql('CREATE TABLE later (id integer PRIMARY KEY, v text)');
    await cluster.node(1).sql(`INSERT INTO later VALUES (1, 'x')`);
    await cluster.node(2).sql(`INSERT INTO later VALUES (2, 'y')`);
    expect(await cluster.equal('later')).toEqual(['(1,x)', '(2,y)']);
  });

  test('TRUNCATE arrives', async () => {
    await cluster.node(1).sql('TRUNCATE later');
    expect(await cluster.equal('later')).toEqual([]);
  });

  test('changes of one node never come back to it', async () => {
    const [one, two] = [cluster.node(1), cluster.node(2)];
    /** How many rows node 1 has taken, a new one of node 2 included: the counts are written once a second. */
    const takenUpTo = async (id: number): Promise<number> => {
      await two.sql(`INSERT INTO later VALUES (${id}, 'marker')`);
      const [end] = await two.sql('SELECT pg_current_wal_insert_lsn()::text');
      let taken = 0;
      await until('the count of a row', async () => {
        const [row] = await one.sql(
          `SELECT applied_lsn >= '${String(end?.[0])}', nr_insert + nr_update + nr_delete FROM bdr.bdr_links`,
        );
        taken = Number(row?.[1]);
        return row?.[0] === true;
      });
      return taken;
    };
    const taken = await takenUpTo(76);
    await one.sql(`INSERT INTO later VALUES (77, 'mine')`);
    // Node 2 has it before it writes its next row: had it been sent on, it would come before that one.
    await one.applied();
    expect(await takenUpTo(78)).toBe(taken + 1);
    const [row] = await one.sql(
      `SELECT (pg_xact_commit_timestamp_origin(xmin)).roident FROM later WHERE id = 77`,
    );
    expect(row).toEqual([0]);
  });
});
