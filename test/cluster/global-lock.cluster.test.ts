import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  Cluster,
  concurrently,
  LOSES_WHAT_IS_RECENT,
  type TestClient,
  type TestNode,
  until,
} from '../support/cluster.ts';
import { failure } from '../support/failure.ts';

const SCHEMA = `
  CREATE TABLE item (id integer PRIMARY KEY, v text);
  CREATE TABLE other (id integer PRIMARY KEY, v text);
  CREATE TABLE part (id integer PRIMARY KEY) PARTITION BY RANGE (id);
  CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100);
  INSERT INTO item VALUES (1, 'start');
  CREATE TABLE ruled (id integer PRIMARY KEY, v text);
  INSERT INTO ruled VALUES (1, 'start');
  CREATE FUNCTION both_of(mine ruled, theirs ruled, text, regclass, bdr.bdr_conflict_type,
      OUT result ruled, OUT action bdr.bdr_conflict_handler_action) LANGUAGE plpgsql AS $$
  BEGIN
      -- Until the test lets it go on.
      PERFORM pg_advisory_xact_lock(29);
      result := mine;
      result.v := 'both';
      action := 'ROW';
  END $$;
`;
const WRITE = `SELECT bdr.internal_acquire_lock('write_lock', '{item}')`;
/** Takes the same lock by itself. */
const COMMAND = `ALTER TABLE item ADD CONSTRAINT small CHECK (id < 1000)`;

let cluster: Cluster;
let one: TestNode;
let two: TestNode;
let three: TestNode;

beforeAll(async () => {
  cluster = await Cluster.start(3, SCHEMA, {
    settings: { max_prepared_transactions: 2, ...LOSES_WHAT_IS_RECENT },
  });
  [one, two, three] = [cluster.node(1), cluster.node(2), cluster.node(3)];
  await cluster.settled();
});
afterAll(() => cluster[Symbol.asyncDispose]());

/** A transaction that holds the lock; ended by the end of its client. */
async function holder(node: TestNode, ask: string): Promise<TestClient> {
  const client = await node.connect();
  await client.sql('BEGIN');
  await client.sql(ask);
  return client;
}

async function lockOn(node: TestNode): Promise<string> {
  const [row] = await node.sql(
    `SELECT coalesce(owner_node_name || ' ' || lock_mode || ' ', '') || lock_state FROM bdr.bdr_locks`,
  );
  return String(row?.[0]);
}

async function gates(node: TestNode): Promise<string[]> {
  const rows = await node.sql(`SELECT g::text FROM bdr.internal_lock_gates() AS g ORDER BY 1`);
  return rows.map(([name]) => String(name));
}

/** No node holds anything, or holds anybody back. */
async function isFree(): Promise<void> {
  await until('the lock to be free and all gates to be gone', async () => {
    for (const node of cluster.nodes) {
      if ((await lockOn(node)) !== 'nolock' || (await gates(node)).length > 0) return false;
      const [row] = await node.sql(
        `SELECT count(*) FROM bdr.bdr_global_locks WHERE state <> 'released'`,
      );
      if (row?.[0] !== '0') return false;
    }
    return true;
  }).catch(async (error: unknown) => {
    const rows = await one.sql(`SELECT to_jsonb(l)::text FROM bdr.bdr_global_locks AS l`);
    throw new Error(
      `${String(error)}\n${rows.join('\n')}\n${cluster.hosts.map(({ agentLog }) => agentLog.slice(-1500)).join('\n')}`,
    );
  });
}

