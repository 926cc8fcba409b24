import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmdirSync,
  statSync,
  writeSync,
} from 'node:fs';
import { createServer } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, Host, type TestClient, TestNode, until } from '../support/cluster.ts';
import { fullMesh } from '../support/membership.ts';

const cluster = new Cluster();
/** Ready; on the first server. */
let member: TestNode;
/** Wants to join; on the second. */
let joiner: TestNode;

const HBA = `
host all         with_password 127.0.0.1/32 scram-sha-256
host all         all           127.0.0.1/32 trust
host replication all           127.0.0.1/32 trust
`;

beforeAll(async () => {
  for (const number of [1, 2]) {
    const host = await Host.start({ hba: HBA });
    cluster.hosts.push(host);
    await cluster.addNode(`node${number}`, host, 'app');
    await cluster.node(number).sql(`
      CREATE ROLE with_password LOGIN SUPERUSER PASSWORD 'right';
      CREATE ROLE ordinary LOGIN;`);
    await cluster.node(number).sql('CREATE DATABASE empty');
  }
  member = cluster.node(1);
  joiner = cluster.node(2);
  await member.sql(`
    CREATE TABLE item (id integer PRIMARY KEY); INSERT INTO item SELECT generate_series(1, 10);
    CREATE TABLE big (id integer PRIMARY KEY, filler text);
    INSERT INTO big SELECT g, repeat(md5(g::text), 10) FROM generate_series(1, 80000) AS g`);
  await member.create();
});
afterAll(() => cluster[Symbol.asyncDispose]());

const join = (options: { name?: string; own?: string; via?: string; local?: string | null }) =>
  joiner.sql('SELECT bdr.bdr_group_join($1, $2, $3, $4)', [
    options.name ?? 'node2',
    options.own ?? joiner.dsn,
    options.via ?? member.dsn,
    options.local ?? null,
  ]);
const wait = () =>
  joiner.sql(`SET statement_timeout = '60s'; SELECT bdr.bdr_node_join_wait_for_ready()`);
const dsn = (on: TestNode, parts: Record<string, string | number>) =>
  Object.entries({
    host: '127.0.0.1',
    port: on.host.server.port,
    user: 'postgres',
    dbname: 'app',
    ...parts,
  })
    .map(([key, value]) => `${key}=${value}`)
    .join(' ');

/** Asks, is refused with these fields, finds the reason in bdr_nodes too, and everything as it was. */
async function refused(
  options: Parameters<typeof join>[0],
  error: { message: unknown; code: string; detail?: unknown; hint?: unknown },
) {
  await join(options);
  await expect(wait()).rejects.toMatchObject(error);
  const [row] = await joiner.sql(`
    SELECT node_status, node_error, (SELECT join_step FROM bdr.bdr_local_node), to_regclass('item'),
           (SELECT count(*)::integer FROM pg_replication_slots)
    FROM bdr.bdr_nodes`);
  expect(row).toEqual(['b', error.message, 'checking', null, 0]);
  expect(
    await member.sql(
      `SELECT node_name FROM bdr.bdr_nodes
       UNION ALL SELECT slot_name FROM pg_replication_slots WHERE slot_name NOT LIKE 'bdr_%_own__'`,
    ),
  ).toEqual([['node1']]);
}
const matching = (pattern: RegExp) => expect.stringMatching(pattern) as unknown;

