import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, concurrently, until, type TestNode } from '../support/cluster.ts';

const SCHEMA = `
  CREATE TYPE "Odd Mood" AS ENUM ('sad', 'it''s "ok"');
  CREATE DOMAIN short AS varchar(5);
  CREATE TYPE pair AS (a integer, b "Odd Mood");
  CREATE TABLE account (id integer PRIMARY KEY, balance integer NOT NULL, filler text);
  CREATE TABLE journal (account integer, delta integer, note text);
  CREATE TABLE queue (id bigint PRIMARY KEY, payload text);
  CREATE TABLE "Odd, ""table""" (
      "Ключ 1" text COLLATE "C", "key,2" "Odd Mood", "v\\w" text, tags text[], p pair, pairs pair[], b bytea, at timestamptz,
      PRIMARY KEY ("Ключ 1", "key,2")
  );
  CREATE TABLE computed (
      id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n integer, double integer GENERATED ALWAYS AS (n * 2) STORED, s short
  );
  CREATE TABLE big (id integer PRIMARY KEY, big text, v integer);
  CREATE TABLE mail (id integer PRIMARY KEY, address text UNIQUE);
  CREATE TABLE named (id integer PRIMARY KEY, class regclass, v integer);
  CREATE TABLE whole (id integer PRIMARY KEY, v text);
  CREATE TABLE audited (id integer PRIMARY KEY, v integer);
  CREATE TABLE audit (n bigint GENERATED ALWAYS AS IDENTITY, id integer, v integer);
  CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
  BEGIN INSERT INTO audit (id, v) VALUES (NEW.id, NEW.v); RETURN NULL; END $$;
  CREATE TRIGGER note AFTER INSERT OR UPDATE ON audited FOR EACH ROW EXECUTE FUNCTION note();
  ALTER TABLE big ALTER big SET STORAGE EXTERNAL;
  ALTER TABLE whole REPLICA IDENTITY FULL;
  INSERT INTO account SELECT g, 0, 'start' FROM generate_series(1, 50) AS g;
  INSERT INTO big SELECT g, repeat('big', 3000), 0 FROM generate_series(1, 10) AS g;
  INSERT INTO mail SELECT g, 'm' || g FROM generate_series(1, 10) AS g;
`;

/** Each statement is a transaction of its own, as a user's session would send them. */
async function each(node: TestNode, statements: readonly string[]): Promise<void> {
  await using client = await node.connect();
  for (const statement of statements) await client.sql(statement);
}

/** How many transaction ids a node has used so far. */
async function xids(node: TestNode): Promise<number> {
  const [row] = await node.sql('SELECT pg_current_xact_id()::text');
  return Number(row?.[0]);
}

