import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, concurrently, until, type TestNode } from '../support/cluster.ts';
import { commitsWait, NOT_WAITING, waitingCommit } from '../support/waiting-commits.ts';

const SCHEMA = `
  CREATE TABLE item (id integer PRIMARY KEY, v text);
  CREATE TABLE pair (b numeric, a text, v text, PRIMARY KEY (b, a));
  CREATE TABLE plain (what text);
  CREATE TABLE slow (id integer PRIMARY KEY);
  INSERT INTO item SELECT g, 'start' FROM generate_series(1, 40) AS g;
  INSERT INTO pair VALUES (1.0, 'x', 'start'), (2.00, 'y', 'start');
`;

/** The ids of item that are there, the same on all nodes, of those asked for. */
async function ids(cluster: Cluster, ...asked: number[]): Promise<number[]> {
  await cluster.settled();
  const rows = await cluster.same('item');
  return rows.map((row) => Number(/\d+/.exec(row)?.[0])).filter((id) => asked.includes(id));
}

/** Returns when the nodes remember all that their users have deleted until now. */
async function remembered(...nodes: readonly TestNode[]): Promise<void> {
  for (const node of nodes) await node.ownLogRead(await node.logEnd());
}

/** A table whose rows take a second to commit where a link brings them. */
const SLOW_COMMITS = `
  CREATE FUNCTION wait_here() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_catalog.pg_sleep(1); RETURN NULL; END $$;
  CREATE CONSTRAINT TRIGGER wait_here AFTER INSERT ON slow
      DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_here();
  ALTER TABLE slow ENABLE ALWAYS TRIGGER wait_here;
`;

async function isCommitting(node: TestNode, link: string): Promise<void> {
  await until(`${link} to be committing`, async () => {
    const rows = await node.sql(
      `SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND application_name = $1`,
      [link],
    );
    return rows.length === 1;
  });
}

async function history(node: TestNode, id: number): Promise<string[]> {
  const rows = await node.sql(
    `SELECT conflict_type || ' ' || conflict_resolution FROM bdr.bdr_conflict_history
     WHERE object_name = 'item' AND coalesce(local_tuple->>'id', remote_tuple->>'id') = $1
     ORDER BY conflict_id`,
    [String(id)],
  );
  return rows.map(([row]) => String(row));
}

