import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { tryOrder } from '../support/sim/orders.ts';
import { MUTANTS, type MutantName } from '../support/sim/mutants.ts';
import { simulate } from '../support/sim/simulation.ts';
import { KNOWN_ORDERS, stagedOrder } from './known-orders.ts';
import { knownSeeds } from './known-seeds.ts';
import { mutantTable } from './mutant-table.ts';

const PAGE = readFileSync('docs/concepts/simulation.md', 'utf8');
const SEEDS = knownSeeds();
const known = MUTANTS.flatMap(({ name }) => {
  const seed = SEEDS[name];
  return seed ? [{ name, ...seed }] : [];
});

describe('a run notices', () => {
  // After a change of the model the seeds move: npm run sim -- --find-seeds 3000 > test/sim/known-seeds.json
  test.each(known)('$name', ({ name, check, ...run }) => {
    expect(simulate({ ...run, mutant: name }).failure?.check).toBe(check);
    expect(simulate(run).failure).toBeUndefined();
  });

  const orders = MUTANTS.flatMap(({ name }) => {
    const order = KNOWN_ORDERS[name];
    return order ? [{ name, check: order.check, ...stagedOrder(order) }] : [];
  });
  test.each(orders)('$name, in an order of turns', ({ name, check, scope, turns }) => {
    expect(tryOrder(scope, turns, name)).toBe(check);
    expect(tryOrder(scope, turns)).toBeUndefined();
  });

  const first: readonly (readonly [string, MutantName])[] = [
    ['two nodes with a local delete that is not read back yet', 'group without the own stream'],
    ['three nodes', 'group without a limit'],
    ['a heartbeat counted when received', 'heartbeat counted when received'],
    ['a commit held between its time and its record', 'group up to the last time seen'],
    ['the origin position after a rollback', 'origin position kept after rollback'],
  ];
  test.each(first)('what issue 3 asks for: %s', (_, name) => {
    expect(SEEDS[name]).toBeDefined();
  });
});

test('the page has the table as it is, and says why what is not noticed is not', () => {
  expect(PAGE).toContain(mutantTable());
  const unnoticed = MUTANTS.filter(({ name }) => SEEDS[name] === undefined && !KNOWN_ORDERS[name]);
  for (const { name } of unnoticed) expect(PAGE).toContain(`* **${name}**`);
});
