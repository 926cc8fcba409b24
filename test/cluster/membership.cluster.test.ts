import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, Host, TestNode, until } from '../support/cluster.ts';
import { fullMesh, nothingLeft, noTraceOf } from '../support/membership.ts';

const cluster = new Cluster();
let members: TestNode[] = [];

const SCHEMA = `
  CREATE TABLE item (id integer PRIMARY KEY, name text);
  INSERT INTO item SELECT g, 'name ' || g FROM generate_series(1, 100) AS g;
`;

const node = (name: string) => {
  const found = cluster.nodes.find((one) => one.name === name);
  if (!found) throw new Error(`no node ${name}`);
  return found;
};
const addNode = (name: string, host: number, database = name) =>
  cluster.addNode(name, cluster.hosts[host] as Host, database);

/** Every member writes; then all hold all of it. */
const writesReachAll = async () => {
  const before = await node('node1').sql('SELECT coalesce(max(id), 0)::integer FROM item');
  let next = Number(before[0]?.[0]);
  for (const member of members) {
    next += 1;
    await member.sql('INSERT INTO item VALUES ($1, $2)', [next, member.name]);
  }
  const rows = await cluster.equal('item', members);
  for (const member of members) expect(rows.join()).toContain(`,${member.name})`);
};

const leaves = async (name: string) => {
  members = members.filter((member) => member.name !== name);
  for (const member of members) await noTraceOf(name, member);
};

const statusAt = async (on: TestNode, name: string) =>
  (await on.sql('SELECT node_status FROM bdr.bdr_nodes WHERE node_name = $1', [name]))[0]?.[0];

const dropDatabase = async (gone: TestNode) => {
  const maintenance = new TestNode('postgres', gone.host, 'postgres');
  await maintenance.sql(`DROP DATABASE ${gone.database} WITH (FORCE)`);
  cluster.nodes.splice(cluster.nodes.indexOf(gone), 1);
};

beforeAll(async () => {
  cluster.hosts.push(await Host.start(), await Host.start());
  const first = await addNode('node1', 0);
  await first.sql(SCHEMA);
  await first.create();
  members = [first];
});
afterAll(() => cluster[Symbol.asyncDispose]());

describe('joining', () => {
  test('two databases of one server form a group', async () => {
    const second = await addNode('node2', 0);
    expect(await second.sql('SELECT bdr.bdr_is_active_in_db()')).toEqual([[false]]);
    await second.join(node('node1'));
    expect(await second.sql('SELECT bdr.bdr_is_active_in_db()')).toEqual([[true]]);
    members.push(second);
    await fullMesh(members);
    await writesReachAll();
  });

  test('a third node joins through the second, a fourth through the third, into a full mesh', async () => {
    const third = await addNode('node3', 1);
    await third.join(node('node2'));
    members.push(third);
    const fourth = await addNode('node4', 1);
    await fourth.join(third);
    members.push(fourth);
    await fullMesh(members);
    await writesReachAll();
  });

  test('two nodes join at the same time through different members', async () => {
    const [fifth, sixth] = [await addNode('node5', 0), await addNode('node6', 1)];
    await Promise.all([fifth.beginJoin(node('node2')), sixth.beginJoin(node('node4'))]);
    await Promise.all([fifth.ready(), sixth.ready()]);
    members.push(fifth, sixth);
    await fullMesh(members);
    await writesReachAll();
  });
});

