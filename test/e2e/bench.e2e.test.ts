import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { isAlive } from '../../src/embedded/processes.ts';
import { until } from '../../src/demo/until.ts';
import { RunningScript, serverPids, temporaryDir } from '../support/running-script.ts';

// Whether the bench works, not what it measures.

interface Report {
  readonly postgres: string;
  readonly results: readonly {
    readonly metric: string;
    readonly ours: { readonly median: number; readonly samples: readonly number[] };
    readonly server: { readonly median: number } | null;
    readonly ratio: number | null;
    readonly rowsCompared: number;
  }[];
}

test('a small bench: equal rows, one JSON object, and nothing is left', async () => {
  const tmp = temporaryDir();
  const bench = new RunningScript(
    'bench',
    ['--scale', '0.001', '--runs', '1', '--only', 'small-tx,bulk-delete,latency', '--json'],
    tmp,
  );
  expect(await bench.exit(), bench.errors).toBe(0);
  const report = JSON.parse(bench.output) as Report;
  expect(report.postgres).toMatch(/^18\./);
  expect(report.results.map(({ metric }) => metric)).toEqual([
    'small-tx',
    'bulk-delete',
    'latency p50',
    'latency p99',
  ]);
  for (const { ours, server, ratio, rowsCompared } of report.results) {
    expect(ours.samples).toHaveLength(1);
    expect(ours.median).toBeGreaterThan(0);
    expect(server?.median).toBeGreaterThan(0);
    expect(ratio).toBeGreaterThan(0);
    expect(rowsCompared).toBeGreaterThan(0);
  }
  expect(readdirSync(tmp)).toEqual([]);
});

test('Ctrl-C ends servers and agents and removes their files', async () => {
  const tmp = temporaryDir();
  const bench = new RunningScript('bench', ['--scale', '0.001', '--only', 'latency'], tmp);
  await until('the systems are set up', async () => bench.errors.includes('set up server'), {
    deadlineMs: 120_000,
    found: () => bench.errors,
  });
  const servers = serverPids(tmp);
  expect(servers).toHaveLength(2);
  bench.interrupt();
  expect(await bench.exit(), bench.errors).toBe(130);
  expect(servers.filter(isAlive)).toEqual([]);
  expect(readdirSync(tmp)).toEqual([]);
});