describe('a join is refused before anything is changed, and may be called again, when', () => {
  test('the DSN cannot be read', () =>
    refused(
      { via: 'host=127.0.0.1 port' },
      { message: matching(/missing "="|port/), code: '22023' },
    ));

  test('nobody listens at the port', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    await new Promise((resolve) => server.close(resolve));
    await refused(
      { via: dsn(member, { port }) },
      {
        message: matching(new RegExp(`^could not connect to 127.0.0.1:${port}/app as postgres: `)),
        code: '08006',
        hint: matching(/host and port/),
      },
    );
  });

  test('the password is wrong', () =>
    refused(
      { via: dsn(member, { user: 'with_password', password: 'wrong' }) },
      {
        message: matching(/password authentication failed for user "with_password"/),
        code: '28P01',
        hint: matching(/password/),
      },
    ));

  test('the database does not exist', () =>
    refused(
      { via: dsn(member, { dbname: 'missing' }) },
      {
        message: matching(/database "missing" does not exist/),
        code: '3D000',
        hint: matching(/Check dbname/),
      },
    ));

  test('the other database has no extension bdr', () =>
    refused(
      { via: dsn(member, { dbname: 'empty' }) },
      {
        message: 'remote node does not appear to be a fully running BDR node',
        code: '55000',
        detail: matching(/It has no extension bdr/),
      },
    ));

  test('the other database is no member', async () => {
    await new TestNode('', member.host, 'empty').sql('CREATE EXTENSION bdr');
    await refused(
      { via: dsn(member, { dbname: 'empty' }) },
      {
        message: 'remote node does not appear to be a fully running BDR node',
        code: '55000',
        detail: matching(/BDR is not active in that database/),
      },
    );
  });

  test('a node is to join itself', () =>
    refused({ via: joiner.dsn }, { message: 'cannot join a node to itself', code: '55000' }));

  test('the name is taken', () =>
    refused({ name: 'node1' }, { message: 'node_name already present on remote', code: '55000' }));

  test('node_external_dsn leads to another database', () =>
    refused(
      { own: member.dsn },
      {
        message: matching(/^node identity for node_external_dsn does not match current node/),
        code: '55000',
      },
    ));

  test('node_local_dsn leads to another database', () =>
    refused(
      { local: member.dsn },
      { message: 'node identity for local dsn does not match current node', code: '55000' },
    ));

  test('a DSN names a role that is no superuser', async () => {
    await refused(
      { own: dsn(joiner, { user: 'ordinary' }) },
      { message: matching(/^node_external_dsn does not have superuser rights/), code: '55000' },
    );
    await refused(
      { local: dsn(joiner, { user: 'ordinary' }) },
      { message: 'local dsn does not have superuser rights', code: '55000' },
    );
    await refused(
      { via: dsn(member, { user: 'ordinary' }) },
      { message: 'connection to remote node does not have superuser rights', code: '55000' },
    );
  });

  test('the version of bdr is too old on either side', async () => {
    const version = (name: string, number: number) =>
      `CREATE OR REPLACE FUNCTION bdr.${name}() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT ${number}'`;
    await member.sql(version('bdr_version_num', 9000));
    await refused({}, { message: "remote node's BDR version is too old", code: '55000' });
    await member.sql(version('bdr_version_num', 20000));
    await member.sql(version('bdr_min_remote_version_num', 20000));
    await refused(
      {},
      {
        message: "remote node's BDR version is too new or this node's version is too old",
        code: '55000',
      },
    );
    await member.sql(version('bdr_version_num', 10000));
    await member.sql(version('bdr_min_remote_version_num', 10000));
  });

  test('roles that own objects do not exist here: with the list of them', async () => {
    await member.sql(`
      CREATE ROLE shop_owner; CREATE ROLE "Odd ""role""";
      CREATE SCHEMA shop AUTHORIZATION shop_owner;
      CREATE TABLE shop.odd (id integer PRIMARY KEY);
      ALTER TABLE shop.odd OWNER TO "Odd ""role"""`);
    await refused(
      {},
      {
        message:
          'roles that own or may use objects of the group do not exist on this server: Odd "role", shop_owner',
        code: '55000',
        detail: matching(/Nothing has been changed in database app/),
        hint: matching(/CREATE ROLE "Odd ""role"""; CREATE ROLE "shop_owner";/),
      },
    );
    await member.sql('DROP SCHEMA shop CASCADE');
  });

  test('functions of an ordinary role are here, one of which might be taken for one of the group', async () => {
    await joiner.sql('CREATE SCHEMA mine AUTHORIZATION ordinary');
    await joiner.sqlAs(
      'ordinary',
      `CREATE FUNCTION mine.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'`,
    );
    await refused(
      {},
      {
        message: 'database app holds functions or domains of roles that are no superusers',
        code: '55000',
        detail: matching(/function mine\.f\(\) of role "ordinary"\. Nothing has been changed\./),
        hint: matching(/Drop them/),
      },
    );
    await joiner.sql('DROP SCHEMA mine CASCADE');
  });

  /** Runs `work` while a server has another setting, which takes a restart. */
  const withSetting = async (on: TestNode, setting: string, work: () => Promise<void>) => {
    const { server } = on.host;
    const restart = async () => {
      await server.stop();
      await server.start();
    };
    await on.sql(`ALTER SYSTEM SET ${setting}`);
    await restart();
    try {
      await work();
    } finally {
      await on.sql('ALTER SYSTEM RESET ALL');
      await restart();
    }
  };

  test('wal_level or track_commit_timestamp of this server is wrong: at the call itself', async () => {
    await withSetting(joiner, "wal_level = 'replica'", async () => {
      await expect(join({})).rejects.toMatchObject({
        message: 'wal_level is "replica", replication needs "logical"',
        code: '55000',
        hint: matching(/ALTER SYSTEM SET wal_level/),
      });
    });
    await withSetting(joiner, 'track_commit_timestamp = off', async () => {
      await expect(join({})).rejects.toMatchObject({
        message: 'track_commit_timestamp is off, conflicts could not be resolved',
        code: '55000',
      });
    });
  });

  test('wal_level or track_commit_timestamp of the member is wrong', async () => {
    // A server with a slot does not start without logical decoding: so the member has none now.
    await member.host.stopAgent();
    await member.sql(`
      SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots;
      SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin`);
    await withSetting(member, "wal_level = 'replica'", () =>
      refused(
        {},
        {
          message: 'the remote node: wal_level is "replica", replication needs "logical"',
          code: '55000',
        },
      ),
    );
    member.host.startAgent();
    await withSetting(member, 'track_commit_timestamp = off', () =>
      refused(
        {},
        { message: matching(/^the remote node: track_commit_timestamp is off/), code: '55000' },
      ),
    );
  });

  test('no replication slot or sender is left, here or on the member', async () => {
    // One is its own stream's.
    await withSetting(member, 'max_replication_slots = 1', () =>
      refused(
        {},
        {
          message:
            'node node1: max_replication_slots leaves no room (1 of 1 in use, 1 more needed)',
          code: '53400',
          hint: matching(/ALTER SYSTEM SET max_replication_slots = 12/),
        },
      ),
    );
    await withSetting(joiner, 'max_replication_slots = 0', () =>
      refused(
        {},
        {
          message:
            'this server: max_replication_slots leaves no room (0 of 0 in use, 2 more needed)',
          code: '53400',
        },
      ),
    );
    await withSetting(joiner, 'max_wal_senders = 0', () =>
      refused({}, { message: matching(/^this server: max_wal_senders/), code: '53400' }),
    );
    await withSetting(joiner, 'max_active_replication_origins = 2', () =>
      refused(
        {},
        { message: matching(/^this server: max_active_replication_origins/), code: '53400' },
      ),
    );
  });

  test('no agent is there: a warning at the call, an error from the wait', async () => {
    await joiner.host.killAgent();
    await using client = await joiner.connect();
    await client.sql(
      `SELECT bdr.bdr_group_join('node2', '${joiner.dsn}', '${dsn(member, { dbname: 'missing' })}')`,
    );
    expect(client.notices).toEqual(['WARNING: no bdr agent is running for this server']);
    await expect(wait()).rejects.toMatchObject({
      message: 'no bdr agent is running for this server',
      code: '55000',
      hint: matching(/bdr agent --dsn/),
    });
    joiner.host.startAgent();
    await expect(wait()).rejects.toMatchObject({ code: '3D000' });
  });

  test('and then joins, called with what is right', async () => {
    await join({});
    await wait();
    await fullMesh(cluster.nodes);
    expect(await cluster.equal('item')).toHaveLength(10);
  });
});

