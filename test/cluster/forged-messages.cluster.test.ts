import { existsSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, concurrently, until, type TestNode } from '../support/cluster.ts';

function residentMb(pid: number | undefined): number {
  const [, kb] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kb) / 1024;
}

/** As PostgreSQL counts: microseconds since 2000. */
const IN_THE_YEAR_2100 = 3_155_760_000_000_000;

describe('messages that a role without any rights writes with pg_logical_emit_message()', () => {
  let cluster: Cluster;
  let keys: readonly string[];
  beforeAll(async () => {
    cluster = await Cluster.start(2, 'CREATE TABLE t (id integer PRIMARY KEY, v text)');
    const [one] = cluster.nodes;
    keys = (
      await one!.sql(
        `SELECT concat_ws(',', node_sysid, node_timeline, node_dboid) FROM bdr.bdr_nodes ORDER BY node_seq_id`,
      )
    ).map(([key]) => String(key));
    for (const node of cluster.nodes) await node.sql('CREATE ROLE mallory');
    await cluster.node(2).sql(`SELECT pg_create_logical_replication_slot('watching', 'pgoutput')`);
  });
  afterAll(async () => cluster[Symbol.asyncDispose]());

  const nowInMicros = () => (Date.now() - Date.UTC(2000, 0, 1)) * 1000;
  const forge = async (node: TestNode, content: string, transactional = true) => {
    await using client = await node.connect();
    await client.sql('SET SESSION AUTHORIZATION mallory');
    await client.sql('SELECT pg_logical_emit_message($1, $2, $3)', [transactional, 'bdr', content]);
  };
  /** As a heartbeat of node 1 that is ahead of everything, and has seen everything of node 2. */
  const future = async () => {
    const [[xid]] = (await cluster.node(1).sql('SELECT pg_current_xact_id()::text::bigint')) as [
      [string],
    ];
    const beats = [Number(xid) + 1, Number(xid) + 2, 2 ** 50].map((own) =>
      JSON.stringify({
        heartbeat: {
          clock: IN_THE_YEAR_2100,
          xid: own,
          xmin: 2 ** 51,
          applied: { [keys[1] ?? '']: IN_THE_YEAR_2100 },
        },
      }),
    );
    return [...beats, ...beats.map((beat) => `${'0'.repeat(64)} ${beat}`)];
  };
  /** The messages that node 2 has written since the last call. */
  const messagesOfTwo = async () =>
    (
      await cluster.node(2).sql(`
        SELECT substring(encode(data, 'escape') FROM '[0-9a-f]{64} [{].*')
        FROM pg_logical_slot_get_binary_changes('watching', NULL, NULL, 'proto_version', '1', 'publication_names', 'bdr', 'messages', 'true')
        WHERE encode(data, 'escape') LIKE 'M%heartbeat%'`)
    ).map(([text]) => String(text));
  /** Up to which time node 2 says that it has applied node 1. */
  const watermark = async () => {
    let time: number | undefined;
    await until('node 2 to tell its watermark', async () => {
      const newest = (await messagesOfTwo()).at(-1)?.slice(65);
      if (newest === undefined) return false;
      const { heartbeat } = JSON.parse(newest) as {
        heartbeat: { applied: Record<string, number> };
      };
      time = heartbeat.applied[keys[0] ?? ''];
      return time !== undefined;
    });
    return time as number;
  };

  test('move no watermark', async () => {
    const before = nowInMicros();
    for (const beat of await future()) await forge(cluster.node(1), beat);
    await cluster.settled();
    await until('the watermark to have passed the forged ones', async () => {
      const now = await watermark();
      expect(now).toBeLessThan(nowInMicros() + 60_000_000);
      return now > before;
    });
  });

  test('hide no conflict', async () => {
    const [one, two] = [cluster.node(1), cluster.node(2)];
    const rows = 8;
    await one.sql(`INSERT INTO t SELECT i, 'first' FROM generate_series(1, ${rows}) AS i`);
    await cluster.settled();
    const beats = await future();
    await concurrently([one, two], async () => {
      for (let id = 1; id <= rows; id++) {
        await two.sql(`UPDATE t SET v = 'two' WHERE id = ${id}`);
        for (const beat of beats) await forge(one, beat);
        await one.sql(`UPDATE t SET v = 'one' WHERE id = ${id}`);
      }
    });
    expect(await cluster.equal('t')).toHaveLength(rows);
    const recorded = await two.sql(
      `SELECT count(*)::integer FROM bdr.bdr_conflict_history WHERE conflict_type = 'update_update'`,
    );
    expect(recorded).toEqual([[rows]]);
  });

  test('do not count as copies of real ones either, and are told once, with their number', async () => {
    const [one, two] = [cluster.node(1), cluster.node(2)];
    // Copied from one node to the other: signed, though by another node, and for another transaction.
    const copies = await messagesOfTwo();
    expect(copies.length).toBeGreaterThan(0);
    for (const copy of copies.slice(-3)) await forge(two, copy);
    for (const copy of copies.slice(-3)) await forge(one, copy);
    await cluster.settled();
    for (const host of cluster.hosts) {
      await until('the agent to tell', () =>
        Promise.resolve(host.agentLog.includes('messages that the provider has not signed')),
      );
      const told = host.agentLog.split('messages that the provider has not signed').length - 1;
      expect(told).toBeLessThanOrEqual(2);
    }
  });

  test('make a peer commit nothing, alone or by the thousand', async () => {
    const [one, two] = [cluster.node(1), cluster.node(2)];
    await one.sql('INSERT INTO t VALUES (1000)');
    await cluster.settled();
    await one.sql(
      `SET SESSION AUTHORIZATION mallory;
       SELECT count(pg_logical_emit_message(false, 'bdr', '{"confirm": "0/1"}')) FROM generate_series(1, 20000)`,
    );
    const commits = async () =>
      Number((await two.sql('SELECT pg_current_xact_id()::text::bigint'))[0]?.[0]);
    const before = await commits();
    await one.sql('INSERT INTO t VALUES (1001)');
    await one.applied();
    // Heartbeats of the three sides, and this test's own.
    expect((await commits()) - before).toBeLessThan(1000);
    expect(await cluster.equal('t')).toContain('(1001,)');
  });

  test.runIf(existsSync('/proc/self/status'))(
    'fill no memory of a peer whose link waits',
    async () => {
      const [one, two] = [cluster.node(1), cluster.node(2)];
      await using holder = await two.connect();
      await holder.sql('BEGIN; LOCK TABLE t');
      await one.sql('INSERT INTO t VALUES (2000)');
      const before = residentMb(two.host.agentPid);
      await one.sql(
        `SET SESSION AUTHORIZATION mallory;
         SELECT count(pg_logical_emit_message(false, 'app', repeat('x', 1000000))) FROM generate_series(1, 600)`,
      );
      const end = await one.logEnd();
      await until('all of it to be received', async () => {
        const [row] = await two.sql('SELECT received_lsn >= $1::pg_lsn FROM bdr.bdr_links', [end]);
        return row?.[0] === true;
      });
      expect(residentMb(two.host.agentPid) - before).toBeLessThan(300);
      await holder.sql('ROLLBACK');
      expect(await cluster.equal('t')).toContain('(2000,)');
    },
  );

  test('the secret of each node is its own, and in no log', async () => {
    const secrets = await Promise.all(
      cluster.nodes.map(async (node) =>
        String((await node.sql(`SELECT encode(secret, 'hex') FROM bdr.message_secret`))[0]?.[0]),
      ),
    );
    expect(new Set(secrets).size).toBe(2);
    for (const secret of secrets) {
      expect(secret).toHaveLength(64);
      for (const host of cluster.hosts) expect(host.agentLog).not.toContain(secret);
    }
  });
});