describe('leaving', () => {
  test('remove without force is refused while the node is a member', async () => {
    await expect(
      node('node6').sql('SELECT bdr.remove_bdr_from_local_node()'),
    ).rejects.toMatchObject({
      message: 'this BDR node might still be active, not removing',
      code: '55000',
    });
    expect(await statusAt(node('node6'), 'node6')).toBe('r');
  });

  test('parted nodes learn it, and their peers drop slot and link', async () => {
    await node('node1').sql(`SELECT bdr.bdr_part_by_node_names('{node5,node6}')`);
    members = members.slice(0, 4);
    for (const name of ['node5', 'node6']) {
      const parted = node(name);
      await leaves(name);
      await until(
        `${name} to learn that it was parted`,
        async () => (await statusAt(parted, name)) === 'k',
      );
      await until(`${name} to keep nothing for its peers`, async () => {
        const slots = await parted.sql(
          'SELECT FROM pg_replication_slots WHERE database = current_database()',
        );
        return slots.length === 0;
      });
      expect(await parted.sql('SELECT bdr.bdr_is_active_in_db()')).toEqual([[true]]);
      await expect(parted.sql(`SELECT bdr.bdr_wait_for_apply('5s')`)).rejects.toMatchObject({
        message: `node ${name} was parted from the group`,
      });
    }
    await fullMesh(members);
    await writesReachAll();
  });

  test('remove makes an ordinary database of a parted node, with its rows and without a trace', async () => {
    for (const name of ['node5', 'node6']) {
      const parted = node(name);
      await parted.sql('SELECT bdr.remove_bdr_from_local_node()');
      await nothingLeft(parted);
      const [rows] = await parted.sql('SELECT count(*)::integer FROM item');
      expect(Number(rows?.[0])).toBeGreaterThan(100);
      // Once more does no harm.
      await parted.sql('SELECT bdr.remove_bdr_from_local_node()');
    }
    await dropDatabase(node('node6'));
  });

  test('a parted database joins again, and a new one of the name of a parted node, at once through the same member', async () => {
    await node('node1').sql(
      `UPDATE item SET name = 'changed' WHERE id <= 10; DELETE FROM item WHERE id = 11; INSERT INTO item VALUES (5000, 'new')`,
    );
    const [fifth, sixth] = [node('node5'), await addNode('node6', 1, 'node6_again')];
    await fifth.sql('DROP TABLE item');
    await Promise.all([fifth.beginJoin(node('node1')), sixth.beginJoin(node('node1'))]);
    await Promise.all([fifth.ready(), sixth.ready()]);
    members.push(fifth, sixth);
    await fullMesh(members);
    await writesReachAll();
    for (const again of [fifth, sixth])
      expect(await again.sql('SELECT FROM item WHERE id = 11')).toEqual([]);
  });

  test('a database joins again at the moment of its removal, and once more', async () => {
    const again = node('node5');
    for (const via of ['node2', 'node3']) {
      await node('node4').sql(`SELECT bdr.bdr_part_by_node_names('{node5}')`);
      await again.sql('SELECT bdr.remove_bdr_from_local_node(true); DROP TABLE item');
      await node('node1').sql(`UPDATE item SET name = name || '+' WHERE id <= 3`);
      await again.join(node(via));
      await fullMesh(members);
      await writesReachAll();
    }
  });

  test('what the agent begins while BDR is removed waits, and takes neither origin nor slot', async () => {
    const gone = await addNode('gone', 0);
    await gone.create();
    // It begins once the node is ready, after a look that the lock below would hold up.
    await until('the own stream to run', async () => {
      const running = await gone.sql(
        `SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'bdr:own:send'`,
      );
      return running.length > 0;
    });
    {
      // As the function does it, and stopped between ending the agent's sessions and dropping what they held.
      await using remover = await gone.connect();
      await remover.sql('BEGIN; LOCK TABLE bdr.bdr_local_node IN ACCESS EXCLUSIVE MODE');
      await remover.sql(`
        SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'bdr:own%'`);
      await until('the own stream to begin again and wait', async () => {
        const waiting = await gone.sql(`
          SELECT FROM pg_stat_activity
          WHERE datname = current_database() AND application_name LIKE 'bdr:own%' AND wait_event_type = 'Lock'`);
        return waiting.length > 0;
      });
      await remover.sql('SELECT bdr.remove_bdr_from_local_node(true)');
      await remover.sql('COMMIT');
    }
    await until('the agent to leave the database', async () => {
      const sessions = await gone.sql(`
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND (application_name LIKE 'bdr:%' OR application_name LIKE '%:send')`);
      return sessions.length === 0;
    });
    await nothingLeft(gone);
    await dropDatabase(gone);
  });

  test('a node that was parted while its agent was down learns it when the agent is back', async () => {
    const host = cluster.hosts[1] as Host;
    const parted = node('node6');
    await host.killAgent();
    await node('node1').sql(`SELECT bdr.bdr_part_by_node_names('{node6}')`);
    await node('node2').sql(`INSERT INTO item VALUES (6000, 'while away')`);
    await noTraceOf('node6', node('node1'));
    host.startAgent();
    await until(
      'node6 to learn that it was parted',
      async () => (await statusAt(parted, 'node6')) === 'k',
    );
    await leaves('node6');
    await parted.sql('SELECT bdr.remove_bdr_from_local_node()');
    await nothingLeft(parted);
    await fullMesh(members);
    await writesReachAll();
  });

  test('a node whose name was used again while a peer was down leaves nothing on that peer', async () => {
    const host = cluster.hosts[1] as Host;
    const gone = node('node5');
    await host.killAgent();
    await node('node1').sql(`SELECT bdr.bdr_part_by_node_names('{node5}')`);
    await noTraceOf('node5', node('node1'));
    // What registering another node of that name does.
    await node('node1').sql(`DELETE FROM bdr.bdr_nodes WHERE node_name = 'node5'`);
    host.startAgent();
    await leaves('node5');
    await until('node3 to keep no slot for a node that it does not know', async () => {
      const slots = await node('node3').sql(`
        SELECT FROM pg_replication_slots AS s, bdr.bdr_parse_slot_name(s.slot_name) AS p
        WHERE s.database = current_database() AND s.slot_name NOT LIKE 'bdr_%_own__'
          AND NOT EXISTS (SELECT FROM bdr.bdr_nodes AS n WHERE n.node_dboid = p.remote_dboid)`);
      const links = await node('node3').sql('SELECT FROM bdr.bdr_links');
      return slots.length === 0 && links.length === members.length - 1;
    });
    await gone.sql('SELECT bdr.remove_bdr_from_local_node(true)');
    await fullMesh(members);
  });

  test('remove works when no agent runs', async () => {
    const host = cluster.hosts[1] as Host;
    const gone = node('node4');
    await node('node3').sql(`SELECT bdr.bdr_part_by_node_names('{node4}')`);
    await leaves('node4');
    await host.killAgent();
    await gone.sql('SELECT bdr.remove_bdr_from_local_node(true)');
    await nothingLeft(gone);
    host.startAgent();
    await fullMesh(members);
  });

  test('a node that is parted while it joins learns it, and leaves nothing on the members', async () => {
    const late = await addNode('late', 1);
    await node('node1').sql('SELECT bdr.bdr_apply_pause()');
    await late.beginJoin(node('node1'));
    await until(
      'the node to be registered',
      async () => (await statusAt(node('node1'), 'late')) === 'i',
    );
    await node('node1').sql(`SELECT bdr.bdr_part_by_node_names('{late}')`);
    await node('node1').sql('SELECT bdr.bdr_apply_resume()');
    await expect(late.sql('SELECT bdr.bdr_node_join_wait_for_ready()')).rejects.toMatchObject({
      message: expect.stringMatching(/^(this node|node late) was parted from the group$/) as string,
    });
    for (const member of members) await noTraceOf('late', member);
    await late.sql('SELECT bdr.remove_bdr_from_local_node(true)');
    await nothingLeft(late);
  });
});