describe('an error that the agent goes on trying to overcome', () => {
  /** Where its row is written by the test, as by an agent whose join fails; a step that is new is told by who waits. */
  let failing: TestNode;
  const fail = (failures: number, step: string) =>
    failing.sql(
      `UPDATE bdr.bdr_local_node
       SET join_step = $1, join_error = jsonb_build_object(
             'message', $1 || ' failed', 'retry', true, 'failures', $2::integer, 'at', clock_timestamp())`,
      [step, failures],
    );
  const told = (waiting: TestClient, step: string) =>
    until(`the call to look at ${step}`, () =>
      Promise.resolve(waiting.notices.includes(`NOTICE: ${step}`)),
    );
  /** Has the client wait while the join fails already; `raised` is done once this error has ended the call. */
  const beginWaiting = async (waiting: TestClient, message: string) => {
    await fail(5, 'before the call');
    const raised = expect(
      waiting.sql('SELECT bdr.bdr_node_join_wait_for_ready()'),
    ).rejects.toMatchObject({ message });
    await told(waiting, 'before the call');
    return { raised };
  };

  beforeAll(async () => {
    await joiner.host.killAgent();
    failing = await cluster.addNode('failing', joiner.host, 'failing');
    await failing.beginJoin(member);
  });
  afterAll(async () => {
    await failing.sql('SELECT bdr.remove_bdr_from_local_node(true)');
    cluster.nodes.splice(cluster.nodes.indexOf(failing), 1);
    joiner.host.startAgent();
  });

  test('is raised by who waits once an attempt that began after the call has met it, not one that was under way', async () => {
    await using waiting = await failing.connect();
    const { raised } = await beginWaiting(waiting, 'begun after the call failed');
    await fail(6, 'begun before the call');
    await told(waiting, 'begun before the call');
    await fail(7, 'begun after the call');
    await raised;
  });

  test('is not while it is new, nor where the join got further in between', async () => {
    await using waiting = await failing.connect();
    const { raised } = await beginWaiting(waiting, 'third of another failed');
    for (const [index, step] of ['first', 'second'].entries()) {
      await fail(index + 1, `${step} of another`);
      await told(waiting, `${step} of another`);
    }
    await fail(3, 'third of another');
    await raised;
  });
});

