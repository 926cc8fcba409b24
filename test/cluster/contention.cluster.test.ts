import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, type TestNode } from '../support/cluster.ts';

const ROWS = 40;
/** A transaction is one statement, a few, or enough for sets. */
const SIZES = [1, 1, 1, 3, 3, 30];
const SEEDS = [11];
const TRANSACTIONS = 250;

/** The same numbers for the same seed (mulberry32). */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/** One change of the contended rows: all kinds, keys that change among them. */
function change(random: (below: number) => number, value: string): string {
  const id = random(ROWS);
  switch (random(8)) {
    case 0:
    case 1:
      return `DELETE FROM item WHERE id = ${id}`;
    case 2:
      return `UPDATE item SET id = ${ROWS + random(ROWS)} WHERE id = ${id} AND NOT EXISTS (SELECT FROM item WHERE id >= ${ROWS})`;
    case 3:
      return `UPDATE item SET v = '${value}' WHERE id = ${id}`;
    case 4:
      return `UPDATE item SET big = repeat('${value}', 400) WHERE id >= ${id} AND id < ${id + 3}`;
    case 5:
      return `INSERT INTO journal VALUES ('${value}', ${id})`;
    default:
      return `INSERT INTO item VALUES (${id}, '${value}', 'b')
              ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v`;
  }
}

async function write(node: TestNode, seed: number): Promise<void> {
  const random = randomOf(seed);
  await using client = await node.connect();
  for (let serial = 0; serial < TRANSACTIONS; serial++) {
    const size = SIZES[random(SIZES.length)] as number;
    const changes = Array.from({ length: size }, (_, i) =>
      change(random, `${node.name} ${seed} ${serial}.${i}`),
    );
    if (random(60) === 0) changes.push('TRUNCATE item');
    // Writers of one node may deadlock, or meet apply: what counts is only what is committed.
    await client.sql(`BEGIN; ${changes.join('; ')}; COMMIT`).catch(() => client.sql('ROLLBACK'));
  }
}

/** What nodes do to the same few rows at the same time, in every way, as fast as they can. */
describe('three nodes that change the same rows', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.start(
      3,
      `CREATE TABLE item (id integer PRIMARY KEY, v text, big text);
       ALTER TABLE item ALTER big SET STORAGE EXTERNAL;
       CREATE TABLE journal (v text, id integer);`,
    );
  });
  afterAll(() => cluster[Symbol.asyncDispose]());

  test.each(SEEDS)('end with the same rows, seed %i', async (seed) => {
    const [one, two, three] = cluster.nodes as [TestNode, TestNode, TestNode];
    const writers = cluster.nodes.flatMap((node, index) =>
      [0, 1].map((writer) => write(node, seed * 100 + index * 10 + writer)),
    );
    // Backlogs of one kind and the other, while all go on writing.
    await two.sql('SELECT bdr.bdr_apply_pause()');
    await writers[0];
    await two.sql('SELECT bdr.bdr_apply_resume()');
    await three.host.killAgent();
    three.host.startAgent();
    await Promise.all(writers);
    await cluster.equal('item');
    const journal = await cluster.equal('journal');
    expect(new Set(journal).size, 'an entry is there twice').toBe(journal.length);
    expect(journal.length).toBeGreaterThan(100);
    expect(await one.sql('SELECT DISTINCT status FROM bdr.bdr_links')).toEqual([['streaming']]);
  });
});
