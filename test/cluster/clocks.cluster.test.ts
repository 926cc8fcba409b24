import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, until, type TestNode } from '../support/cluster.ts';
import { FAKETIME, FakeClock, UNLESS_FAKETIME } from '../support/fake-clock.ts';

// Servers whose clocks are minutes apart, and are set: they never go back unless a test says so. What is written in the future is
// waited for by setting the other clock, too.

const SCHEMA = `
  CREATE TABLE item (id integer PRIMARY KEY, v text);
  INSERT INTO item SELECT g, 'start' FROM generate_series(1, 20) AS g;
  CREATE TABLE box (id integer PRIMARY KEY, v text);
`;

describe.skipIf(!FAKETIME)(`servers with clocks of their own${UNLESS_FAKETIME}`, () => {
  let cluster: Cluster;
  let one: TestNode;
  let two: TestNode;
  const clocks = new Map<TestNode, FakeClock>();

  beforeAll(async () => {
    const all = [new FakeClock('one'), new FakeClock('two')] as const;
    const clockOf = (server: number) => (server === 1 ? all[0] : all[1]);
    cluster = await Cluster.start(2, SCHEMA, (server) => ({
      environment: clockOf(server).environment,
      // A WAL sender goes by the clock, too: set minutes ahead, it would take its peer for silent.
      settings: { 'bdr.max_clock_skew': '10min', wal_sender_timeout: 0 },
    }));
    [one, two] = [cluster.node(1), cluster.node(2)];
    clocks.set(one, all[0]).set(two, all[1]);
    await cluster.settled();
  });
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
    for (const clock of clocks.values()) clock[Symbol.dispose]();
  });

  /** Sets a node's clock so many seconds after another's. */
  const setAfter = (node: TestNode, other: TestNode, seconds: number) =>
    clocks.get(node)?.shift((clocks.get(other)?.seconds ?? 0) + seconds);
  /** Both clocks show the later of the two times. */
  const setEqual = () => {
    const most = Math.max(...[...clocks.values()].map(({ seconds }) => seconds));
    for (const clock of clocks.values()) clock.shift(most);
  };

  async function valueOf(node: TestNode, id: number): Promise<unknown> {
    return (await node.sql('SELECT v FROM item WHERE id = $1', [id]))[0]?.[0];
  }

  const shows = (node: TestNode, id: number, v: string) =>
    until(`${node.name} to show "${v}"`, async () => (await valueOf(node, id)) === v, 20_000);

  /** Returns when a node has received all that the other has committed. */
  async function received(node: TestNode, from: TestNode): Promise<void> {
    const end = await from.logEnd();
    await until(`${node.name} to receive from ${from.name}`, async () => {
      const [row] = await node.sql('SELECT received_lsn >= $1::pg_lsn FROM bdr.bdr_links', [end]);
      return row?.[0] === true;
    });
  }

  async function link(node: TestNode): Promise<unknown[]> {
    const [row] = await node.sql(`SELECT status, status_error ->> 'code' FROM bdr.bdr_links`);
    return row ?? [];
  }

  test('a transaction from the future waits, and what is written after it was seen is never lost, in both directions', async () => {
    for (const [ahead, behind] of [
      [two, one],
      [one, two],
    ] as const) {
      setEqual();
      setAfter(ahead, behind, 120);
      await ahead.sql(`UPDATE item SET v = 'future' WHERE id IN (1, 2)`);
      // It has not seen the other, and its clock says that it is older.
      await behind.sql(`UPDATE item SET v = 'not seen' WHERE id = 2`);
      await received(behind, ahead);
      expect(await valueOf(behind, 1)).not.toBe('future');
      expect(await link(behind)).toEqual(['streaming', null]);

      setAfter(behind, ahead, 1);
      await shows(behind, 1, 'future');
      await behind.sql(`UPDATE item SET v = 'seen' WHERE id = 1`);
      await shows(ahead, 1, 'seen');
      await cluster.equal('item');
      expect([await valueOf(one, 1), await valueOf(one, 2)]).toEqual(['seen', 'future']);
    }
  });

  test('nodes that write in turn, each when it sees the other, lose nothing while their clocks differ', async () => {
    setEqual();
    setAfter(two, one, 1);
    await one.sql(`UPDATE item SET v = '0' WHERE id = 3`);
    for (let turn = 0; turn < 3; turn++) {
      const node = turn % 2 === 0 ? two : one;
      await shows(node, 3, String(turn));
      await node.sql(`UPDATE item SET v = (v::integer + 1)::text WHERE id = 3`);
    }
    await cluster.equal('item');
    expect(await valueOf(two, 3)).toBe('3');
  });

  test('a clock that is further ahead than is allowed stops the link, which goes on once it is right', async () => {
    setEqual();
    await one.sql(`ALTER DATABASE app SET bdr.max_clock_skew = '30s'`);
    await one.host.stopAgent();
    one.host.startAgent();
    await until('the link to stream', async () => (await link(one))[0] === 'streaming');
    setAfter(two, one, 60);
    await two.sql(`UPDATE item SET v = 'too far' WHERE id = 4`);
    await until('the link to stop', async () => (await link(one))[0] === 'failed');
    expect(await link(one)).toEqual(['failed', 'clock_skew']);
    expect(await valueOf(one, 4)).toBe('start');
    setEqual();
    await shows(one, 4, 'too far');
    await cluster.equal('item');
    await one.sql(`ALTER DATABASE app RESET bdr.max_clock_skew`);
  });

  test('what is written and deleted while the clock has stepped back wins once it is right again', async () => {
    setEqual();
    await two.sql(`UPDATE item SET v = 'two' WHERE id BETWEEN 5 AND 9`);
    await two.sql(`INSERT INTO box VALUES (1, 'two')`);
    await cluster.settled();
    const beats = async () => {
      const [row] = await one.sql('SELECT heartbeat_clock::text FROM bdr.own_stream');
      return String(row?.[0]);
    };
    const reported = async () => {
      const before = await beats();
      await until('another heartbeat', async () => (await beats()) !== before);
    };
    await reported();

    clocks.get(one)?.shift((clocks.get(two)?.seconds ?? 0) - 60);
    await one.sql(`
      UPDATE item SET v = 'stepped back' WHERE id IN (5, 6);
      INSERT INTO item VALUES (50, 'stepped back')`);
    await one.sql('DELETE FROM item WHERE id IN (7, 8)');
    await one.sql('UPDATE item SET id = 90 WHERE id = 9');
    await one.sql('TRUNCATE box');
    await one.sql(`INSERT INTO item VALUES (8, 'again'), (51, 'last')`);
    const steps = () =>
      one.sql(
        'SELECT rewritten_at IS NOT NULL, nr_deleted::int, nr_deletions::int FROM bdr.bdr_clock_steps',
      );
    await until('the step and the deletions to be noticed', async () => {
      const [late] = await one.sql('SELECT count(*)::int FROM bdr.late_deletion');
      return late?.[0] === 4 && (await steps()).length === 1;
    });
    await shows(two, 51, 'last');
    // What came before those rows has lost: two nodes that differ.
    expect([await valueOf(two, 5), await valueOf(one, 5)]).toEqual(['two', 'stepped back']);
    expect([await valueOf(two, 7), await valueOf(one, 7)]).toEqual(['two', undefined]);
    const boxes = async (node: TestNode) => (await node.sql('SELECT id FROM box')).flat();
    expect([await boxes(two), await boxes(one)]).toEqual([[1], []]);
    // A row that is written by a peer meanwhile is no longer this node's.
    await two.sql(`UPDATE item SET v = 'two again' WHERE id = 6`);
    expect(await steps()).toEqual([[false, null, 0]]);

    setEqual();
    await shows(one, 6, 'two again');
    await using holder = await two.connect();
    await holder.sql(`BEGIN; SELECT bdr.internal_acquire_lock('write_lock', '{item}')`);
    for (const clock of clocks.values()) clock.shift(clock.seconds + 10);
    await two.sql(`INSERT INTO box VALUES (2, 'since')`);
    await until('it to be tried in vain, while users would have to wait', async () => {
      const tries = await one.sql(
        `SELECT FROM pg_stat_activity
         WHERE application_name = 'bdr:clock' AND state = 'idle' AND query = 'ROLLBACK'`,
      );
      return tries.length > 0;
    });
    expect([await valueOf(two, 5), (await steps())[0]?.[0]]).toEqual(['two', false]);
    await holder.sql('COMMIT');
    await shows(two, 5, 'stepped back');
    await until('the step to be dealt with', async () => (await steps())[0]?.[0] === true);
    expect(await steps()).toEqual([[true, 3, 0]]);
    await cluster.settled();
    const rows = await cluster.equal('item');
    expect(rows).toContain('(5,"stepped back")');
    expect(rows).toContain('(6,"two again")');
    expect(rows).toContain('(8,again)');
    expect(rows).toContain('(90,two)');
    expect(rows.filter((row) => /^\((7|9),/.test(row))).toEqual([]);
    expect(await cluster.equal('box')).toEqual(['(2,since)']);

    await one.sql('DELETE FROM bdr.bdr_clock_steps');
    for (let times = 0; times < 2; times++) await reported();
    expect(await steps(), 'not noted again').toEqual([]);
    expect(await one.sql('SELECT count(*)::int FROM bdr.late_deletion')).toEqual([[0]]);
  });

  test('a clock that is set back by less than the time between two heartbeats is noticed, too', async () => {
    await cluster.settled();
    await one.sql('DELETE FROM bdr.bdr_clock_steps');
    let shifts = 0;
    await until('the step to be noticed as what it was', async () => {
      const steps = await one.sql(
        `SELECT clock_was - clock_is > interval '0.56 s' FROM bdr.bdr_clock_steps`,
      );
      // By two heartbeats alone it would be a tenth of a second less.
      if (steps.flat().includes(true)) return true;
      // An idle node tells its clock once a second; one that still has something to do was faster.
      if (steps.length >= shifts) {
        shifts += 1;
        clocks.get(one)?.shift((clocks.get(one)?.seconds ?? 0) - 0.6);
      }
      return false;
    });
  });
});
