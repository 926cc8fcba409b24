import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, concurrently, until, type TestNode } from '../support/cluster.ts';

const SCHEMA = `
  CREATE TABLE item (id integer PRIMARY KEY, v text, at timestamptz DEFAULT '2026-01-01 00:00:00+00');
  CREATE TABLE big (id integer PRIMARY KEY, big text, v text);
  CREATE TABLE sec (id integer PRIMARY KEY, mail text UNIQUE);
  CREATE TABLE seat (id integer PRIMARY KEY, mail text NOT NULL, place integer UNIQUE);
  CREATE UNIQUE INDEX seat_mail ON seat (lower(mail));
  CREATE TABLE letters (id integer PRIMARY KEY, t text, r text);
  CREATE TABLE first (id integer PRIMARY KEY, v text);
  CREATE TABLE ranked (id integer PRIMARY KEY, v text);
  CREATE TABLE kept (id integer PRIMARY KEY, v text);
  CREATE TABLE gone (id integer PRIMARY KEY, v text);
  CREATE TABLE merged (id integer PRIMARY KEY, v text);
  INSERT INTO first SELECT g, 'start' FROM generate_series(1, 9) AS g;
  INSERT INTO ranked TABLE first; INSERT INTO kept TABLE first; INSERT INTO gone TABLE first; INSERT INTO merged TABLE first;
  CREATE FUNCTION merge_both(mine merged, theirs merged, text, regclass, bdr.bdr_conflict_type,
      OUT result merged, OUT action bdr.bdr_conflict_handler_action) LANGUAGE plpgsql
  AS $$ BEGIN result := mine; result.v := theirs.v || ' over ' || mine.v; action := 'ROW'; END $$;
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

/** The policies of those tables; they travel. */
async function setPolicies(nodes: readonly TestNode[]): Promise<void> {
  await nodes[0]?.sql(`
    SELECT bdr.bdr_set_conflict_policy('first', 'first_update_wins'),
           bdr.bdr_set_conflict_policy('ranked', 'node_priority', ARRAY['node1', 'node2']),
           bdr.bdr_set_conflict_policy('kept', 'update_wins'),
           bdr.bdr_set_conflict_policy('gone', 'delete_wins'),
           bdr.bdr_create_conflict_handler('merged', 'both',
               'merge_both(merged, merged, text, regclass, bdr.bdr_conflict_type)', 'update_update')`);
  for (const node of nodes) {
    await until(`${node.name} to have the policies`, async () => {
      const [row] = await node.sql(
        `SELECT (SELECT count(*) FROM bdr.bdr_conflict_policies WHERE is_in_effect) = 5
            AND EXISTS (SELECT FROM bdr.bdr_list_conflict_handlers WHERE ch_reloid = 'merged'::regclass)`,
      );
      return row?.[0] === true;
    });
  }
}

/** Settles until no node has anything noted for a policy, and what came of it has arrived. */
async function decided(cluster: Cluster): Promise<void> {
  const isNoted = async () => {
    const notes = cluster.nodes.map((node) => node.sql('SELECT FROM bdr.lost_write'));
    return (await Promise.all(notes)).some((rows) => rows.length > 0);
  };
  do {
    await cluster.settled();
    await until('policies to be asked', async () => !(await isNoted()));
    // What was written for that may have met something else.
    await cluster.settled();
  } while (await isNoted());
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

  describe('in tables with a policy', () => {
    beforeAll(() => setPolicies(cluster.nodes));
    const values = async (table: string) => {
      await cluster.same(table);
      return Object.fromEntries(await one.sql(`SELECT id, v FROM ${table} ORDER BY id`)) as Record<
        number,
        string
      >;
    };

    test('the policy decides, whichever of the two came first, and both nodes end the same', async () => {
      await concurrently(cluster.nodes, async () => {
        for (const [early, late, from] of [
          [one, two, 1],
          [two, one, 2],
        ] as const) {
          for (const table of ['first', 'ranked', 'merged']) {
            await early.sql(`UPDATE ${table} SET v = '${early.name}' WHERE id = ${from}`);
            await late.sql(`UPDATE ${table} SET v = '${late.name}' WHERE id = ${from}`);
            await early.sql(`INSERT INTO ${table} VALUES (${from + 10}, '${early.name}')`);
            await late.sql(`INSERT INTO ${table} VALUES (${from + 10}, '${late.name}')`);
          }
          for (const table of ['kept', 'gone']) {
            await early.sql(`UPDATE ${table} SET v = 'updated' WHERE id = ${from}`);
            await late.sql(`DELETE FROM ${table} WHERE id = ${from}`);
            await early.sql(`DELETE FROM ${table} WHERE id = ${from + 2}`);
            await late.sql(`UPDATE ${table} SET v = 'updated' WHERE id = ${from + 2}`);
          }
        }
      });
      await decided(cluster);
      expect(await values('first')).toMatchObject({
        1: 'node1',
        2: 'node2',
        11: 'node1',
        12: 'node2',
      });
      expect(await values('ranked')).toMatchObject({
        1: 'node1',
        2: 'node1',
        11: 'node1',
        12: 'node1',
      });
      expect(await values('kept')).toMatchObject({
        1: 'updated',
        2: 'updated',
        3: 'updated',
        4: 'updated',
      });
      expect(Object.keys(await values('gone'))).toEqual(['5', '6', '7', '8', '9']);
      // The handler is of updates alone.
      expect(await values('merged')).toMatchObject({
        1: 'node2 over node1',
        2: 'node1 over node2',
        11: 'node2',
        12: 'node1',
      });
    });

    test('what its writer knew stays as he left it', async () => {
      await one.sql(`UPDATE first SET v = 'one' WHERE id IN (5, 6)`);
      await one.applied();
      // Long before a heartbeat of the second node tells.
      await two.sql(`UPDATE first SET v = 'two' WHERE id = 5; DELETE FROM first WHERE id = 6`);
      await decided(cluster);
      expect(await values('first')).toMatchObject({ 5: 'two' });
      expect(await one.sql(`SELECT FROM first WHERE id = 6`)).toEqual([]);
      expect(
        await one.sql(
          `SELECT FROM bdr.bdr_conflict_history WHERE object_name = 'first' AND row_key->>'id' IN ('5', '6')`,
        ),
      ).toEqual([]);
    });

    test('a handler that fails stops the link with its reason, and nothing is lost until it is mended', async () => {
      const body = (text: string) =>
        `CREATE OR REPLACE FUNCTION merge_both(mine merged, theirs merged, text, regclass, bdr.bdr_conflict_type,
         OUT result merged, OUT action bdr.bdr_conflict_handler_action) LANGUAGE plpgsql AS $$ BEGIN ${text} END $$`;
      for (const node of cluster.nodes) await node.sql(body(`RAISE EXCEPTION 'no idea';`));
      await concurrently(cluster.nodes, async () => {
        await one.sql(`UPDATE merged SET v = 'one' WHERE id = 9`);
        await two.sql(`UPDATE merged SET v = 'two' WHERE id = 9`);
      });
      await until('the link to stop', async () => {
        const [row] = await one.sql(
          `SELECT status_error->>'message', status_error->>'code' FROM bdr.bdr_links WHERE status = 'failed'`,
        );
        return (
          row?.[1] === 'apply_failed' &&
          /^conflict handler "both" of table public.merged failed: no idea$/.test(String(row[0]))
        );
      });
      for (const node of cluster.nodes) {
        await node.sql(body(`result := mine; result.v := 'mended'; action := 'ROW';`));
      }
      await decided(cluster);
      expect(await values('merged')).toMatchObject({ 9: 'mended' });
    });

    test('last update wins takes a policy back, on both nodes', async () => {
      await two.sql(`SELECT bdr.bdr_set_conflict_policy('kept', 'last_update_wins')`);
      await cluster.settled();
      for (const node of cluster.nodes) {
        expect(
          await node.sql(`SELECT relreplident::text FROM pg_class WHERE oid = 'kept'::regclass`),
        ).toEqual([['d']]);
      }
      await concurrently(cluster.nodes, async () => {
        await one.sql(`UPDATE kept SET v = 'updated' WHERE id = 9`);
        await two.sql(`DELETE FROM kept WHERE id = 9`);
      });
      await decided(cluster);
      expect(await values('kept')).not.toHaveProperty('9');
    });
  });

  test('an old change that meets a row without a commit record is proven by its provider, and waits until it can be', async () => {
    const value = async (node: TestNode, id: number) =>
      (await node.sql('SELECT v FROM item WHERE id = $1', [id]))[0]?.[0];
    const linkFails = async () =>
      (
        await one.sql(`SELECT status_error ->> 'code' FROM bdr.bdr_links WHERE status = 'failed'`)
      )[0]?.[0];
    await one.sql('SELECT bdr.bdr_apply_pause()');
    for (const id of [31, 32, 33]) await two.sql(`UPDATE item SET v = 'two' WHERE id = ${id}`);
    await one.sql(`UPDATE item SET v = 'one, later' WHERE id = 32`);
    await until('node 2 to have it', async () => (await value(two, 32)) === 'one, later');
    await two.sql('SELECT bdr.bdr_apply_pause()');
    await one.sql(`UPDATE item SET v = 'one, later' WHERE id = 33`);
    // As if so much had happened on node 1 since that the records of these rows are gone.
    await one.sql('VACUUM item');
    await one.sql(`
      CREATE EXTENSION pg_surgery;
      SELECT heap_force_freeze('item', ARRAY(SELECT ctid FROM item WHERE id IN (31, 32, 33)));
      DROP EXTENSION pg_surgery`);
    await one.host.killAgent();
    await one.sql('DELETE FROM bdr.record_mark');
    one.host.startAgent();
    await until('the agent to look at its records', async () => {
      const [mark] = await one.sql('SELECT count(*)::int FROM bdr.record_mark');
      return mark?.[0] === 1;
    });

    await one.sql('SELECT bdr.bdr_apply_resume()');
    await until('the link to wait', async () => (await linkFails()) === 'record_lost');
    expect(await value(one, 31)).toBe('old');
    await two.sql('SELECT bdr.bdr_apply_resume()');
    await cluster.equal('item');
    const after = [31, 32, 33].map((id) => value(one, id));
    expect(await Promise.all(after)).toEqual(['two', 'one, later', 'one, later']);
    expect(await history(one, 'item', 33)).toEqual([
      'update_update last_update_wins_keep_local one, later <- two',
    ]);
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

  test('whatever three nodes write at once to tables with a policy, they end the same', async () => {
    await setPolicies(cluster.nodes);
    await concurrently(cluster.nodes, async () => {
      for (const table of ['first', 'ranked', 'kept', 'gone', 'merged']) {
        for (const id of [1, 2]) {
          for (let turn = 0; turn < 3; turn++) {
            const node = cluster.node(((id + turn) % 3) + 1);
            const isDeleted = (table === 'kept' || table === 'gone') && turn === id % 3;
            await node.sql(
              isDeleted
                ? `DELETE FROM ${table} WHERE id = ${id}`
                : `UPDATE ${table} SET v = '${node.name}' WHERE id = ${id}`,
            );
          }
        }
      }
    });
    await decided(cluster);
    for (const table of ['first', 'ranked', 'kept', 'gone', 'merged']) await cluster.same(table);
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
