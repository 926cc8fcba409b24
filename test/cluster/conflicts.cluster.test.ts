import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, concurrently, until, type TestNode } from '../support/cluster.ts';

const SCHEMA = `
  CREATE TABLE item (id integer PRIMARY KEY, v text, at timestamptz DEFAULT '2026-01-01 00:00:00+00');
  CREATE TABLE big (id integer PRIMARY KEY, big text, v text);
  CREATE TABLE sec (id integer PRIMARY KEY, mail text UNIQUE);
  CREATE TABLE seat (id integer PRIMARY KEY, mail text NOT NULL, place integer UNIQUE);
  CREATE UNIQUE INDEX seat_mail ON seat (lower(mail));
  CREATE TABLE letters (id integer PRIMARY KEY, t text, r text);
  ALTER TABLE big ALTER big SET STORAGE EXTERNAL;
  INSERT INTO item SELECT g, 'start' FROM generate_series(1, 40) AS g;
  INSERT INTO big SELECT g, repeat('start', 2000), 'start' FROM generate_series(1, 10) AS g;
`;

/** What the history of a node says about a row of a table, the oldest first. */
async function history(node: TestNode, table: string, id: number): Promise<string[]> {
  const rows = await node.sql(
    `SELECT concat_ws(' ', conflict_type, conflict_resolution, local_tuple->>'v', '<-', remote_tuple->>'v')
     FROM bdr.bdr_conflict_history
     WHERE object_schema = 'public' AND object_name = $1
       AND coalesce(local_tuple->>'id', remote_tuple->>'id') = $2
     ORDER BY conflict_id`,
    [table, String(id)],
  );
  return rows.map(([row]) => String(row));
}

/** Returns when `node` has applied two transactions that `from` committed after this moment: heartbeats, when nothing else. */
async function hears(node: TestNode, from: TestNode): Promise<void> {
  for (let times = 0; times < 2; times++) {
    const [now] = await from.sql('SELECT clock_timestamp()::text');
    await until(`${node.name} to hear from ${from.name}`, async () => {
      const [link] = await node.sql(
        `SELECT l.applied_commit_at > $2::timestamptz
         FROM bdr.bdr_links AS l
         JOIN bdr.bdr_nodes AS n ON (n.node_sysid, n.node_timeline, n.node_dboid)
                                  = (l.provider_sysid, l.provider_timeline, l.provider_dboid)
         WHERE n.node_name = $1`,
        [from.name, now?.[0]],
      );
      return link?.[0] === true;
    });
  }
}

