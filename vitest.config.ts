import { defineConfig } from 'vitest/config';

// What a test needs is in its name: nobody starts a server by accident (docs/style.md).
const project = (name: string, include: string[], timeoutMs: number) => ({
  test: {
    name,
    include,
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
    // One file at a time: each starts servers and agents enough for two cores, and deadlines would measure the neighbours.
    maxWorkers: 1,
    reporters: ['./test/support/reporter.ts'],
    projects: [
      project('tidy', ['test/tidy.test.ts'], 120_000),
      project('unit', ['src/**/*.test.ts', 'bench/**/*.test.ts', 'test/chaos/*.test.ts'], 30_000),
      project('sim', ['test/sim/**/*.sim.test.ts'], 120_000),
      project('pg', ['src/**/*.pg.test.ts', 'bench/**/*.pg.test.ts'], 120_000),
      project('cluster', ['test/cluster/**/*.cluster.test.ts'], 600_000),
      project('chaos', ['test/chaos/*.chaos.test.ts'], 600_000),
      project('matrix', ['test/matrix/**/*.matrix.test.ts'], 600_000),
      project('e2e', ['test/e2e/**/*.e2e.test.ts'], 600_000),
    ],
  },
});