describe('the global lock', () => {
  test('a write lock holds back the writes of other nodes on its tables until the transaction ends', async () => {
    await using client = await holder(one, WRITE);
    expect(await lockOn(one)).toBe('node1 write_lock acquire_acquired');
    expect(await lockOn(two)).toBe('node1 write_lock peer_confirmed');
    expect(await gates(one)).toEqual([]);
    expect(await gates(two)).toEqual(['item']);
    for (const write of [
      `INSERT INTO item VALUES (2, 'x')`,
      `UPDATE item SET v = 'x'`,
      'DELETE FROM item',
      'TRUNCATE item',
    ])
      expect(await failure(two.sql(`SET lock_timeout = '50ms'; ${write}`))).toBe(
        '55P03 canceling statement due to global lock timeout',
      );
    await two.sql(`INSERT INTO other VALUES (2, 'free')`);
    expect(await two.sql('SELECT v FROM item')).toEqual([['start']]);
    const waiting = two.sql(`INSERT INTO item VALUES (2, 'waited')`);
    await client.sql(`UPDATE item SET v = 'by the holder' WHERE id = 1`);
    await client.sql('COMMIT');
    await waiting;
    await isFree();
    expect(await cluster.equal('item')).toEqual(['(1,"by the holder")', '(2,waited)']);
  });

  test('a ddl_lock holds back nobody who writes; another ask waits for it, or fails in time', async () => {
    await using client = await holder(one, `SELECT bdr.internal_acquire_lock('ddl_lock', '{}')`);
    await two.sql(`UPDATE other SET v = 'meanwhile'`);
    const inTime = `SET bdr.bdr_ddl_lock_timeout = '100ms'; SELECT bdr.acquire_global_lock('ddl_lock')`;
    expect(await failure(two.sql(inTime))).toBe(
      '55P03 database is locked against ddl by another node',
    );
    expect(await failure(one.sql(inTime))).toBe(
      '55P03 canceling statement due to global lock timeout',
    );
    let isGranted = false;
    const waiting = two.sql(`SELECT bdr.acquire_global_lock('ddl_lock')`).then(() => {
      isGranted = true;
    });
    await until('the other ask to have been heard', async () => {
      const [row] = await two.sql(
        `SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%acquire_global_lock%' AND wait_event = 'PgSleep'`,
      );
      return row?.[0] === '1';
    });
    expect(isGranted).toBe(false);
    await client.sql('COMMIT');
    await waiting;
    await isFree();
  });

  test('nodes that ask at once get it one after the other', async () => {
    const order: string[] = [];
    await Promise.all(
      [one, two, three, one, two].map(async (node, at) => {
        const mode = at % 2 ? 'write_lock' : 'ddl_lock';
        await using client = await holder(node, `SELECT bdr.acquire_global_lock('${mode}')`);
        order.push(`${at} begins`);
        await client.sql(`UPDATE item SET v = v WHERE id = 1`);
        order.push(`${at} ends`);
        await client.sql('COMMIT');
      }),
    );
    expect(order).toHaveLength(10);
    for (let at = 0; at < 10; at += 2)
      expect(order[at + 1]).toBe(order[at]?.replace('begins', 'ends'));
    await isFree();
    for (const node of cluster.nodes)
      expect(
        await node.sql(
          `SELECT * FROM bdr.bdr_conflict_history WHERE object_name = 'bdr_global_locks'`,
        ),
      ).toEqual([]);
  });

  test('what a conflict policy would write waits for its end, as what users write does', async () => {
    await one.sql(
      `SELECT bdr.bdr_create_conflict_handler('ruled', 'both',
         'both_of(ruled, ruled, text, regclass, bdr.bdr_conflict_type)', 'update_update')`,
    );
    await cluster.settled();
    const valueOf = async (node: TestNode) => (await node.sql('SELECT v FROM ruled'))[0]?.[0];
    await using blocker = await two.connect();
    await blocker.sql('SELECT pg_advisory_lock(29)');
    await concurrently(cluster.nodes, async () => {
      await two.sql(`UPDATE ruled SET v = 'two'`);
      await one.sql(`UPDATE ruled SET v = 'one'`);
    });
    await until('the handler to be asked', async () => {
      const rows = await two.sql('SELECT FROM pg_locks WHERE objid = 29 AND NOT granted');
      return rows.length > 0 && (await valueOf(two)) === 'one';
    });
    await using client = await holder(
      one,
      `SELECT bdr.internal_acquire_lock('write_lock', '{ruled}')`,
    );
    const [unlocked] = await blocker.sql('SELECT pg_advisory_unlock(29), clock_timestamp()::text');
    await until('the policy to be tried again', async () => {
      const rows = await two.sql(
        `SELECT FROM pg_stat_activity
         WHERE application_name = 'bdr:policy' AND state = 'idle' AND query_start > $1::timestamptz`,
        [unlocked?.[1]],
      );
      return rows.length > 0;
    });
    expect(await valueOf(two)).toBe('one');
    await client.sql('COMMIT');
    await until('the policy to be carried out', async () => (await valueOf(one)) === 'both');
    await isFree();
    expect(await cluster.equal('ruled')).toEqual(['(1,both)']);
  });

  test('who holds it may ask again and for more, in a transaction of any isolation', async () => {
    await using client = await one.connect();
    await client.sql(`BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM other`);
    for (const ask of [
      `SELECT bdr.internal_acquire_lock('ddl_lock', '{}')`,
      `SELECT bdr.internal_acquire_lock('write_lock', '{part_1}')`,
      `SELECT bdr.internal_acquire_lock('write_lock', '{item}')`,
      `SELECT bdr.internal_acquire_lock('write_lock', '{item,part_1}')`,
    ])
      await client.sql(ask);
    // Who writes to a partition may have named its parent.
    expect(await gates(two)).toEqual(['item', 'part', 'part_1']);
    expect(await failure(client.sql(`PREPARE TRANSACTION 'kept'`))).toMatch(
      /^0A000 cannot PREPARE/,
    );
    await isFree();
  });

  test('it is granted when the others have applied what was written before', async () => {
    await three.sql('SELECT bdr.bdr_apply_pause()');
    await two.sql(`INSERT INTO item VALUES (10, 'before')`);
    await using client = await one.connect();
    await client.sql('BEGIN');
    const asking = client.sql(WRITE);
    await until('two nodes to have answered in part', async () =>
      (await lockOn(two)).endsWith('peer_catchup'),
    );
    expect(await one.sql(`SELECT lock_state, waiting_for::text FROM bdr.bdr_locks`)).toEqual([
      ['acquire_tally_confirmations', '{node2,node3}'],
    ]);
    await three.sql('SELECT bdr.bdr_apply_resume()');
    await asking;
    expect(await three.sql('SELECT v FROM item WHERE id = 10')).toEqual([['before']]);
    await client.sql('ROLLBACK');
    await isFree();
  });

  test('who writes already is waited for, then canceled', async () => {
    await using writer = await two.connect();
    await writer.sql(`BEGIN; UPDATE item SET v = 'unfinished' WHERE id = 1`);
    await using client = await one.connect();
    await client.sql('BEGIN');
    let isGranted = false;
    const asking = client.sql(WRITE).then(() => (isGranted = true));
    await until('the third node to have answered', async () => (await gates(three)).length > 0);
    expect(isGranted).toBe(false);
    await two.sql(`ALTER DATABASE app SET bdr.max_ddl_lock_delay = '100ms'`);
    await asking;
    expect(await failure(writer.sql('COMMIT'))).not.toBe('no error');
    await client.sql('COMMIT');
    await two.sql(`ALTER DATABASE app RESET bdr.max_ddl_lock_delay`);
    await isFree();
  });

  test('who waits gives way to what the holder has done to the table', async () => {
    await using client = await holder(one, WRITE);
    const waiting = failure(two.sql(`INSERT INTO item VALUES (20, 'waits')`));
    await until('a writer to wait', async () => {
      const rows = await two.sql(
        `SELECT FROM pg_stat_activity WHERE query LIKE '%waits%' AND wait_event = 'PgSleep'`,
      );
      return rows.length === 1;
    });
    await client.sql('TRUNCATE item; COMMIT');
    expect(await waiting).toBe(
      '40001 could not write to table "item" because another node changes its definition',
    );
    await one.sql(`INSERT INTO item VALUES (1, 'anew')`);
    expect(await cluster.equal('item')).toEqual(['(1,anew)']);
  });

  test('an ordinary role may lock what it may write to', async () => {
    for (const node of cluster.nodes) await node.sql('CREATE ROLE worker LOGIN');
    await one.sql('GRANT INSERT ON other TO worker; GRANT SELECT ON item TO worker');
    const ask = (mode: string, tables: string) =>
      failure(one.sqlAs('worker', `SELECT bdr.internal_acquire_lock('${mode}', '{${tables}}')`));
    expect(await ask('ddl_lock', '')).toBe('no error');
    expect(await ask('write_lock', 'other')).toBe('no error');
    expect(await ask('write_lock', 'item')).toBe('42501 permission denied for table item');
    expect(
      await failure(one.sqlAs('worker', `SELECT bdr.acquire_global_lock('ddl_lock')`)),
    ).toMatch(/^42501/);
    expect(
      await failure(
        one.sqlAs(
          'worker',
          `SELECT bdr.internal_acquire_lock_on_locked('write_lock', '{item}', false)`,
        ),
      ),
    ).toMatch(/^42501 cannot acquire/);
    await isFree();
  });

  test('a gate that cannot be taken away yet holds up no other lock, and a writer who has passed it is waited for', async () => {
    await using reader = await two.connect();
    await reader.sql('BEGIN; SELECT FROM item');
    await using first = await holder(one, WRITE);
    await first.sql('COMMIT');
    for (const node of [two, three]) {
      await using next = await holder(node, WRITE);
      await next.sql('COMMIT');
    }
    expect(await gates(two)).toEqual(['item']);
    await using writer = await two.connect();
    await writer.sql(`BEGIN; INSERT INTO item VALUES (50, 'through an open gate')`);
    await two.sql(`ALTER DATABASE app SET bdr.max_ddl_lock_delay = '100ms'`);
    await using last = await holder(one, WRITE);
    // Somebody who is not waited for is not canceled either.
    expect(await failure(writer.sql('COMMIT'))).not.toBe('no error');
    await last.sql('COMMIT');
    await two.sql(`ALTER DATABASE app RESET bdr.max_ddl_lock_delay`);
    await reader.sql('COMMIT');
    await isFree();
  });

  test('settings forbid it, or pass it over', async () => {
    const ask = `SELECT bdr.acquire_global_lock('write_lock')`;
    expect(await failure(one.sql(`SET bdr.permit_ddl_locking = off; ${ask}`))).toBe(
      '55000 Global DDL locking attempt rejected by configuration',
    );
    await using client = await holder(two, ask);
    await one.sql(
      `SET bdr.skip_ddl_locking = on; ${ask}; INSERT INTO item VALUES (30, 'superuser')`,
    );
    expect(await failure(one.sql(`SELECT bdr.acquire_global_lock('row_lock')`))).toBe(
      '22023 unknown lock type row_lock',
    );
    expect(await failure(one.sql(`BEGIN; LOCK item IN SHARE MODE; ${WRITE}`))).toMatch(
      /^55000 cannot acquire the global write lock after locking/,
    );
    await client.sql('ROLLBACK');
    await isFree();
  });
});