describe('a join goes on by itself when', () => {
  test('a member that could not be reached is back; the error names it', async () => {
    const third = await cluster.addNode('node3', member.host, 'third');
    await joiner.host.server.crash();
    await third.beginJoin(member);
    await expect(third.sql('SELECT bdr.bdr_node_join_wait_for_ready()')).rejects.toMatchObject({
      message: matching(/^node node2: could not connect to /),
      code: '08006',
      detail: matching(/^In step "checking"/),
      hint: matching(/part it on a member.*The agent goes on trying/),
    });
    await joiner.host.server.start();
    await third.ready();
    await fullMesh(cluster.nodes);
  });

  test.runIf(canMount())('the disk of the target was full during the copy', async () => {
    const host = joiner.host;
    const mount = mkdtempSync(path.join(os.tmpdir(), 'pg-bdr-small-'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', mount]);
    try {
      const place = path.join(mount, 'place');
      mkdirSync(place);
      const owner = statSync(host.server.dataDir);
      chmodSync(mount, 0o755);
      chownSync(place, owner.uid, owner.gid);
      const maintenance = new TestNode('postgres', host, 'postgres');
      await maintenance.sql(`CREATE TABLESPACE small LOCATION '${place}'`);
      await maintenance.sql('CREATE DATABASE tight TABLESPACE small');
      const tight = new TestNode('tight', host, 'tight');
      await tight.sql('CREATE EXTENSION bdr');
      await tight.beginJoin(member);
      // Whoever waits here keeps old versions of the row that the join writes: to note anything in it takes another page.
      const failure = expect(
        tight.sql('SELECT bdr.bdr_node_join_wait_for_ready()'),
      ).rejects.toMatchObject({
        message: matching(/No space left on device/),
        code: '53100',
        detail: matching(/^In step "copying/),
        hint: matching(/The agent goes on trying/),
      });
      await until('rows to be copied', async () => {
        const [row] = await tight.sql('SELECT join_step FROM bdr.bdr_local_node');
        return row?.[0] === 'copying rows';
      });
      fillDisk(path.join(mount, 'others'));
      await failure;
      // Not only when autovacuum had freed a page: each failure could be noted at once, and what was copied be removed.
      expect(host.agentLog).not.toMatch(/join could not report|could not be removed yet/);
      execFileSync('mount', ['-o', 'remount,size=400m', mount]);
      await tight.ready();
      expect(await tight.sql('SELECT count(*)::integer FROM big')).toEqual([[80000]]);
      await member.sql(`SELECT bdr.bdr_part_by_node_names('{tight}')`);
      await tight.sql('SELECT bdr.remove_bdr_from_local_node(true)');
      await maintenance.sql('DROP DATABASE tight WITH (FORCE)');
      await maintenance.sql('DROP TABLESPACE small');
    } finally {
      execFileSync('umount', ['-l', mount]);
      rmdirSync(mount);
    }
  });
});

/** Takes what is left of a disk, to the last page. */
function fillDisk(file: string): void {
  const filler = openSync(file, 'w');
  try {
    for (;;) writeSync(filler, Buffer.alloc(4096));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
  } finally {
    closeSync(filler);
  }
}

/** A disk of its own that can be filled: only root may make one, and not in every container. */
function canMount(): boolean {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'pg-bdr-mount-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', dir], { stdio: 'ignore' });
    execFileSync('umount', [dir]);
    return true;
  } catch {
    return false;
  } finally {
    rmdirSync(dir);
  }
}
