import { expect, test } from 'vitest';
import { Random } from '../support/sim/random.ts';
import { CONTENDED } from './tables.ts';
import { Workload, type Plan } from './workload.ts';

function plans(seed: number): Plan[] {
  const workload = new Workload(new Random(seed), 'node1.0', 100);
  return Array.from({ length: 500 }, () => workload.next());
}

test('the same seed draws the same transactions, another one others', () => {
  expect(plans(1)).toEqual(plans(1));
  expect(plans(1)).not.toEqual(plans(2));
});

test('each transaction leaves one entry in the journal, and values are written once', () => {
  const all = plans(3);
  const entries = all.map(({ statements }) => statements.filter(({ kind }) => kind === 'journal'));
  expect(entries.filter((found) => found.length !== 1)).toEqual([]);
  expect(new Set(all.map(({ entry }) => entry)).size).toBe(all.length);
  const tags = all.flatMap(({ statements }) =>
    statements.flatMap((statement) => {
      const params = statement.kind === 'write' ? statement.params : [];
      return params.filter((param) => param.startsWith('node1.0.'));
    }),
  );
  expect(new Set(tags).size).toBe(tags.length);
});

test('every table is written, by every kind of statement', () => {
  const statements = plans(4).flatMap((plan) => plan.statements);
  for (const { name } of CONTENDED) {
    for (const verb of ['INSERT INTO', 'DELETE FROM']) {
      expect(
        statements.some(
          (statement) =>
            statement.kind === 'write' && statement.sql.startsWith(`${verb} public.${name}`),
        ),
        `${verb} ${name}`,
      ).toBe(true);
    }
  }
  expect(new Set(statements.map(({ kind }) => kind))).toEqual(
    new Set(['write', 'truncate', 'journal', 'linger']),
  );
});