describe('deletions on two nodes', () => {
  let cluster: Cluster;
  let one: TestNode;
  let two: TestNode;

  beforeAll(async () => {
    cluster = await Cluster.start(2, SCHEMA);
    [one, two] = [cluster.node(1), cluster.node(2)];
    await cluster.settled();
  });
  afterAll(() => cluster[Symbol.asyncDispose]());

  test('a delete that is newer than an update of the row takes it away on both nodes', async () => {
    await concurrently(cluster.nodes, async () => {
      await two.sql(`UPDATE item SET v = 'older' WHERE id = 1`);
      await one.sql(`DELETE FROM item WHERE id = 1`);
      await remembered(one, two);
    });
    expect(await ids(cluster, 1)).toEqual([]);
    expect(await history(one, 1)).toEqual(['update_delete skip_change']);
    expect(await history(two, 1)).toEqual(['update_delete last_update_wins_keep_remote']);
  });

  test('also where the key is spelt otherwise, and has several columns', async () => {
    await concurrently(cluster.nodes, async () => {
      await two.sql(`UPDATE pair SET b = 1.000, v = 'older' WHERE a = 'x'`);
      await one.sql(`DELETE FROM pair WHERE a = 'x'`);
    });
    await cluster.settled();
    expect(await cluster.same('pair')).toEqual(['(2.00,y,start)']);
  });

  test('a newer update brings the row back, and a newer insert', async () => {
    await concurrently(cluster.nodes, async () => {
      await one.sql(`DELETE FROM item WHERE id IN (2, 3)`);
      await two.sql(`UPDATE item SET v = 'newer' WHERE id = 2`);
      await two.sql(`DELETE FROM item WHERE id = 3; INSERT INTO item VALUES (3, 'newer')`);
    });
    expect(await ids(cluster, 2, 3)).toEqual([2, 3]);
    expect(await history(one, 2)).toEqual(['update_delete apply_change']);
  });

  test('an insert that is older than a delete does not stay', async () => {
    await concurrently(cluster.nodes, async () => {
      await two.sql(`DELETE FROM item WHERE id = 4; INSERT INTO item VALUES (4, 'older')`);
      await one.sql(`DELETE FROM item WHERE id = 4`);
    });
    expect(await ids(cluster, 4)).toEqual([]);
  });

  test('a delete and an insert in one transaction leave the row, as does a change of key and back', async () => {
    await one.sql(
      `BEGIN; DELETE FROM item WHERE id = 5; INSERT INTO item VALUES (5, 'anew'); COMMIT`,
    );
    await two.sql(
      `BEGIN; UPDATE item SET id = 1006 WHERE id = 6; UPDATE item SET id = 6 WHERE id = 1006; COMMIT`,
    );
    expect(await ids(cluster, 5, 6, 1006)).toEqual([5, 6]);
  });

  test('a change of key that is newer than an update of the old key takes that away', async () => {
    await concurrently(cluster.nodes, async () => {
      await two.sql(`UPDATE item SET v = 'older' WHERE id = 7`);
      await one.sql(`UPDATE item SET id = 1007 WHERE id = 7`);
    });
    expect(await ids(cluster, 7, 1007)).toEqual([1007]);
  });

  test('what is deleted while no agent is there is learnt from the log', async () => {
    await remembered(one);
    await one.host.killAgent();
    await two.sql(`UPDATE item SET v = 'older' WHERE id IN (8, 9)`);
    await one.sql(`DELETE FROM item WHERE id = 8; UPDATE item SET id = 1009 WHERE id = 9`);
    one.host.startAgent();
    expect(await ids(cluster, 8, 9, 1009)).toEqual([1009]);
  });

  test('a TRUNCATE takes away what is older and comes later', async () => {
    await one.sql(`INSERT INTO slow VALUES (1)`);
    await cluster.settled();
    await concurrently(cluster.nodes, async () => {
      await two.sql(`INSERT INTO slow VALUES (2); INSERT INTO plain VALUES ('older')`);
      await one.sql(`TRUNCATE slow, plain`);
      await two.sql(`INSERT INTO slow VALUES (3); INSERT INTO plain VALUES ('newer')`);
    });
    await cluster.settled();
    expect(await cluster.same('slow')).toEqual(['(3)']);
    expect(await cluster.same('plain')).toEqual(['(newer)']);
  });

  test('a row whose commit is not seen yet, and is older than a delete that comes meanwhile, does not stay', async () => {
    await Promise.all([one, two].map((node) => node.sql('SELECT bdr.bdr_apply_pause()')));
    await one.sql(`DELETE FROM item WHERE id = 10`);
    // Later it could find that nobody can send anything older, and keep nothing.
    await until('the first delete to be remembered', async () => {
      const rows = await one.sql(
        `SELECT FROM bdr.tombstone WHERE relation = 'item'::regclass AND row_key = '{10}'`,
      );
      return rows.length === 1;
    });
    await commitsWait(one, true);
    await using user = await waitingCommit(one, `INSERT INTO item VALUES (10, 'unseen')`);
    await two.sql(`DELETE FROM item WHERE id = 10`);
    for (const node of [one, two]) {
      await node.sql(`${NOT_WAITING}; SELECT bdr.bdr_apply_resume()`);
    }
    await until('both deletes to be remembered', async () => {
      const [row] = await one.sql(
        `SELECT count(DISTINCT node_sysid) = 2 FROM bdr.tombstone
         WHERE relation = 'item'::regclass AND row_key = '{10}'`,
      );
      return row?.[0] === true;
    });
    expect(await one.sql('SELECT FROM item WHERE id = 10')).toEqual([]);
    await commitsWait(one, false);
    await user.done;
    expect(await ids(cluster, 10)).toEqual([]);
    expect(await history(one, 10)).toContain('update_delete last_update_wins_keep_remote');
  });

  /** Runs something on the first node while its own stream cannot remember anything. */
  async function behindOwnStream(work: () => Promise<void>): Promise<void> {
    await remembered(one);
    await one.sql('SELECT bdr.bdr_apply_pause()');
    await using holder = await one.connect();
    await holder.sql('BEGIN');
    await holder.sql('LOCK TABLE bdr.tombstone IN EXCLUSIVE MODE');
    await work();
    await holder.sql('COMMIT');
  }

  test('a row that comes back before the own stream has come to its deletion is removed', async () => {
    await behindOwnStream(async () => {
      await two.sql(`UPDATE item SET v = 'older' WHERE id = 11`);
      await one.sql(`DELETE FROM item WHERE id = 11; SELECT bdr.bdr_apply_resume()`);
      // It may be gone again by now, where no peer is behind and nothing has to be remembered.
      await until('the row to come back', async () => {
        return (await history(one, 11)).includes('update_delete apply_change');
      });
    });
    expect(await ids(cluster, 11)).toEqual([]);
    expect(await history(one, 11)).toEqual([
      'update_delete apply_change',
      'update_delete last_update_wins_keep_local',
    ]);
  });

  test('also one whose transaction is still open by then', async () => {
    await one.sql(SLOW_COMMITS);
    await behindOwnStream(async () => {
      await two.sql(
        `BEGIN; UPDATE item SET v = 'older' WHERE id = 12; INSERT INTO slow VALUES (12); COMMIT`,
      );
      await one.sql(`DELETE FROM item WHERE id = 12; SELECT bdr.bdr_apply_resume()`);
      await isCommitting(one, 'node2:apply');
    });
    expect(await ids(cluster, 12)).toEqual([]);
    expect(await history(one, 12)).toContain('update_delete last_update_wins_keep_local');
    await one.sql('DROP FUNCTION wait_here CASCADE');
  });

  test('so does what a transaction deletes that is streamed before it has committed; what it takes back does not', async () => {
    const setting = async (change: string) => {
      await one.sql(`ALTER SYSTEM ${change}`);
      await one.sql('SELECT pg_reload_conf()');
    };
    await setting(`SET logical_decoding_work_mem = '64kB'`);
    await one.sql(`INSERT INTO item SELECT g, 'start' FROM generate_series(3001, 6000) AS g`);
    await cluster.settled();
    await concurrently(cluster.nodes, async () => {
      await two.sql(`UPDATE item SET v = 'older' WHERE id IN (3001, 3500, 6000)`);
      await one.sql(`
        BEGIN;
        DELETE FROM item WHERE id BETWEEN 3001 AND 3499;
        SAVEPOINT s;
        DELETE FROM item WHERE id BETWEEN 3500 AND 4000;
        ROLLBACK TO SAVEPOINT s;
        DELETE FROM item WHERE id BETWEEN 4001 AND 6000;
        COMMIT`);
    });
    expect(await ids(cluster, 3001, 3500, 6000)).toEqual([3500]);
    await until('the own stream to have had it in chunks', async () => {
      const [row] = await one.sql(
        `SELECT stream_txns > 0 FROM pg_stat_replication_slots WHERE slot_name ~ '_own__$'`,
      );
      return row?.[0] === true;
    });
    await setting('RESET logical_decoding_work_mem');
  });

  test('what everybody has passed is forgotten', async () => {
    for (const node of cluster.nodes) {
      await until(`${node.name} to forget`, async () => {
        const [row] = await node.sql('SELECT count(*)::int FROM bdr.tombstone');
        return row?.[0] === 0;
      });
    }
  });
});