describe('the functions of a member', () => {
  test('a member cannot join or create again', async () => {
    const { dsn } = node('node1');
    for (const [call, caller] of [
      [`bdr.bdr_group_create('x', '${dsn}')`, 'bdr.bdr_group_create'],
      [`bdr.bdr_group_join('x', '${dsn}', '${dsn}')`, 'bdr.bdr_group_join'],
    ]) {
      await expect(node('node1').sql(`SELECT ${call}`)).rejects.toMatchObject({
        message: 'This node is already a member of a BDR group',
        code: '55000',
        hint: `Connect to the node you wish to add and run ${caller} from it instead`,
      });
    }
  });

  test('a node cannot part itself, nor one that nobody knows', async () => {
    await expect(
      node('node1').sql(`SELECT bdr.bdr_part_by_node_names('{node2,node1}')`),
    ).rejects.toMatchObject({ message: 'Cannot part a node from its self', code: '55006' });
    await expect(
      node('node1').sql(`SELECT bdr.bdr_part_by_node_names('{node2,nobody}')`),
    ).rejects.toMatchObject({ message: 'No node(s) named nobody found', code: 'P0002' });
    expect(await statusAt(node('node1'), 'node2')).toBe('r');
  });

  test('waiting for a join needs READ COMMITTED and a join that is committed', async () => {
    await using client = await node('node1').connect();
    for (const level of ['REPEATABLE READ', 'SERIALIZABLE']) {
      await client.sql(`BEGIN ISOLATION LEVEL ${level}`);
      await expect(client.sql('SELECT bdr.bdr_node_join_wait_for_ready()')).rejects.toMatchObject({
        message: `Can only wait for node join in an ISOLATION LEVEL READ COMMITTED transaction, not ${level.toLowerCase()}`,
      });
      await client.sql('ROLLBACK');
    }
    const fresh = await addNode('fresh', 0);
    await using joining = await fresh.connect();
    await joining.sql('BEGIN');
    await joining.sql('SELECT bdr.bdr_group_create($1, $2)', ['fresh', fresh.dsn]);
    await expect(joining.sql('SELECT bdr.bdr_node_join_wait_for_ready()')).rejects.toMatchObject({
      message: 'the agent cannot see a node that is not committed yet',
      code: '55000',
    });
    await joining.sql('ROLLBACK');
    await dropDatabase(fresh);
  });

  test('the extension and its schema cannot be dropped while BDR is active', async () => {
    for (const drop of [
      'DROP EXTENSION bdr',
      'DROP EXTENSION bdr CASCADE',
      'DROP SCHEMA bdr CASCADE',
    ]) {
      await expect(node('node1').sql(drop), drop).rejects.toMatchObject({
        message: expect.stringMatching(
          /^Dropping the BDR extension is prohibited while BDR is active$|because extension bdr requires it$/,
        ) as string,
      });
    }
    await fullMesh(members);
  });

  test('versions and identity', async () => {
    const [row] = await node('node2').sql(`
      SELECT bdr.bdr_version() ~ '^1\\.', bdr.bdr_variant(), bdr.bdr_version_num(), bdr.bdr_min_remote_version_num(),
             bdr.bdr_get_local_node_name(),
             (bdr.bdr_get_local_nodeid()).sysid = (SELECT system_identifier::text FROM pg_control_system()),
             (bdr.bdr_get_local_nodeid()).dboid = (SELECT oid FROM pg_database WHERE datname = current_database())`);
    expect(row).toEqual([true, 'BDR', 10000, 10000, 'node2', true, true]);
    const [slot] = await node('node2').sql(`
      SELECT bool_and(n.node_name IS NOT NULL), count(*)::integer
      FROM pg_replication_slots AS s
      CROSS JOIN bdr.bdr_parse_slot_name(s.slot_name) AS p
      LEFT JOIN bdr.bdr_nodes AS n
        ON (n.node_sysid, n.node_timeline, n.node_dboid) = (p.remote_sysid, p.remote_timeline, p.remote_dboid)
      WHERE s.database = current_database() AND s.slot_name NOT LIKE 'bdr_%_own__'`);
    expect(slot).toEqual([true, members.length - 1]);
  });

  test('pause holds apply of a node, through a restart of its agent; resume lets it go on', async () => {
    const [one, two, host] = [node('node1'), node('node3'), cluster.hosts[1] as Host];
    await two.sql('SELECT bdr.bdr_apply_pause()');
    expect(await two.sql('SELECT bdr.bdr_apply_is_paused()')).toEqual([[true]]);
    await one.sql(`INSERT INTO item VALUES (7000, 'paused')`);
    await host.stopAgent();
    host.startAgent();
    await until('the link to say that it is paused', async () => {
      const paused = await two.sql(`SELECT FROM bdr.bdr_links WHERE status = 'paused'`);
      return paused.length === members.length - 1;
    });
    await expect(one.sql(`SELECT bdr.bdr_wait_for_apply('300 ms')`)).rejects.toMatchObject({
      code: '57014',
      detail: 'Not there yet: node3.',
    });
    expect(await two.sql('SELECT FROM item WHERE id = 7000')).toEqual([]);
    // The other direction goes on.
    await two.sql(`INSERT INTO item VALUES (7001, 'not paused')`);
    await two.applied();
    await two.sql('SELECT bdr.bdr_apply_resume()');
    await one.applied();
    expect(await two.sql('SELECT FROM item WHERE id IN (7000, 7001)')).toHaveLength(2);
    expect(await two.sql('SELECT bdr.bdr_apply_is_paused()')).toEqual([[false]]);
  });

  test('wait_slot_confirm_lsn waits for one slot or for all of them', async () => {
    const one = node('node1');
    await one.sql(`INSERT INTO item VALUES (7100, 'confirmed')`);
    await one.sql(`SET statement_timeout = '30s'; SELECT bdr.wait_slot_confirm_lsn(NULL, NULL)`);
    for (const member of members)
      expect(await member.sql('SELECT FROM item WHERE id = 7100')).toHaveLength(1);
    const [slot] = await one.sql('SELECT slot_name FROM bdr.bdr_node_slots LIMIT 1');
    await one.sql(`SELECT bdr.wait_slot_confirm_lsn($1, '0/1')`, slot);
    await expect(one.sql(`SELECT bdr.wait_slot_confirm_lsn('none', NULL)`)).rejects.toMatchObject({
      code: '42704',
    });
    await expect(
      one.sql(`SET statement_timeout = '100ms'; SELECT bdr.wait_slot_confirm_lsn(NULL, 'FF/0')`),
    ).rejects.toMatchObject({ code: '57014' });
  });

  test("apply_delay holds a node's changes back for that long, and can be changed", async () => {
    const [one, two] = [node('node1'), node('node2')];
    const setDelay = `
      UPDATE bdr.bdr_connections SET conn_apply_delay = $1 WHERE conn_dboid = (bdr.bdr_get_local_nodeid()).dboid`;
    await one.sql(setDelay, [1500]);
    await one.applied();
    await one.sql(`INSERT INTO item VALUES (7200, 'late')`);
    await one.applied();
    const waited = async () =>
      (
        await two.sql(`
          SELECT l.applied_at - pg_xact_commit_timestamp(i.xmin) >= interval '1.5 s'
          FROM item AS i, bdr.bdr_links AS l JOIN bdr.bdr_nodes AS n ON n.node_dboid = l.provider_dboid
          WHERE i.id = 7200 AND n.node_name = 'node1' AND l.applied_commit_at >= pg_xact_commit_timestamp(i.xmin)`)
      )[0];
    // The link reports once a second.
    await until('the link to report it', async () => (await waited()) !== undefined);
    expect(await waited()).toEqual([true]);
    await one.sql(setDelay, [null]);
    await one.applied();
  });
});

