import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import knex, { type Knex } from 'knex';
import { runner } from 'node-pg-migrate';
import { DataSource } from 'typeorm';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Cluster, type TestNode } from '../support/cluster.ts';
import { FORUM } from '../support/migrations/forum-by-typeorm.ts';
import { SHOP } from '../support/migrations/shop-by-knex.ts';
import { schemaText } from '../support/schema-text.ts';

// What applications' migration tools send, up and down, on the nodes in turn (docs/concepts/ddl.md).

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start(2, '', { replicatesDdl: true });
});
afterAll(() => cluster[Symbol.asyncDispose]());

/** One step of a tool on one node: the next migration, or the last one back. */
type Step = (node: TestNode, direction: 'up' | 'down', number: number) => Promise<void>;

const STEPS = 3;

/** Runs all migrations up, down and up again, each step on the other node; at each end definitions and rows are compared. */
async function runInTurns(
  bookkeeping: string,
  step: Step,
  directions: readonly ('up' | 'down')[] = ['up', 'down', 'up'],
): Promise<void> {
  const before = await sameEverywhere();
  const up = Array.from({ length: STEPS }, (_, i) => i + 1);
  let turn = 0;
  for (const direction of directions) {
    for (const number of direction === 'up' ? up : [...up].reverse()) {
      const node = cluster.node((turn++ % 2) + 1);
      await numberOn(node, bookkeeping);
      await step(node, direction, number);
      await cluster.settled();
    }
    const after = await sameEverywhere();
    if (direction === 'up') expect(after).not.toBe(before);
  }
}

/** What the tool has done is in a table with a serial key, and each node counts for itself. */
async function numberOn(node: TestNode, bookkeeping: string): Promise<void> {
  const [row] = await node.sql('SELECT to_regclass($1)', [bookkeeping]);
  if (row?.[0] === null) return;
  await node.sql(
    `SELECT setval(pg_get_serial_sequence($1, 'id'), coalesce(max(id), 0) + 1, false) FROM ${bookkeeping}`,
    [bookkeeping],
  );
}

async function sameEverywhere(): Promise<string> {
  await cluster.settled();
  const [first = '', second] = await Promise.all(cluster.nodes.map((node) => schemaText(node)));
  expect(second).toBe(first);
  const tables = await cluster
    .node(1)
    .sql('SELECT t::text FROM bdr.internal_replicated_tables() AS t');
  for (const [table] of tables) await cluster.same(String(table));
  return first;
}

const connectionOf = ({ host, database }: TestNode) => ({
  host: '127.0.0.1',
  port: host.server.port,
  user: 'postgres',
  database,
});

test('knex', async () => {
  const migrationSource: Knex.MigrationSource<string> = {
    getMigrations: () => Promise.resolve(Object.keys(SHOP)),
    getMigrationName: (name) => name,
    getMigration: (name) => Promise.resolve(SHOP[name] as Knex.Migration),
  };
  await runInTurns('knex_migrations', async (node, direction) => {
    const db = knex({ client: 'pg', connection: connectionOf(node) });
    try {
      await db.migrate[direction]({ migrationSource });
    } finally {
      await db.destroy();
    }
  });
});

test('node-pg-migrate', async () => {
  await runInTurns('pgmigrations', async (node, direction) => {
    await runner({
      databaseUrl: connectionOf(node),
      dir: fileURLToPath(new URL('../support/migrations/node-pg-migrate', import.meta.url)),
      migrationsTable: 'pgmigrations',
      direction,
      count: 1,
      log: () => undefined,
    });
  });
});

test('TypeORM', async () => {
  await runInTurns('migrations', async (node, direction, number) => {
    const source = new DataSource({
      type: 'postgres',
      ...connectionOf(node),
      username: 'postgres',
      migrations: FORUM.slice(0, number),
    });
    await source.initialize();
    try {
      if (direction === 'up') await source.runMigrations({ transaction: 'each' });
      else await source.undoLastMigration({ transaction: 'each' });
    } finally {
      await source.destroy();
    }
  });
});

/** What a tool has made, kept as it is: the tools themselves are large, and send these texts as they stand. */
const made = (tool: string, direction: 'up' | 'down', number: number) =>
  readFileSync(
    new URL(`../support/migrations/${tool}/${number}_${direction}.sql`, import.meta.url),
    'utf8',
  );

test('drizzle-kit', async () => {
  // As drizzle-orm's migrate() does: one transaction, statement by statement. The ways down are generated too, by the schema before.
  await runInTurns(
    'none',
    async (node, direction, number) => {
      await using client = await node.connect();
      await client.sql('BEGIN');
      const text = made('drizzle-kit', direction, number);
      for (const statement of text.split('--> statement-breakpoint')) await client.sql(statement);
      if (direction === 'up' && number === 2) {
        await client.sql(`INSERT INTO readers (name, email) VALUES ('Ada', 'a@example.org')`);
      }
      await client.sql('COMMIT');
    },
    ['up', 'down'],
  );
});

test('Prisma', async () => {
  // As `prisma migrate deploy` does: each file as one text.
  await runInTurns(
    'none',
    async (node, direction, number) => {
      // The column was dropped on the way up.
      if (direction === 'down' && number === 2) await node.sql(`UPDATE "Person" SET note = '{}'`);
      await node.sql(made('prisma', direction, number));
      if (direction === 'up' && number === 1) {
        await node.sql(`INSERT INTO "Person" (email, level) VALUES ('a@example.org', 'member')`);
      }
    },
    ['up', 'down'],
  );
});
