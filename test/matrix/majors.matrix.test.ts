import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { embeddedMajors } from '../../src/embedded/binaries.ts';
import { Cluster, Host, until, type TestNode } from '../support/cluster.ts';
import { CONCURRENT_DEFINITIONS, DEFINED, DEFINITIONS, ROLES } from '../support/definitions.ts';

const BDR = fileURLToPath(new URL('../../bin/bdr.js', import.meta.url));

const SCHEMA = `
  CREATE TYPE feeling AS ENUM ('sad', 'ok', 'happy');
  CREATE TABLE item (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    feelings feeling[],
    twice integer GENERATED ALWAYS AS (length(name) * 2) STORED,
    at timestamptz DEFAULT now()
  );
  CREATE UNIQUE INDEX item_name ON item (lower(name), twice) WHERE id > 2000;
  CREATE TABLE event (what text);
  INSERT INTO item (name, feelings) SELECT 'name ' || g, ARRAY['ok', 'happy']::feeling[] FROM generate_series(1, 100) AS g;
`;

/** What is larger than this is streamed. */
const SETTINGS = { logical_decoding_work_mem: '64kB' };
const OPTIONS = { settings: SETTINGS, replicatesDdl: true };

/** Commands in all the places where they are captured, and how they are told: by text, by name, by what they made; then of every kind. */
async function definitions(cluster: Cluster): Promise<void> {
  const [one, two] = [cluster.node(1), cluster.node(2)];
  await two.sql(`
    CREATE TABLE made (id integer PRIMARY KEY, v text DEFAULT 'x;'); INSERT INTO made VALUES (1);
    ALTER TABLE made ADD COLUMN made_at timestamptz NOT NULL DEFAULT now();
    DO $$ BEGIN EXECUTE 'CREATE TABLE "by ""do""" (id integer PRIMARY KEY)'; CREATE INDEX ON made (v); END $$;
    CREATE TABLE taken AS SELECT id, v FROM made; DROP TABLE IF EXISTS "by ""do""", not_there;
    CREATE UNLOGGED TABLE here (id integer); DROP TABLE here`);
  expect(await cluster.equal('made')).toHaveLength(1);
  expect(await cluster.equal('taken')).toEqual(['(1,x;)']);
  await expect(
    one.sql('ALTER TABLE made ADD COLUMN u double precision DEFAULT random()'),
  ).rejects.toMatchObject({ code: '0A000' });
  for (const node of [one, two]) await node.sql(ROLES);
  for (const [, commands] of DEFINITIONS) await one.sql(commands);
  for (const command of CONCURRENT_DEFINITIONS) await one.sql(command);
  await cluster.settled();
  const defined = await one.sql(DEFINED);
  expect(defined.length).toBeGreaterThan(100);
  expect(await two.sql(DEFINED)).toEqual(defined);
}

/** What every major must do: both directions, definitions, a conflict with its history, a killed agent, a node that leaves. */
async function tour(cluster: Cluster): Promise<void> {
  const [one, two] = [cluster.node(1), cluster.node(2)];
  await one.sql(
    `INSERT INTO item (id, name) OVERRIDING SYSTEM VALUE VALUES (1001, 'from one'); INSERT INTO event VALUES ('one')`,
  );
  await two.sql(
    `UPDATE item SET name = 'changed on two' WHERE id = 1; DELETE FROM item WHERE id = 2; INSERT INTO event VALUES ('two')`,
  );
  expect(await cluster.equal('item')).toHaveLength(100);
  expect(await cluster.equal('event')).toEqual(['(one)', '(two)']);
  await definitions(cluster);

  // Streamed before its end. What node2 applies of it, it must not send back: before 16 the agents have to see to that.
  await one.sql(`
    BEGIN; INSERT INTO event SELECT 'large ' || g FROM generate_series(1, 3000) AS g;
    SAVEPOINT s; INSERT INTO event SELECT 'rolled back ' || g FROM generate_series(1, 3000) AS g; ROLLBACK TO s;
    INSERT INTO event SELECT 'end ' || g FROM generate_series(1, 1000) AS g; COMMIT`);
  expect(await cluster.equal('event')).toHaveLength(4002);
  await until('the statistics to show that it was streamed', async () => {
    const [slots] = await one.sql(
      `SELECT sum(stream_txns) > 0 FROM pg_stat_replication_slots WHERE slot_name NOT LIKE '%own%'`,
    );
    return slots?.[0] === true;
  });

  for (const node of [one, two]) await node.sql('SELECT bdr.bdr_apply_pause()');
  const named = `INSERT INTO item (id, name) OVERRIDING SYSTEM VALUE VALUES`;
  await one.sql(`UPDATE item SET name = 'earlier' WHERE id = 3; ${named} (2001, 'Same')`);
  await two.sql(`UPDATE item SET name = 'later' WHERE id = 3; ${named} (2002, 'same')`);
  for (const node of [one, two]) await node.sql('SELECT bdr.bdr_apply_resume()');
  const rows = await cluster.equal('item');
  expect(rows.filter((row) => row.startsWith('(3,'))[0]).toContain('later');
  expect(rows.filter((row) => /same/i.test(row)).map((row) => row.slice(0, 6))).toEqual(['(2002,']);
  const history = await two.sql(`
    SELECT conflict_type::text, conflict_resolution::text, local_tuple ->> 'name', remote_tuple ->> 'name'
    FROM bdr.bdr_conflict_history WHERE object_name = 'item'`);
  expect(history).toContainEqual([
    'update_update',
    'last_update_wins_keep_local',
    'later',
    'earlier',
  ]);
  const command = [
    BDR,
    'conflicts',
    '--dsn',
    two.dsn,
    '--table',
    'public.item',
    '--since',
    '1 hour',
    '--json',
  ];
  const shown = execFileSync(process.execPath, command);
  expect(JSON.parse(shown.toString())).toContainEqual(
    expect.objectContaining({ key: { id: 3 }, action: 'skip', certainlyConcurrent: true }),
  );
  await two.sql(`ALTER DATABASE ${two.database} SET bdr.conflict_history_retention = '1 ms'`);
  await until('the history to be forgotten', async () => {
    const [count] = await two.sql('SELECT count(*)::integer FROM bdr.bdr_conflict_history');
    return count?.[0] === 0;
  });

  await two.host.killAgent();
  await one.sql(`UPDATE item SET name = 'while the agent was dead' WHERE id BETWEEN 10 AND 20`);
  two.host.startAgent();
  expect((await cluster.equal('item')).filter((row) => row.includes('dead'))).toHaveLength(11);

  await one.sql(`SELECT bdr.bdr_part_by_node_names('{node2}')`);
  await two.sql('SELECT bdr.remove_bdr_from_local_node(true); DROP EXTENSION bdr');
}

describe('every major', () => {
  for (const major of embeddedMajors()) {
    test(`PostgreSQL ${major} replicates with itself`, async () => {
      await using cluster = await Cluster.start(2, SCHEMA, { major, ...OPTIONS });
      await tour(cluster);
    });
  }

  test('the oldest and the newest form a group', async () => {
    const majors = embeddedMajors();
    await using cluster = new Cluster();
    for (const [index, major] of [Math.min(...majors), Math.max(...majors)].entries()) {
      const host = await Host.start({ major, ...OPTIONS });
      cluster.hosts.push(host);
      await cluster.addNode(`node${index + 1}`, host, 'app');
    }
    const [oldest, newest] = cluster.nodes as [TestNode, TestNode];
    await oldest.sql(SCHEMA);
    await oldest.create();
    await newest.join(oldest);
    await tour(cluster);
  });
});