describe('the lock is free again, and writers go on, after', () => {
  /** Each leaves the transaction in a state of the protocol, until `resume` is called. */
  const steps: Record<
    string,
    () => Promise<{ client: TestClient; asking: Promise<string>; resume: () => Promise<void> }>
  > = {
    'it was asked for': () => asked([two, three], async () => (await lockOn(one)) !== 'nolock'),
    'a node holds writes': () =>
      asked([three], async () => (await lockOn(two)).endsWith('peer_catchup')),
    'it was granted': () => asked([], async () => (await lockOn(one)).endsWith('acquire_acquired')),
  };
  const deaths: Record<string, (client: TestClient) => Promise<void>> = {
    'the transaction is rolled back': async (client) => {
      await one.sql(`SELECT pg_terminate_backend($1)`, [
        (client.client as unknown as { processID: number }).processID,
      ]);
    },
    'the agent is killed, then the transaction': async (client) => {
      await one.host.killAgent();
      await deaths['the transaction is rolled back']?.(client);
      one.host.startAgent();
    },
    'the server crashes': async () => {
      await one.host.server.crash();
      await one.host.server.start();
    },
  };

  async function asked(paused: readonly TestNode[], isThere: () => Promise<boolean>) {
    for (const node of paused) await node.sql('SELECT bdr.bdr_apply_pause()');
    const client = await one.connect();
    await client.sql('SET bdr.skip_ddl_replication = off; BEGIN');
    const asking = failure(client.sql(COMMAND));
    await until('the lock to be there', isThere);
    const resume = async () => {
      for (const node of paused) await node.sql('SELECT bdr.bdr_apply_resume()');
    };
    return { client, asking, resume };
  }

  const cases = Object.keys(deaths).flatMap((death, at) =>
    // An ask that nobody has heard of yet takes no other way for each death.
    Object.keys(steps)
      .slice(at === 0 ? 0 : 1)
      .map((step) => [step, death] as const),
  );
  test.each(cases)('%s and %s', async (step, death) => {
    const { client, asking, resume } = (await steps[step]?.()) ?? expect.unreachable();
    await using _ = client;
    await deaths[death]?.(client);
    await resume();
    await asking;
    await isFree();
    await using next = await holder(two, WRITE);
    await next.sql('COMMIT');
    await three.sql(`UPDATE item SET v = $1 WHERE id = 1`, [`${step}, ${death}`]);
    await isFree();
  });

  test('the agent of a node that holds writes is killed, and the holder goes on meanwhile', async () => {
    await using client = await holder(one, WRITE);
    await two.host.killAgent();
    const waiting = two.sql(`UPDATE item SET v = 'waited' WHERE id = 1`);
    await client.sql('COMMIT');
    two.host.startAgent();
    await waiting;
    await isFree();
  });

  test('the agent of the holder is killed, and the transaction commits', async () => {
    await using client = await holder(one, WRITE);
    await one.host.killAgent();
    await client.sql(`INSERT INTO item VALUES (40, 'alone'); COMMIT`);
    one.host.startAgent();
    await isFree();
    expect(await cluster.equal('item')).toContain('(40,alone)');
  });

  test('a node is away: a command that others can do without goes on, if a majority is enough, and it takes part when it is back', async () => {
    await three.host.killAgent();
    await using client = await one.connect();
    await client.sql(
      `SET bdr.skip_ddl_replication = off; SET bdr.bdr_ddl_lock_timeout = '2s'; SET bdr.ddl_lock_quorum = 'majority'`,
    );
    await client.sql('CREATE TABLE made (id integer PRIMARY KEY, v text)');
    expect(await failure(client.sql('ALTER TABLE made DROP COLUMN v'))).toMatch(
      /^55P03 canceling statement due to global lock timeout/,
    );
    await client.sql('ALTER TABLE made ADD COLUMN w text');
    three.host.startAgent();
    await client.sql(
      `SET bdr.bdr_ddl_lock_timeout = '60s'; ALTER TABLE made DROP COLUMN v, DROP w`,
    );
    await client.sql('BEGIN; ALTER TABLE made ADD COLUMN rolled_back text; ROLLBACK');
    await client.sql('INSERT INTO made VALUES (1)');
    expect(await cluster.equal('made')).toEqual(['(1)']);
    await isFree();
  });

  test('what is written after a command comes after it on a third node too, though that has heard of it from the first only later', async () => {
    await using first = await one.connect();
    await first.sql(
      `SET bdr.skip_ddl_replication = off; CREATE TABLE again (id integer PRIMARY KEY, v text)`,
    );
    await cluster.settled();
    await first.sql(`BEGIN; DROP TABLE again; CREATE TABLE again (id integer PRIMARY KEY, v text)`);
    await first.sql(`INSERT INTO other VALUES (60, 'holds up the third node')`);
    await using holding = await three.connect();
    await holding.sql('BEGIN; LOCK TABLE other IN SHARE MODE');
    await first.sql('COMMIT');
    await until('the second node to have it', async () => {
      const rows = await two.sql(`SELECT FROM other WHERE id = 60`);
      return rows.length === 1;
    });
    await two.sql(`INSERT INTO again VALUES (1, 'in the new table')`);
    // It would be there within milliseconds.
    const isInOldTable = await until(
      'the row to be in the old table',
      async () => (await three.sql('SELECT FROM again')).length > 0,
      3000,
    ).then(
      () => true,
      () => false,
    );
    expect(isInOldTable).toBe(false);
    await holding.sql('COMMIT');
    expect(await cluster.equal('again')).toEqual(['(1,"in the new table")']);
  });

  test('the holder is parted', async () => {
    await using client = await holder(three, WRITE);
    await one.sql(`SELECT bdr.bdr_part_by_node_names(ARRAY['node3'])`);
    for (const node of [one, two]) await node.sql(`UPDATE item SET v = 'goes on' WHERE id = 1`);
    await client.sql('ROLLBACK');
    await using next = await holder(two, WRITE);
    await next.sql('COMMIT');
    await until('all gates to be gone', async () => {
      for (const node of cluster.nodes) if ((await gates(node)).length > 0) return false;
      return true;
    });
  });
});
