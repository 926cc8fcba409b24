import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, concurrently, until, type TestClient } from '../support/cluster.ts';
import {
  RANDOM_TYPES,
  randomTable,
  randomWrite,
  type RandomTable,
} from '../support/random-tables.ts';
import { Random } from '../support/sim/random.ts';

// Tables of kinds that nobody would think of together, and whatever users might write to them. More seeds find more: put them here.
const SEEDS = [1, 2, 3, 4, 5, 6, 25];
const PHASES = 3;
/** What users' own statements may be refused for. */
const REFUSED = /duplicate key|pending trigger events|null value in column/;

describe('tables of any kind, written on two nodes at once', () => {
  let cluster: Cluster;

  beforeAll(async () => {
    cluster = await Cluster.start(2, RANDOM_TYPES, {
      replicatesDdl: true,
      // What is not small is streamed.
      settings: { logical_decoding_work_mem: '64kB' },
    });
    // So that OIDs of tables are others on each node.
    await cluster.node(2).sql('CREATE TEMPORARY TABLE t (); DROP TABLE t');
  });
  afterAll(() => cluster[Symbol.asyncDispose]());

  test.each(SEEDS)('are equal in the end, seed %i', async (seed) => {
    const random = new Random(seed);
    const tables = Array.from({ length: 5 }, (_, at) => randomTable(random, `t ${seed} ${at}`));
    for (const { ddl, name, policy } of tables) {
      await cluster.node(1 + random.below(2)).sql(ddl);
      if (!policy) continue;
      for (const node of cluster.nodes) await node.applied();
      await cluster.node(1).sql('SELECT bdr.bdr_set_conflict_policy($1, $2)', [name, policy]);
    }
    await cluster.settled();
    const clients = await Promise.all(cluster.nodes.map((node) => node.connect()));
    try {
      for (let phase = 0; phase < PHASES; phase++) {
        const write = async () => {
          const users = clients.map((client, at) =>
            work(new Random(random.below(1e9)), client, tables, at + 1),
          );
          await Promise.all(users);
        };
        await (phase === 1 ? write() : concurrently(cluster.nodes, write));
      }
    } finally {
      for (const client of clients) await client[Symbol.asyncDispose]();
    }
    await settledWithPolicies(cluster);
    for (const { name, ddl } of tables) await explained(ddl, () => cluster.same(name));
  });
});

/** Returns when nothing is left to hold against a policy, either: what one has preferred is written, and has met what stands elsewhere. */
async function settledWithPolicies(cluster: Cluster): Promise<void> {
  const isLeft = async () => {
    const counts = await Promise.all(
      cluster.nodes.map((node) => node.sql('SELECT EXISTS (SELECT FROM bdr.lost_write)')),
    );
    return counts.some(([row]) => row?.[0] === true);
  };
  do {
    await cluster.settled();
    await until('policies to be carried out', async () => !(await isLeft()));
    await cluster.settled();
  } while (await isLeft());
}

/** Transactions of a user: small ones, and some that are large enough for sets, or to be streamed. */
async function work(
  random: Random,
  client: TestClient,
  tables: readonly RandomTable[],
  user: number,
): Promise<void> {
  for (let count = 5 + random.below(15); count > 0; count--) {
    await client.sql('BEGIN');
    const writes = random.chance(0.3) ? 15 + random.below(30) : 1 + random.below(4);
    for (let at = 0; at < writes; at++) {
      await client.sql('SAVEPOINT s');
      const isUndone = random.chance(0.05);
      const failure = await client.sql(randomWrite(random, random.pick(tables), user)).then(
        () => undefined,
        (error: unknown) => String(error),
      );
      if (failure !== undefined) expect(failure).toMatch(REFUSED);
      await client.sql(
        `${failure !== undefined || isUndone ? 'ROLLBACK TO' : 'RELEASE'} SAVEPOINT s`,
      );
    }
    // A deferred constraint has the last word.
    await client.sql(random.chance(0.05) ? 'ROLLBACK' : 'COMMIT').catch((error: unknown) => {
      expect(String(error)).toMatch(REFUSED);
    });
  }
}

/** A failure says which table it was. */
async function explained(ddl: string, compare: () => Promise<unknown>): Promise<void> {
  await compare().catch((error: unknown) => {
    throw new Error(`${String(error)}\n${ddl}`, { cause: error });
  });
}
