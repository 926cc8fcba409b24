import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, concurrently, TestNode, until } from '../support/cluster.ts';

const BDR = fileURLToPath(new URL('../../bin/bdr.js', import.meta.url));

/** `bdr conflicts`, as users run it. */
class Conflicts implements AsyncDisposable {
  stdout = '';
  stderr = '';
  readonly #child: ChildProcess;
  readonly #code: Promise<number | null>;

  constructor(dsn: string, ...flags: readonly string[]) {
    this.#child = spawn(process.execPath, [BDR, 'conflicts', '--dsn', dsn, ...flags]);
    this.#child.stdout?.on('data', (chunk: Buffer) => (this.stdout += chunk.toString()));
    this.#child.stderr?.on('data', (chunk: Buffer) => (this.stderr += chunk.toString()));
    this.#code = new Promise((resolve) => this.#child.once('close', resolve));
  }

  get lines(): string[] {
    return this.stdout.split('\n').slice(0, -1);
  }

  /** The exit code, once it has ended. */
  ended(): Promise<number | null> {
    return this.#code;
  }

  interrupt(): void {
    this.#child.kill('SIGINT');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#code;
  }
}

describe('the conflict history', () => {
  let cluster: Cluster;
  let one: TestNode;
  let two: TestNode;
  beforeAll(async () => {
    cluster = await Cluster.bare(1);
    one = cluster.node(1);
    await one.sql(
      'CREATE TABLE item (id bigint PRIMARY KEY, v text); CREATE TABLE other (id integer)',
    );
    await one.create();
    two = await cluster.addNode('node2', one.host, 'app2');
    await two.join(one);
  });
  afterAll(() => cluster[Symbol.asyncDispose]());

  /** The second node's row of this number wins over the first's. */
  async function conflict(id: string): Promise<void> {
    await concurrently(cluster.nodes, async () => {
      await one.sql(`INSERT INTO item VALUES ($1, 'first')`, [id]);
      await two.sql(`INSERT INTO item VALUES ($1, 'later')`, [id]);
    });
    await cluster.settled();
  }
  const run = async (node: TestNode, ...flags: readonly string[]) => {
    await using conflicts = new Conflicts(node.dsn, ...flags);
    const code = await conflicts.ended();
    return { code, out: conflicts.stdout, lines: conflicts.lines, err: conflicts.stderr };
  };

  test('is empty at first, and says so', async () => {
    expect(await run(one)).toMatchObject({ code: 0, out: '', err: 'bdr: no conflicts\n' });
    expect(await run(one, '--json')).toMatchObject({ code: 0, out: '[]\n', err: '' });
  });

  test('shows a conflict on each node in one line, from its own side', async () => {
    await conflict('1');
    const [winner] = (await run(two)).lines;
    expect(winner).toMatch(
      /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}Z  public\.item  id=1  insert_insert  change skipped  node2 over node1  concurrent$/,
    );
    const [loser] = (await run(one)).lines;
    // Its writer may have seen the other row before it wrote: the first node cannot know.
    expect(loser).toMatch(
      / {2}id=1 {2}insert_insert {2}row overwritten {2}node2 over node1 {2}perhaps concurrent$/,
    );
  });

  test('prints JSON with all there is, whatever the numbers', async () => {
    await conflict('9007199254740993');
    const { out } = await run(two, '--json', '--table', 'item');
    expect(out).toContain('"key" : {"id":9007199254740993}');
    expect(JSON.parse(out)).toMatchObject([
      {
        table: 'item',
        key: { id: 1 },
        resolution: 'last_update_wins_keep_local',
        policy: 'last_update_wins',
        rule: 'insert_existing',
        action: 'skip',
        certainlyConcurrent: true,
        local: { node: 'node2', row: { id: 1, v: 'later' } },
        remote: { node: 'node1', row: { id: 1, v: 'first' } },
      },
      { type: 'insert_insert' },
    ]);
  });

  test('is chosen from by table and by time', async () => {
    expect((await run(one, '--table', 'public.item', '--since', '1 hour')).lines).toHaveLength(2);
    expect((await run(one, '--table', 'other')).lines).toEqual([]);
    expect((await run(one, '--since', '2100-01-01')).lines).toEqual([]);
  });

  test.each([
    [['--since', 'a while'], '"a while" is neither a time nor an amount of time'],
    [['--table', 'typo'], 'there is no table typo in this database, and no conflict of one'],
    [['--table', 'a..b'], '"a..b" is not the name of a table'],
    [['--follow', '--table', 'typo'], 'there is no table typo'],
  ])('refuses %j, with a hint', async (flags, message) => {
    const { code, out, err } = await run(one, ...flags);
    expect([code, out]).toEqual([2, '']);
    expect(err).toContain(`bdr: ${message}`);
    expect(err).toMatch(/^HINT: .+/m);
    expect(err).toContain('CODE: usage');
  });

  test('is one of a node: another database is told how to become one', async () => {
    const maintenance = new TestNode('postgres', one.host, 'postgres');
    for (const flags of [[], ['--follow']]) {
      const { code, err } = await run(maintenance, ...flags);
      expect(code).toBe(1);
      expect(err).toContain('is not a node');
      expect(err).toContain('CODE: invalid_membership');
    }
  });

  test('is followed, each conflict once, also over a lost connection, until Ctrl-C', async () => {
    await using follower = new Conflicts(one.dsn, '--follow', '--json');
    const listening = `SELECT pid FROM pg_stat_activity WHERE application_name = 'bdr conflicts' AND state = 'idle' AND query LIKE '%json_build_object%'`;
    await until('it to follow', async () => (await one.sql(listening)).length === 1);
    await conflict('21');
    await until('the first conflict', async () => follower.lines.length >= 1);
    await one.sql(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bdr conflicts'`,
    );
    await until('it to tell', async () => follower.stderr.includes('bdr: trying again'));
    await conflict('22');
    await until('it to be back', async () => follower.stderr.includes('bdr: connected again'));
    await conflict('23');
    await until('all conflicts', async () => follower.lines.length >= 3);
    follower.interrupt();
    expect(await follower.ended()).toBe(0);
    const keys = follower.lines.map((line) => (JSON.parse(line) as { key: { id: number } }).key.id);
    expect(keys).toEqual([21, 22, 23]);
    expect(follower.stderr.match(/trying again/g)).toHaveLength(1);
  });

  test('is followed from a time on, for people', async () => {
    await using follower = new Conflicts(one.dsn, '--follow', '--since', '1 day');
    await until('what was there', async () => follower.lines.length >= 5);
    await conflict('24');
    await until('what came', async () => follower.lines.length >= 6);
    follower.interrupt();
    expect(await follower.ended()).toBe(0);
    expect(follower.lines.map((line) => /id=(\d+)/.exec(line)?.[1])).toEqual([
      '1',
      '9007199254740993',
      '21',
      '22',
      '23',
      '24',
    ]);
  });

  test('has what a deletion or TRUNCATE takes that had not seen it', async () => {
    await one.sql(`INSERT INTO item VALUES (31, 'deleted'), (32, 'deleted')`);
    await cluster.settled();
    await concurrently(cluster.nodes, async () => {
      await one.sql(`DELETE FROM item WHERE id = 31; INSERT INTO item VALUES (31, 'again')`);
      await one.sql(
        `INSERT INTO item VALUES (33, 'unseen'); UPDATE item SET v = 'unseen' WHERE id = 32`,
      );
      await two.sql('TRUNCATE item');
    });
    await cluster.settled();
    const kept = (node: TestNode) =>
      node.sql(`
        SELECT row_key ->> 'id', rule, action, coalesce(local_tuple, remote_tuple) ->> 'v'
        FROM bdr.bdr_conflict_history
        WHERE rule IN ('truncated', 'insert_deleted', 'update_missing') ORDER BY 1`);
    expect(await kept(one)).toEqual([
      ['31', 'truncated', 'delete', 'again'],
      ['32', 'truncated', 'delete', 'unseen'],
      ['33', 'truncated', 'delete', 'unseen'],
    ]);
    expect(await kept(two)).toEqual([
      ['31', 'insert_deleted', 'skip', 'again'],
      ['32', 'update_missing', 'skip', 'unseen'],
      ['33', 'insert_deleted', 'skip', 'unseen'],
    ]);
    expect(await one.sql('SELECT * FROM item')).toEqual([]);
    expect(await two.sql('SELECT * FROM item')).toEqual([]);
    const restore = (node: TestNode, id: string) =>
      node.sql(
        `SELECT bdr.bdr_restore_conflict_loser(conflict_id, '{"v": "back"}') FROM bdr.bdr_conflict_history
         WHERE row_key ->> 'id' = $1 AND rule IN ('truncated', 'insert_deleted', 'update_missing')`,
        [id],
      );
    expect(await restore(one, '32')).toEqual([[{ id: 32, v: 'back' }]]);
    expect(await restore(two, '33')).toEqual([[{ id: 33, v: 'back' }]]);
    // What came is a change of a row, which may have left values out.
    await expect(restore(two, '32')).rejects.toThrow(/has no row to bring back/);
    await cluster.settled();
    for (const node of cluster.nodes) {
      expect(await node.sql('SELECT id, v FROM item ORDER BY id')).toEqual([
        ['32', 'back'],
        ['33', 'back'],
      ]);
    }
    await one.sql('DELETE FROM item');
  });

  test('goes by its settings without a restart: no rows, no conflicts, no more than so long', async () => {
    const rowsOf = async (id: string) =>
      one.sql(
        `SELECT local_tuple, remote_tuple FROM bdr.bdr_conflict_history WHERE row_key->>'id' = $1`,
        [id],
      );
    let id = 100;
    const next = async () => {
      await conflict(String(++id));
      return rowsOf(String(id));
    };
    await one.sql('ALTER DATABASE app SET bdr.conflict_logging_include_tuples = off');
    await until('rows to be left out', async () => (await next())[0]?.[0] === null);
    expect(await next()).toEqual([[null, null]]);
    await one.sql('ALTER DATABASE app SET bdr.log_conflicts_to_table = off');
    await until('conflicts to be left out', async () => (await next()).length === 0);
    // They are counted all the same.
    expect(
      Number((await one.sql('SELECT sum(nr_insert_conflict) FROM bdr.pg_stat_bdr'))[0]?.[0]),
    ).toBeGreaterThan(0);
    await one.sql('ALTER DATABASE app RESET bdr.log_conflicts_to_table');
    await one.sql(`ALTER DATABASE app SET bdr.conflict_history_retention = '1 ms'`);
    await until('all to be forgotten', async () => {
      const [count] = await one.sql('SELECT count(*)::integer FROM bdr.bdr_conflict_history');
      return count?.[0] === 0;
    });
    // On this node alone.
    expect(await two.sql('SELECT count(*) > 0 FROM bdr.bdr_conflict_history')).toEqual([[true]]);
  });
});