describe('conflicts of two nodes', () => {
  let cluster: Cluster;
  let one: TestNode;
  let two: TestNode;

  beforeAll(async () => {
    cluster = await Cluster.start(2, SCHEMA);
    [one, two] = [cluster.node(1), cluster.node(2)];
    await cluster.settled();
    await one.sql(`UPDATE item SET v = 'old'; UPDATE big SET v = 'old'`);
    await cluster.settled();
  });
  afterAll(() => cluster[Symbol.asyncDispose]());

  test('columns named like the aliases of our statements do not hide the row', async () => {
    await concurrently(cluster.nodes, async () => {
      await one.sql(`INSERT INTO letters VALUES (1, 'one', 'a')`);
      await two.sql(`INSERT INTO letters VALUES (1, 'two', 'b')`);
    });
    expect(await cluster.equal('letters')).toEqual(['(1,two,b)']);
    for (const node of cluster.nodes) {
      const [row] = await node.sql(
        `SELECT local_tuple, remote_tuple FROM bdr.bdr_conflict_history WHERE object_name = 'letters'`,
      );
      expect(row).toEqual(
        expect.arrayContaining([
          { id: 1, t: 'one', r: 'a' },
          { id: 1, t: 'two', r: 'b' },
        ]),
      );
    }
  });

  test('the later of two inserts of one key stands on both nodes, and both rows are in both histories', async () => {
    await concurrently(cluster.nodes, async () => {
      await one.sql(
        `INSERT INTO item VALUES (101, 'first'); INSERT INTO item VALUES (103, 'only one')`,
      );
      await two.sql(
        `INSERT INTO item VALUES (101, 'later'); INSERT INTO item VALUES (102, 'first')`,
      );
      await one.sql(`INSERT INTO item VALUES (102, 'later')`);
    });
    await cluster.settled();
    const rows = await cluster.same('item');
    expect(rows.filter((row) => /^\(10[0-9],/.test(row))).toEqual([
      '(101,later,"2026-01-01 00:00:00+00")',
      '(102,later,"2026-01-01 00:00:00+00")',
      '(103,"only one","2026-01-01 00:00:00+00")',
    ]);
    expect(await history(one, 'item', 101)).toEqual([
      'insert_insert last_update_wins_keep_remote first <- later',
    ]);
    expect(await history(two, 'item', 101)).toEqual([
      'insert_insert last_update_wins_keep_local later <- first',
    ]);
    expect(await history(one, 'item', 102)).toEqual([
      'insert_insert last_update_wins_keep_local later <- first',
    ]);
    expect(await history(two, 'item', 102)).toEqual([
      'insert_insert last_update_wins_keep_remote first <- later',
    ]);
    expect(await history(one, 'item', 103)).toEqual([]);
    expect(await history(two, 'item', 103)).toEqual([]);
  });

  test('the history says which node, transaction and time both rows are of, and keeps them as typed JSON', async () => {
    const [row] = await one.sql(`
      SELECT n.node_name, l.node_name, h.local_tuple, h.remote_tuple,
             h.remote_commit_time > h.local_commit_time, h.local_conflict_time >= h.remote_commit_time,
             h.remote_txid::text <> '0', h.remote_commit_lsn > '0/0', h.local_tuple_xmin IS NOT NULL, h.error_message
      FROM bdr.bdr_conflict_history AS h
      LEFT JOIN bdr.bdr_nodes AS n ON (n.node_sysid, n.node_timeline, n.node_dboid)
                                    = (h.remote_node_sysid, h.remote_node_timeline, h.remote_node_dboid)
      LEFT JOIN bdr.bdr_nodes AS l ON (l.node_sysid, l.node_timeline, l.node_dboid)
                                    = (h.local_tuple_origin_sysid, h.local_tuple_origin_timeline, h.local_tuple_origin_dboid)
      WHERE h.remote_tuple->>'id' = '101'
    `);
    const at = '2026-01-01T00:00:00+00:00';
    expect(row).toEqual([
      'node2',
      'node1',
      { id: 101, v: 'first', at },
      { id: 101, v: 'later', at },
      true,
      true,
      true,
      true,
      true,
      null,
    ]);
  });

  test('the later of two updates stands on both nodes, as a whole row', async () => {
    await concurrently(cluster.nodes, async () => {
      await one.sql(`UPDATE item SET v = 'first', at = 'epoch' WHERE id = 1`);
      await two.sql(
        `UPDATE item SET v = 'later' WHERE id = 1; UPDATE item SET v = 'first' WHERE id = 2`,
      );
      await one.sql(`UPDATE item SET v = 'later' WHERE id = 2`);
    });
    await cluster.settled();
    await cluster.same('item');
    expect(
      await one.sql(`SELECT v, at > '2000-01-01' FROM item WHERE id <= 2 ORDER BY id`),
    ).toEqual([
      ['later', true],
      ['later', true],
    ]);
    expect(await history(one, 'item', 1)).toEqual([
      'update_update last_update_wins_keep_remote first <- later',
    ]);
    expect(await history(two, 'item', 1)).toEqual([
      'update_update last_update_wins_keep_local later <- first',
    ]);
  });

  test('several updates of one row on each side end with the last of all', async () => {
    await concurrently(cluster.nodes, async () => {
      await one.sql(`UPDATE item SET v = 'a1' WHERE id = 3`);
      await two.sql(`UPDATE item SET v = 'b1' WHERE id = 3`);
      await one.sql(`UPDATE item SET v = 'a2' WHERE id = 3`);
      await two.sql(`UPDATE item SET v = 'b2' WHERE id = 3`);
      await one.sql(`UPDATE item SET v = 'a3' WHERE id = 3`);
    });
    await cluster.settled();
    await cluster.same('item');
    expect(await two.sql(`SELECT v FROM item WHERE id = 3`)).toEqual([['a3']]);
  });

  test('an update that is newer than a delete of the row brings the row back', async () => {
    await concurrently(cluster.nodes, async () => {
      await one.sql(`DELETE FROM item WHERE id = 4`);
      await two.sql(`UPDATE item SET v = 'alive' WHERE id = 4`);
    });
    await cluster.settled();
    await cluster.same('item');
    expect(await one.sql(`SELECT v FROM item WHERE id = 4`)).toEqual([['alive']]);
    expect(await history(one, 'item', 4)).toEqual(['update_delete apply_change <- alive']);
    expect(await history(two, 'item', 4)).toEqual([
      'update_delete last_update_wins_keep_local alive <-',
    ]);
  });

  test('a row that both nodes delete is gone, and both say so', async () => {
    await concurrently(cluster.nodes, async () => {
      await one.sql(`DELETE FROM item WHERE id = 5`);
      await two.sql(`DELETE FROM item WHERE id = 5`);
    });
    await cluster.settled();
    await cluster.same('item');
    for (const node of [one, two]) {
      expect(await history(node, 'item', 5)).toEqual(['delete_delete skip_change <-']);
    }
  });

  test('a write after the other node had shown its own is no conflict', async () => {
    await one.sql(`UPDATE item SET v = 'one' WHERE id BETWEEN 6 AND 8`);
    // The second node applies it, and then says so.
    await hears(two, one);
    await hears(one, two);
    await two.sql(
      `UPDATE item SET v = 'two' WHERE id = 6; DELETE FROM item WHERE id = 7;
       BEGIN; DELETE FROM item WHERE id = 8; INSERT INTO item VALUES (8, 'anew'); COMMIT`,
    );
    await cluster.settled();
    await cluster.same('item');
    for (const id of [6, 7, 8]) {
      expect(await history(one, 'item', id), `row ${id}`).toEqual([]);
      expect(await history(two, 'item', id), `row ${id}`).toEqual([]);
    }
  });

  test('changes of one writer never conflict with each other', async () => {
    const before = await two.sql('SELECT count(*) FROM bdr.bdr_conflict_history');
    await one.sql(`INSERT INTO item VALUES (110, 'a')`);
    await one.sql(`UPDATE item SET v = 'b' WHERE id = 110`);
    await one.sql(`DELETE FROM item WHERE id = 110`);
    await one.sql(`INSERT INTO item VALUES (110, 'c')`);
    await one.sql(
      `UPDATE item SET id = 111 WHERE id = 110; UPDATE item SET id = 110, v = 'd' WHERE id = 111`,
    );
    await cluster.settled();
    expect((await cluster.same('item')).filter((row) => /^\(11[0-9],/.test(row))).toEqual([
      '(110,d,"2026-01-01 00:00:00+00")',
    ]);
    expect(await two.sql('SELECT count(*) FROM bdr.bdr_conflict_history')).toEqual(before);
  });

  test('a later change of key takes the row away from a concurrent update', async () => {
    await concurrently(cluster.nodes, async () => {
      await two.sql(`UPDATE item SET v = 'loses' WHERE id = 9`);
      await one.sql(`UPDATE item SET id = 909, v = 'moved' WHERE id = 9`);
    });
    await cluster.settled();
    await cluster.same('item');
    expect(await one.sql(`SELECT id, v FROM item WHERE id IN (9, 909)`)).toEqual([[909, 'moved']]);
  });

  test('an update that is later than a change of the key leaves two rows, the same on both nodes', async () => {
    await concurrently(cluster.nodes, async () => {
      await one.sql(`UPDATE item SET id = 910 WHERE id = 10`);
      await two.sql(`UPDATE item SET v = 'updated' WHERE id = 10`);
    });
    await cluster.settled();
    await cluster.same('item');
    expect(await one.sql(`SELECT id, v FROM item WHERE id IN (10, 910) ORDER BY id`)).toEqual([
      [10, 'updated'],
      [910, 'old'],
    ]);
  });

  test('a big value that an update leaves alone is that of the row which wins', async () => {
    await concurrently(cluster.nodes, async () => {
      await one.sql(`UPDATE big SET big = repeat('one', 3000) WHERE id IN (1, 2)`);
      await two.sql(`UPDATE big SET v = 'two' WHERE id = 1`);
      await two.sql(`UPDATE big SET big = repeat('two', 3000) WHERE id = 2`);
      await one.sql(`UPDATE big SET v = 'one' WHERE id = 2`);
      // Missing where it arrives.
      await one.sql(`DELETE FROM big WHERE id = 3`);
      await two.sql(`UPDATE big SET v = 'two' WHERE id = 3`);
    });
    await cluster.settled();
    await cluster.same('big');
    expect(
      await one.sql(`SELECT id, left(big, 3), length(big), v FROM big WHERE id <= 3 ORDER BY id`),
    ).toEqual([
      [1, 'sta', 10_000, 'two'],
      [2, 'one', 9_000, 'one'],
      [3, 'sta', 10_000, 'two'],
    ]);
  });

  test('of two rows that take one value in a unique index the later stays, and the other can be brought back', async () => {
    await concurrently(cluster.nodes, async () => {
      await one.sql(`INSERT INTO sec VALUES (1, 'same@x'), (3, 'other@x')`);
      await two.sql(`INSERT INTO sec VALUES (2, 'same@x')`);
    });
    expect(await cluster.equal('sec')).toEqual(['(2,same@x)', '(3,other@x)']);
    for (const node of cluster.nodes) {
      const [lost] = await node.sql(
        `SELECT rule, local_tuple, remote_tuple FROM bdr.bdr_conflict_history WHERE object_name = 'sec'`,
      );
      expect(lost).toEqual(['unique_index', ...rowsOfSec(node)]);
    }
    await one.sql(`
      SELECT bdr.bdr_restore_conflict_loser(conflict_id, '{"mail": "one@x"}')
      FROM bdr.bdr_conflict_history WHERE object_name = 'sec'`);
    expect(await cluster.equal('sec')).toEqual(['(1,one@x)', '(2,same@x)', '(3,other@x)']);
  });

  /** The local row and the remote one, as the node saw them. */
  function rowsOfSec(node: TestNode) {
    const rows = [
      { id: 1, mail: 'same@x' },
      { id: 2, mail: 'same@x' },
    ];
    return node === one ? rows : rows.reverse();
  }

  test('an update that takes a value loses its row to a later one, in the middle of other changes', async () => {
    await one.sql(
      `DELETE FROM sec; INSERT INTO sec SELECT g, g || '@x' FROM generate_series(1, 60) AS g`,
    );
    await cluster.settled();
    await concurrently(cluster.nodes, async () => {
      await one.sql(
        `UPDATE sec SET mail = CASE id WHEN 7 THEN 'new@x' ELSE 'of one ' || mail END WHERE id < 50`,
      );
      await two.sql(`UPDATE sec SET mail = 'new@x' WHERE id = 55`);
      // Values that change places within a transaction are nothing to lose.
      await one.sql(`
        UPDATE sec SET mail = 'free' WHERE id = 58;
        UPDATE sec SET mail = '58@x' WHERE id = 59; UPDATE sec SET mail = '59@x' WHERE id = 58`);
    });
    const rows = await cluster.equal('sec');
    expect(rows).toHaveLength(59);
    expect(rows).toEqual(expect.arrayContaining(['(55,new@x)', '(58,59@x)', '(59,58@x)']));
  });

  test('TRUNCATE leaves rows of another node that are newer', async () => {
    await two.sql(`INSERT INTO big VALUES (50, 'seen', 'v')`);
    await cluster.settled();
    await concurrently(cluster.nodes, async () => {
      await one.sql(`TRUNCATE big`);
      await two.sql(`INSERT INTO big VALUES (51, 'newer', 'v')`);
    });
    await cluster.settled();
    expect(await cluster.same('big')).toEqual(['(51,newer,v)']);
  });
});

describe('conflicts of three nodes', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.start(3, SCHEMA);
  });
  afterAll(() => cluster[Symbol.asyncDispose]());

  test('of three rows that take one value the last stays; a row that loses in one of its indexes is lost', async () => {
    const [one, two, three] = [cluster.node(1), cluster.node(2), cluster.node(3)];
    await concurrently(cluster.nodes, async () => {
      await one.sql(`INSERT INTO seat VALUES (1, 'a@x', 1), (11, 'late@x', 7)`);
      await two.sql(`INSERT INTO seat VALUES (2, 'A@x', 2), (12, 'two@x', 3)`);
      // The one address, and the place of another node's row: both lose.
      await three.sql(`INSERT INTO seat VALUES (3, 'a@X', 3)`);
      await one.sql(`INSERT INTO seat VALUES (13, 'TWO@x', 8)`);
    });
    expect(await cluster.equal('seat')).toEqual(['(11,late@x,7)', '(13,TWO@x,8)', '(3,a@X,3)']);
  });

  test('what is to be told of a loser outlives the agent, and a row that is there again outlives what is told', async () => {
    const [one, two, three] = [cluster.node(1), cluster.node(2), cluster.node(3)];
    await one.sql('DELETE FROM seat');
    await cluster.settled();
    await using holding = await one.connect();
    await concurrently(cluster.nodes, async () => {
      await one.sql(`INSERT INTO seat VALUES (1, 'b@x', 1)`);
      await two.sql(`INSERT INTO seat VALUES (2, 'b@x', 2)`);
      // The agent of node 1 cannot send.
      await holding.sql('BEGIN; LOCK TABLE bdr.kill IN SHARE MODE');
    });
    await until('node 1 to have something to tell', async () => {
      const [row] = await one.sql(`SELECT count(*)::int FROM bdr.outbox WHERE kind = 'kill'`);
      return row?.[0] === 1;
    });
    await one.host.killAgent();
    await one.sql(`INSERT INTO seat VALUES (1, 'again@x', 1)`);
    await holding.sql('ROLLBACK');
    one.host.startAgent();
    expect(await cluster.equal('seat')).toEqual(['(1,again@x,1)', '(2,b@x,2)']);
    const [left] = await three.sql('SELECT count(*)::int FROM bdr.outbox');
    expect(left).toEqual([0]);
  });

  test('changes of two nodes that reach the third in the wrong order end the same everywhere', async () => {
    const [one, two, three] = [cluster.node(1), cluster.node(2), cluster.node(3)];
    await cluster.settled();
    // The third node hears of the insert last, though it is the oldest.
    await one.host.stopAgent();
    await concurrently([three], async () => {
      await one.sql(`INSERT INTO item VALUES (201, 'made'), (202, 'made'), (205, 'made')`);
      await one.sql(`INSERT INTO item VALUES (203, 'made')`);
      await until('the insert to reach the second node', async () => {
        return (await two.sql(`SELECT FROM item WHERE id = 203`)).length === 1;
      });
      await two.sql(
        `UPDATE item SET v = 'changed' WHERE id = 201; DELETE FROM item WHERE id = 202`,
      );
      await two.sql(`UPDATE item SET id = 204 WHERE id = 205`);
    });
    one.host.startAgent();
    await cluster.settled();
    const rows = (await cluster.same('item')).filter((row) => /^\([23]0[0-9],/.test(row));
    expect(rows.map((row) => row.slice(0, row.lastIndexOf(',')))).toEqual([
      '(201,changed',
      '(203,made',
      '(204,made',
    ]);
  });

  test('writes of all three at once end with the latest', async () => {
    await concurrently(cluster.nodes, async () => {
      for (const id of [11, 12, 13, 14, 15, 16]) {
        for (let turn = 0; turn < 3; turn++) {
          const node = cluster.node(((id + turn) % 3) + 1);
          await node.sql(`UPDATE item SET v = $1 WHERE id = $2`, [`turn ${turn}`, id]);
        }
      }
    });
    await cluster.settled();
    await cluster.same('item');
    expect(
      await cluster.node(2).sql(`SELECT DISTINCT v FROM item WHERE id BETWEEN 11 AND 16`),
    ).toEqual([['turn 2']]);
  });
});
