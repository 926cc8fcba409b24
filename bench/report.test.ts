import { expect, test } from 'vitest';
import { reportJson, reportText, type Circumstances } from './report.ts';
import { toResults } from './result.ts';

const circumstances: Circumstances = {
  commit: 'abc1234',
  machine: '2 × Test',
  node: '20.0.0',
  postgres: '18.4',
  runs: 2,
  scale: 0.1,
  workerLog: false,
};

const results = [
  ...toResults('small-tx', [{ name: 'small-tx', unit: 's', comparison: 'speed-up', goal: 2 }], {
    ours: [
      { values: [2], rowsCompared: 5, cpu: { walsender: 0.5, agent: 1.25, apply: 1 } },
      { values: [2.5], rowsCompared: 5 },
    ],
    server: [
      { values: [5], rowsCompared: 5, cpu: { walsender: 0.5, agent: undefined, apply: 4.2 } },
      { values: [5.5], rowsCompared: 5 },
    ],
  }),
  ...toResults('memory', [{ name: 'memory', unit: 'MB', comparison: 'limit', goal: 200 }], {
    ours: [{ values: [324.18], rowsCompared: 5 }],
    server: [],
  }),
];

test('the table: a line a figure, a dash for what is not known', () => {
  const text = reportText(circumstances, results);
  expect(text).toMatchInlineSnapshot(`
    "PostgreSQL 18.4, Node.js 20.0.0, 2 × Test
    commit abc1234, 0.1 of the full size, median of 2 runs, the worker's log of conflicts is off

    workload  ours (min–max)      server's (min–max)  ratio  goal             CPU ours: walsender  agent   apply   CPU server's: walsender  apply
    small-tx  2.25 s (2.00–2.50)  5.25 s (5.00–5.50)  2.33   ≥ 2 met          0.50 s               1.25 s  1.00 s  0.50 s                   4.20 s
    memory    324 MB (324–324)    -                   -      ≤ 200 MB missed  -                    -       -       -                        -"
  `);
});

test('the JSON has the same figures, and each sample', () => {
  const report = JSON.parse(reportJson(circumstances, results)) as Record<string, unknown>;
  expect(report).toMatchObject({
    commit: 'abc1234',
    postgres: '18.4',
    scale: 0.1,
    results: [
      {
        workload: 'small-tx',
        metric: 'small-tx',
        unit: 's',
        ours: { median: 2.25, min: 2, max: 2.5, samples: [2, 2.5] },
        server: { median: 5.25 },
        goal: 2,
        met: true,
        cpuSeconds: {
          ours: { walsender: 0.5, agent: 1.25, apply: 1 },
          server: { walsender: 0.5, agent: null, apply: 4.2 },
        },
        rowsCompared: 20,
      },
      { metric: 'memory', server: null, ratio: null, met: false },
    ],
  });
});
