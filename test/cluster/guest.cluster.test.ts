import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, until, type TestNode } from '../support/cluster.ts';
import { commitsWait, NOT_WAITING, waitingCommit } from '../support/waiting-commits.ts';

/** DESIGN 3.4: apply is a guest on the user's server. */
describe('apply beside the user’s transactions', () => {
  let cluster: Cluster;
  let one: TestNode;
  let two: TestNode;

  beforeAll(async () => {
    cluster = await Cluster.start(
      2,
      `CREATE TABLE item (id integer PRIMARY KEY, v text);
       INSERT INTO item SELECT g, 'start' FROM generate_series(1, 100) AS g;
       CREATE TABLE other (id integer PRIMARY KEY, v text);
       CREATE TABLE sole (id integer PRIMARY KEY, u integer UNIQUE);
       CREATE TABLE told (id integer PRIMARY KEY, v text);
       CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN PERFORM pg_notify('told', NEW.v); RETURN NEW; END $$;
       CREATE TRIGGER tell AFTER INSERT ON told FOR EACH ROW EXECUTE FUNCTION tell();
       ALTER TABLE told ENABLE ALWAYS TRIGGER tell`,
    );
    [one, two] = [cluster.node(1), cluster.node(2)];
    await cluster.settled();
  });
  afterAll(() => cluster[Symbol.asyncDispose]());

  /** How often apply of the node gave way, and how often its link broke. */
  async function counts(node: TestNode): Promise<{ gaveWay: number; broke: number }> {
    const [row] = await node.sql(
      `SELECT sum(nr_rollback)::int, sum(nr_disconnect)::int FROM bdr.bdr_links`,
    );
    return { gaveWay: Number(row?.[0]), broke: Number(row?.[1]) };
  }

  /** Returns when apply of the node has met a lock and given way at least once more. */
  async function givesWay(node: TestNode, since: { gaveWay: number }): Promise<void> {
    await until('apply to give way', async () => (await counts(node)).gaveWay > since.gaveWay);
  }

  test('a row lock that a user holds delays apply and is not disturbed; apply holds nothing while it waits', async () => {
    await using user = await two.connect();
    await user.sql(`BEGIN; UPDATE item SET v = 'user' WHERE id = 1`);
    const before = await counts(two);
    await one.sql(
      `BEGIN; UPDATE item SET v = 'one' WHERE id = 2; UPDATE item SET v = 'one' WHERE id = 1; COMMIT;
       INSERT INTO item VALUES (1001, 'behind it')`,
    );
    await givesWay(two, before);
    // Row 2 is locked by apply only for as long as it tries for row 1.
    await using second = await two.connect();
    for (let turn = 0; turn < 10; turn++) {
      await second.sql(`SET lock_timeout = '1s'; UPDATE item SET v = 'second' WHERE id = 2`);
    }
    await until('apply to hold no transaction and no lock', async () => {
      const [row] = await second.sql(
        `SELECT a.state = 'idle' AND a.xact_start IS NULL
                AND NOT EXISTS (SELECT FROM pg_locks AS k WHERE k.pid = a.pid AND k.locktype <> 'advisory')
         FROM bdr.bdr_links AS l JOIN pg_stat_activity AS a ON a.pid = l.apply_pid`,
      );
      return row?.[0] === true;
    });
    expect(await second.sql(`SELECT FROM item WHERE id = 1001`)).toEqual([]);
    await user.sql('COMMIT');
    await cluster.settled();
    expect(await cluster.same('item')).toEqual(
      expect.arrayContaining(['(1,user)', '(2,second)', '(1001,"behind it")']),
    );
    expect((await counts(two)).broke).toBe(before.broke);
  });

  test('a user that would deadlock with apply is never the one that loses', async () => {
    const before = await counts(two);
    for (let round = 0; round < 10; round++) {
      const [a, b] = [10 + 2 * round, 11 + 2 * round];
      await using user = await two.connect();
      await user.sql(`BEGIN; UPDATE item SET v = 'user' WHERE id = ${a}`);
      const since = await counts(two);
      // Apply takes b and then waits for a.
      await one.sql(
        `BEGIN; UPDATE item SET v = 'one' WHERE id = ${b}; UPDATE item SET v = 'one' WHERE id = ${a}; COMMIT`,
      );
      if (round === 0) await givesWay(two, since);
      else {
        await until('apply to wait for the user', async () => {
          const [row] = await two.sql(
            `SELECT count(*)::int FROM bdr.bdr_links AS l
             JOIN pg_stat_activity AS a ON a.pid = l.apply_pid AND a.wait_event_type = 'Lock'`,
          );
          return row?.[0] !== 0;
        });
      }
      await user.sql(`UPDATE item SET v = 'user' WHERE id = ${b}`);
      await user.sql('COMMIT');
    }
    await cluster.settled();
    const rows = await cluster.same('item');
    for (let id = 10; id < 30; id++) expect(rows).toContain(`(${id},user)`);
    expect((await counts(two)).broke).toBe(before.broke);
  });

  test('a lock on the whole table delays apply, and what it did to the table is seen', async () => {
    const before = await counts(two);
    await one.sql(`INSERT INTO other VALUES (1, 'a')`);
    await cluster.settled();
    await using user = await two.connect();
    await user.sql(`BEGIN; ALTER TABLE other ALTER v TYPE varchar, ADD note text DEFAULT 'local'`);
    await one.sql(
      `INSERT INTO other VALUES (2, 'b'); UPDATE other SET v = 'c' WHERE id = 1; DELETE FROM other WHERE id = 2`,
    );
    await givesWay(two, before);
    await user.sql('COMMIT');
    await cluster.settled();
    expect(await two.sql(`SELECT * FROM other`)).toEqual([[1, 'c', 'local']]);
    expect((await counts(two)).broke).toBe(before.broke);
  });

  test('a key that a user is inserting is waited for, and then compared or taken', async () => {
    for (const [id, end] of [
      [2001, 'COMMIT'],
      [2002, 'ROLLBACK'],
    ] as const) {
      const before = await counts(two);
      await using user = await two.connect();
      await user.sql(`BEGIN; INSERT INTO item VALUES (${id}, 'user')`);
      await one.sql(`INSERT INTO item VALUES (${id}, 'one')`);
      await givesWay(two, before);
      await user.sql(end);
    }
    await cluster.settled();
    const rows = await cluster.same('item');
    // The user's commit came later than the insert on the other node.
    expect(rows).toEqual(expect.arrayContaining(['(2001,user)', '(2002,one)']));
  });

  /** Somebody says NOTIFY on the second node, and his commit waits: so does that of everybody else who says it. */
  async function othersNotify() {
    await commitsWait(two, true);
    return waitingCommit(two, `NOTIFY other; SELECT pg_logical_emit_message(true, 'test', '')`);
  }

  // From 16 on it would be taken for applied then: COMMIT waits for the others behind all that moves the origin.
  test('what waits at its COMMIT for a NOTIFY of others is not lost by a crash of the agent', async () => {
    const isWaiting = async () => {
      const rows = await two.sql(
        `SELECT FROM pg_locks AS k
         JOIN bdr.bdr_links AS l ON l.apply_pid = k.pid
         WHERE NOT k.granted AND k.classid = 'pg_database'::regclass`,
      );
      return rows.length > 0;
    };
    await using listener = await two.connect();
    const heard: unknown[] = [];
    listener.client.on('notification', ({ payload }) => heard.push(payload));
    await listener.sql('LISTEN told');
    await using other = await othersNotify();
    const since = await counts(two);
    await one.sql(`INSERT INTO told VALUES (1, 'alone')`);
    await givesWay(two, since);
    const rows = Array.from({ length: 300 }, (_, at) => `(${10 + at}, 'many')`);
    await one.sql(`INSERT INTO told VALUES ${rows.join(', ')}`);
    await until('a commit to wait', isWaiting);
    await two.host.killAgent();
    two.host.startAgent();
    await until('it to wait again', isWaiting);
    await commitsWait(two, false);
    await other.done;
    expect(await cluster.equal('told')).toHaveLength(301);
    await until('all to be heard of', () => Promise.resolve(heard.length > 0));
    expect(await two.sql('SELECT FROM bdr.committed_position')).toEqual([]);
    expect(heard).toEqual(['alone', 'many']);
  });

  test('nor is a transaction lost in which a row loses in a unique index: its node tells its agent by NOTIFY', async () => {
    await one.sql('SELECT bdr.bdr_apply_pause()');
    await using other = await othersNotify();
    const since = await counts(two);
    await two.sql(`${NOT_WAITING}; INSERT INTO sole VALUES (2, 5)`);
    await one.sql('INSERT INTO sole VALUES (1, 5)');
    await givesWay(two, since);
    await two.host.killAgent();
    two.host.startAgent();
    await commitsWait(two, false);
    await other.done;
    await one.sql('SELECT bdr.bdr_apply_resume()');
    expect(await cluster.equal('sole')).toEqual(['(1,5)']);
  });

  test('a transaction that is tried again is counted once', async () => {
    /** What was applied by the second node, as it says itself once a report holds all that the first has committed by now. */
    const inserted = async () => {
      const [now] = await one.sql('SELECT clock_timestamp()::text');
      let count = 0;
      await until('a report', async () => {
        const [row] = await two.sql(
          `SELECT applied_commit_at > $1::timestamptz, nr_insert::int FROM bdr.bdr_links`,
          [now?.[0]],
        );
        count = Number(row?.[1]);
        return row?.[0] === true;
      });
      return count;
    };
    await using user = await two.connect();
    const start = await inserted();
    const before = await counts(two);
    await user.sql(`BEGIN; UPDATE item SET v = 'held' WHERE id = 50`);
    await one.sql(
      `BEGIN; INSERT INTO item SELECT g, 'many' FROM generate_series(3001, 3005) AS g; UPDATE item SET v = 'x' WHERE id = 50; COMMIT`,
    );
    await givesWay(two, before);
    await user.sql('COMMIT');
    await cluster.settled();
    expect(await inserted()).toBe(start + 5);
  });
});