describe('deletions on three nodes', () => {
  let cluster: Cluster;
  let one: TestNode;
  let two: TestNode;
  let three: TestNode;

  beforeAll(async () => {
    cluster = await Cluster.start(3, SCHEMA);
    [one, two, three] = [cluster.node(1), cluster.node(2), cluster.node(3)];
    await cluster.settled();
  });
  afterAll(() => cluster[Symbol.asyncDispose]());

  const has = (node: TestNode, id: number) =>
    until(`${node.name} to have row ${id}`, async () => {
      return (await node.sql('SELECT FROM item WHERE id = $1', [id])).length === 1;
    });

  test('a delete, a change of key and a TRUNCATE that overtake what they follow stand', async () => {
    // The third node hears from the first last.
    await three.sql('SELECT bdr.bdr_apply_pause()');
    await one.sql(`INSERT INTO item VALUES (201, 'made'), (202, 'made'), (203, 'made')`);
    await one.sql(`INSERT INTO slow VALUES (201)`);
    await one.sql(`UPDATE item SET v = 'changed' WHERE id = 1`);
    await has(two, 203);
    await until('the update to arrive', async () => {
      return (await two.sql(`SELECT FROM item WHERE id = 1 AND v = 'changed'`)).length === 1;
    });
    await two.sql(
      `DELETE FROM item WHERE id IN (1, 201); UPDATE item SET id = 1202 WHERE id = 202`,
    );
    await two.sql(`TRUNCATE slow`);
    await one.host.server.stop();
    await three.sql('SELECT bdr.bdr_apply_resume()');
    await until('the third node to hear the second', async () => {
      const [row] = await three.sql(
        `SELECT count(*)::int FROM bdr.tombstone WHERE relation IN ('item'::regclass, 'slow'::regclass)`,
      );
      return Number(row?.[0]) >= 4;
    });
    await one.host.server.start();
    expect(await ids(cluster, 1, 201, 202, 203, 1202)).toEqual([1202, 203]);
    expect(await cluster.same('slow')).toEqual([]);
  });

  test('a delete waits for the insert that another link has not committed yet', async () => {
    await three.sql(SLOW_COMMITS);
    for (const round of [0, 1, 2]) {
      const id = 300 + round;
      await one.sql(
        `BEGIN; INSERT INTO item VALUES (${id}, 'made'); INSERT INTO slow VALUES (${id}); COMMIT`,
      );
      await has(two, id);
      await isCommitting(three, 'node1:apply');
      await two.sql(`DELETE FROM item WHERE id = ${id}`);
      expect(await ids(cluster, id)).toEqual([]);
    }
    await three.sql('DROP FUNCTION wait_here CASCADE');
  });
});