describe('the functions of a database that is no member yet', () => {
  let fresh: TestNode;
  beforeAll(async () => {
    fresh = await addNode('nobody', 0);
  });

  test('a DSN is asked for, and a name', async () => {
    for (const call of [
      `bdr.bdr_group_create('x', NULL)`,
      `bdr.bdr_group_join('x', NULL, 'dbname=y')`,
    ]) {
      await expect(fresh.sql(`SELECT ${call}`)).rejects.toMatchObject({
        message: 'dsn may not be null',
        code: '22023',
      });
    }
    for (const name of ['', 'n'.repeat(64)]) {
      await expect(
        fresh.sql('SELECT bdr.bdr_group_create($1, $2)', [name, fresh.dsn]),
      ).rejects.toMatchObject({
        message: 'local_node_name must have 1 to 63 bytes',
        code: '22023',
      });
    }
  });

  test('what needs a member says that there is none', async () => {
    for (const call of [
      'bdr_node_join_wait_for_ready()',
      'bdr_apply_pause()',
      'bdr_apply_resume()',
      'bdr_wait_for_apply()',
    ]) {
      await expect(fresh.sql(`SELECT bdr.${call}`), call).rejects.toMatchObject({
        message: 'BDR is not active in this database',
        code: '55000',
      });
    }
    expect(
      await fresh.sql('SELECT bdr.bdr_apply_is_paused(), bdr.bdr_get_local_node_name()'),
    ).toEqual([[false, null]]);
  });

  test('create refuses exclusion constraints', async () => {
    await fresh.sql(
      'CREATE TABLE booking (id integer PRIMARY KEY, during tsrange, EXCLUDE USING gist (during WITH &&))',
    );
    await expect(
      fresh.sql('SELECT bdr.bdr_group_create($1, $2)', ['x', fresh.dsn]),
    ).rejects.toMatchObject({
      message:
        "BDR can't be enabled because exclusion constraints exist on persistent tables that are not excluded from replication",
      code: '55000',
      detail: 'Table public.booking has exclusion constraint booking_during_excl',
    });
    await fresh.sql('DROP TABLE booking');
  });

  test('create warns of secondary unique constraints and of tables without a primary key', async () => {
    await fresh.sql(
      `CREATE TABLE person (id integer PRIMARY KEY, email text UNIQUE); CREATE TABLE "Log" (line text)`,
    );
    await using client = await fresh.connect();
    await client.sql('BEGIN');
    await client.sql('SELECT bdr.bdr_group_create($1, $2)', ['x', fresh.dsn]);
    await client.sql('ROLLBACK');
    expect(client.notices).toEqual([
      'WARNING: Secondary unique constraint(s) exist on replicated table(s)',
      'WARNING: Table public."Log" has no PRIMARY KEY',
    ]);
  });

  test('a database that holds user tables cannot join', async () => {
    await expect(fresh.beginJoin(node('node1'))).rejects.toMatchObject({
      message: 'database joining BDR group has existing user tables',
      code: '55000',
      detail: 'Tables: public."Log", public.person',
    });
    expect(await fresh.sql('SELECT bdr.bdr_is_active_in_db()')).toEqual([[false]]);
  });
});
