import { defineConfig } from 'vitest/config';

interface Group {
  readonly maxWorkers: number;
  readonly sequence: { readonly groupOrder: number };
}

/** Files that start no more than a server run two at a time, before the others. */
const SMALL: Group = { maxWorkers: 2, sequence: { groupOrder: 0 } };
/** One file at a time: each starts servers and agents enough for two cores, and deadlines would measure the neighbours. */
const LARGE: Group = { maxWorkers: 1, sequence: { groupOrder: 1 } };
/** What a user would run, whole: these wait for servers to start most of the time, and have long deadlines. */
const WHOLE: Group = { maxWorkers: 2, sequence: { groupOrder: 2 } };

// What a test needs is in its name: nobody starts a server by accident (docs/style.md).
const project = (name: string, include: string[], timeoutMs: number, group: Group) => ({
  test: {
    name,
    include,
    ...group,
    exclude:
      name === 'unit'
        ? ['**/*.pg.test.ts', '**/*.chaos.test.ts', 'node_modules/**', 'dist/**']
        : ['node_modules/**', 'dist/**'],
    testTimeout: timeoutMs,
    hookTimeout: timeoutMs,
  },
});

export default defineConfig({
  test: {
    reporters: ['./test/support/reporter.ts'],
    projects: [
      project('tidy', ['test/tidy.test.ts'], 120_000, SMALL),
      project(
        'unit',
        ['src/**/*.test.ts', 'bench/**/*.test.ts', 'test/chaos/*.test.ts'],
        30_000,
        SMALL,
      ),
      project('sim', ['test/sim/**/*.sim.test.ts'], 120_000, SMALL),
      // Longer than until() waits, which says for what.
      project('pg', ['src/**/*.pg.test.ts', 'bench/**/*.pg.test.ts'], 240_000, SMALL),
      project('cluster', ['test/cluster/**/*.cluster.test.ts'], 600_000, LARGE),
      project('chaos', ['test/chaos/*.chaos.test.ts'], 600_000, LARGE),
      project('matrix', ['test/matrix/**/*.matrix.test.ts'], 600_000, WHOLE),
      project('e2e', ['test/e2e/**/*.e2e.test.ts'], 600_000, WHOLE),
    ],
  },
});