describe('what is behind is applied in groups', () => {
  let cluster: Cluster;
  let one: TestNode;
  let two: TestNode;

  beforeAll(async () => {
    cluster = await Cluster.start(2, SCHEMA);
    [one, two] = [cluster.node(1), cluster.node(2)];
    await cluster.settled();
  });
  afterAll(() => cluster[Symbol.asyncDispose]());

  test('many transactions take few commits, and end as they were made', async () => {
    await two.sql('SELECT bdr.bdr_apply_pause()');
    await each(
      one,
      Array.from(
        { length: 1500 },
        (_, i) =>
          `BEGIN; UPDATE account SET balance = balance + ${i}, filler = E'tab\\t\\\\ ${i}' WHERE id = ${(i % 50) + 1};
           INSERT INTO journal VALUES (${(i % 50) + 1}, ${i}, ${i % 3 === 0 ? 'NULL' : `E'line\\n${i}'`}); COMMIT`,
      ),
    );
    // What the node itself had under way is not asked for before it is needed.
    const before = await xids(two);
    await two.sql('SELECT bdr.bdr_apply_resume()');
    expect(await cluster.equal('account')).toHaveLength(50);
    expect(await cluster.equal('journal')).toHaveLength(1500);
    expect((await xids(two)) - before).toBeLessThan(750);
  });

  test('what arrives as it is made, too', async () => {
    const before = await xids(two);
    await using holder = await two.connect();
    await holder.sql('BEGIN; LOCK TABLE bdr.bdr_local_node IN EXCLUSIVE MODE');
    await each(
      one,
      Array.from({ length: 300 }, (_, i) => `INSERT INTO journal VALUES (1, ${i}, 'live')`),
    );
    await holder.sql('COMMIT');
    await cluster.equal('journal');
    expect((await xids(two)) - before).toBeLessThan(150);
  });

  test('rows that come, go and come again within a group', async () => {
    await concurrently(cluster.nodes, async () => {
      await each(
        one,
        Array.from({ length: 300 }, (_, i) => [
          `INSERT INTO queue VALUES (${i}, 'new')`,
          `UPDATE queue SET payload = 'taken' WHERE id = ${i}`,
          ...(i % 3 === 0 ? [] : [`DELETE FROM queue WHERE id = ${i}`]),
          ...(i % 5 === 0
            ? [`DELETE FROM queue WHERE id = ${i}`, `INSERT INTO queue VALUES (${i}, 'again')`]
            : []),
        ]).flat(),
      );
    });
    const rows = await cluster.equal('queue');
    expect(rows.filter((row) => row.includes('again'))).toHaveLength(60);
    expect(rows.filter((row) => row.includes('taken'))).toHaveLength(80);
    // Nobody else has written them.
    for (const node of cluster.nodes) {
      expect(
        await node.sql(
          `SELECT conflict_type FROM bdr.bdr_conflict_history WHERE object_name = 'queue'`,
        ),
      ).toEqual([]);
    }
  });

  test('odd names, keys of several columns, types of users, nulls and special characters', async () => {
    await concurrently(cluster.nodes, async () => {
      await one.sql(`
        INSERT INTO "Odd, ""table"""
        SELECT 'k' || g, CASE WHEN g % 2 = 0 THEN 'sad' ELSE 'it''s "ok"' END::"Odd Mood", E'\\\\N\\t' || g, ARRAY['a,b', NULL, '"' || g],
               ROW(g, 'sad')::pair, ARRAY[ROW(g, NULL)::pair, NULL], decode('00ff5c', 'hex'), '2026-01-01 00:00:00.000001+00'
        FROM generate_series(1, 200) AS g;
        INSERT INTO "Odd, ""table""" ("Ключ 1", "key,2") SELECT 'n' || g, 'sad' FROM generate_series(1, 60) AS g
      `);
      await one.sql(
        `UPDATE "Odd, ""table""" SET "v\\w" = E'\\\\.\\n' || "Ключ 1", p.b = 'it''s "ok"' WHERE "key,2" = 'sad'`,
      );
      await one.sql(`DELETE FROM "Odd, ""table""" WHERE "Ключ 1" LIKE 'k1%'`);
      await one.sql(
        `INSERT INTO computed (n, s) SELECT g, 'abc' FROM generate_series(1, 100) AS g`,
      );
      await one.sql(
        `UPDATE computed SET n = n + 1 WHERE id % 2 = 0; UPDATE computed SET s = 'abcde' WHERE id < 90`,
      );
      await one.sql(
        `INSERT INTO named SELECT g, 'account'::regclass, 0 FROM generate_series(1, 60) AS g`,
      );
      await one.sql(`UPDATE named SET v = 1`);
      await one.sql(`INSERT INTO whole SELECT g, 'a' FROM generate_series(1, 60) AS g`);
      await one.sql(`UPDATE whole SET v = 'b'; DELETE FROM whole WHERE id > 30`);
    });
    expect(await cluster.equal('"Odd, ""table"""')).toHaveLength(149);
    expect(await cluster.equal('computed')).toHaveLength(100);
    expect(await cluster.equal('whole')).toHaveLength(30);
    expect(await cluster.equal('named')).toHaveLength(60);
  });

  test('values that updates leave out, other keys for rows, and TRUNCATE, in the middle of a group', async () => {
    await concurrently(cluster.nodes, async () => {
      await each(
        one,
        Array.from({ length: 100 }, (_, i) => {
          const id = (i % 10) + 1;
          if (i === 50) return `TRUNCATE journal`;
          if (i % 9 === 0)
            return `UPDATE big SET big = repeat('${i}', 5000), v = ${i} WHERE id = ${id}`;
          if (i % 7 === 0) return `UPDATE account SET id = id + 1000 WHERE id = ${id + 20}`;
          if (i > 50 && i % 5 === 0) return `INSERT INTO journal VALUES (${i}, ${i})`;
          return `UPDATE big SET v = ${i} WHERE id = ${id}`;
        }),
      );
    });
    expect(await cluster.equal('big')).toHaveLength(10);
    expect(await cluster.equal('account')).toHaveLength(50);
    expect(await cluster.equal('journal')).not.toHaveLength(0);
  });

  test('a set that fails is done row by row: values of a unique index that change places', async () => {
    await concurrently(cluster.nodes, async () => {
      await each(one, [
        `BEGIN; UPDATE mail SET address = 'spare' WHERE id = 1; UPDATE mail SET address = 'm1' WHERE id = 2;
         UPDATE mail SET address = 'm2' WHERE id = 1;
         INSERT INTO mail SELECT g, 'm' || g FROM generate_series(11, 60) AS g; COMMIT`,
        ...Array.from(
          { length: 30 },
          (_, i) => `UPDATE account SET balance = ${i} WHERE id = ${(i % 10) + 1}`,
        ),
      ]);
    });
    expect(await cluster.equal('mail')).toContain('(2,m1)');
    await cluster.equal('account');
  });

  test('triggers that fire on apply see the rows one by one, in order', async () => {
    await two.sql('ALTER TABLE audited ENABLE ALWAYS TRIGGER note');
    await concurrently(cluster.nodes, async () => {
      await one.sql(`INSERT INTO audited SELECT g, 0 FROM generate_series(1, 40) AS g`);
      await each(
        one,
        Array.from(
          { length: 40 },
          (_, i) => `UPDATE audited SET v = ${i} WHERE id = ${(i % 4) + 1}`,
        ),
      );
    });
    await cluster.equal('audited');
    const order = (node: TestNode) => node.sql(`SELECT id, v FROM audit ORDER BY n`);
    const there = await order(one);
    expect(there).toHaveLength(80);
    // The audit's rows of node 1 arrive as rows too: once by the trigger here, once from there.
    const here = await order(two);
    for (const id of [1, 2, 3, 4]) {
      const seen = here.filter(([row]) => row === id).map(([, v]) => v);
      expect(seen).toHaveLength(2 * there.filter(([row]) => row === id).length);
    }
  });

  test('writes of both nodes to the same rows while neither hears the other', async () => {
    await concurrently(cluster.nodes, async () => {
      for (let round = 0; round < 3; round++) {
        for (const node of cluster.nodes) {
          await each(
            node,
            Array.from({ length: 80 }, (_, i) => {
              const id = ((i * 7) % 40) + 100;
              if (i % 4 === 0) return `DELETE FROM account WHERE id = ${id}`;
              return `INSERT INTO account VALUES (${id}, ${i}, '${node.name} ${round}')
                      ON CONFLICT (id) DO UPDATE SET balance = EXCLUDED.balance, filler = EXCLUDED.filler`;
            }),
          );
        }
      }
    });
    await cluster.equal('account');
  });

  test('TRUNCATE behind many rows of its own transaction', async () => {
    await one.sql(`
      BEGIN;
      INSERT INTO journal SELECT g, g, 'gone' FROM generate_series(1, 12000) AS g;
      TRUNCATE journal;
      INSERT INTO journal VALUES (1, 1, 'stays');
      COMMIT`);
    expect(await cluster.equal('journal')).toEqual(['(1,1,stays)']);
  });

  test('a table that is met for the first time behind rows that are in the way', async () => {
    for (const node of cluster.nodes) {
      await node.sql(
        'CREATE TABLE first (id integer PRIMARY KEY, v text); CREATE TABLE second (id integer)',
      );
    }
    await cluster.settled();
    const rollbacks = async () =>
      Number((await two.sql('SELECT nr_rollback FROM bdr.bdr_links'))[0]?.[0]);
    const before = await rollbacks();
    await concurrently(cluster.nodes, async () => {
      await two.sql(`INSERT INTO first VALUES (2400, 'two')`);
      await one.sql(`
        BEGIN;
        INSERT INTO first SELECT g, 'one' FROM generate_series(1, 3000) AS g;
        INSERT INTO second SELECT generate_series(1, 100);
        COMMIT`);
    });
    expect(await cluster.equal('first')).toHaveLength(3000);
    expect(await cluster.equal('second')).toHaveLength(100);
    const end = await one.logEnd();
    await until('the counts of all that', async () => {
      const [row] = await two.sql(`SELECT applied_lsn >= '${end}' FROM bdr.bdr_links`);
      return row?.[0] === true;
    });
    expect(await rollbacks()).toBe(before);
  });

  test('a lock that is in the way of a part of a large transaction makes nothing of it happen twice', async () => {
    const rollbacks = async () =>
      Number((await two.sql('SELECT nr_rollback FROM bdr.bdr_links'))[0]?.[0]);
    const before = await rollbacks();
    await using user = await two.connect();
    await user.sql('BEGIN');
    await user.sql('SELECT FROM account WHERE id = 1 FOR UPDATE');
    await one.sql(`
      BEGIN;
      TRUNCATE journal;
      COMMIT;
      BEGIN;
      UPDATE account SET balance = -1 WHERE id = 1;
      INSERT INTO journal SELECT g, g, 'once' FROM generate_series(1, 25000) AS g;
      COMMIT`);
    await until('apply to give way to the user', async () => (await rollbacks()) > before);
    await user.sql('ROLLBACK');
    expect(await cluster.equal('journal')).toHaveLength(25_000);
    await cluster.equal('account');
  });

  test('an identity that is always generated, and is not the key, gets the value of the row that stays', async () => {
    for (const node of cluster.nodes) {
      await node.sql(
        'CREATE TABLE numbered (id integer PRIMARY KEY, n integer GENERATED ALWAYS AS IDENTITY, v text)',
      );
    }
    await two.sql('ALTER TABLE numbered ALTER n RESTART WITH 1000');
    await one.sql(`INSERT INTO numbered (id, v) SELECT g, 'a' FROM generate_series(1, 60) AS g`);
    await cluster.equal('numbered');
    await one.sql(`
      BEGIN;
      DELETE FROM numbered WHERE id <= 50;
      INSERT INTO numbered (id, v) SELECT g, 'b' FROM generate_series(1, 50) AS g;
      COMMIT`);
    await one.sql(`UPDATE numbered SET n = DEFAULT WHERE id = 60`);
    await concurrently(cluster.nodes, async () => {
      await one.sql(`INSERT INTO numbered (id, v) VALUES (100, 'one')`);
      await two.sql(`INSERT INTO numbered (id, v) VALUES (100, 'two')`);
    });
    const rows = await cluster.equal('numbered');
    expect(rows).toContain('(100,1000,two)');
    expect(rows).toContain('(60,111,a)');
  });

  test('a large transaction with savepoints that are rolled back, and its rows changed again', async () => {
    await one.sql(`
      DO $$
      BEGIN
        INSERT INTO queue SELECT g, 'large ' || g FROM generate_series(10001, 40000) AS g;
        BEGIN
          UPDATE queue SET payload = 'undone' WHERE id > 10000;
          RAISE EXCEPTION 'back';
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
        UPDATE queue SET payload = payload || '!' WHERE id % 2 = 0 AND id > 10000;
        DELETE FROM queue WHERE id % 5 = 0 AND id > 10000;
      END $$
    `);
    await cluster.settled();
    const summary = (node: TestNode) =>
      node.sql(`SELECT count(*)::int, md5(string_agg(queue::text, ',' ORDER BY id)) FROM queue`);
    expect(await summary(two)).toEqual(await summary(one));
    expect((await summary(two))[0]?.[0]).toBeGreaterThan(24_000);
  });
});
