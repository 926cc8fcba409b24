import { expect, test } from 'vitest';
import { toResults, type Metric, type Sample } from './result.ts';

const time: Metric = { name: 'work', unit: 's', comparison: 'speed-up', goal: 2 };
const lag: Metric = { name: 'lag', unit: 'ms', comparison: 'multiple', goal: 1.5 };
const memory: Metric = { name: 'memory', unit: 'MB', comparison: 'limit', goal: 200 };

function sample(...values: number[]): Sample {
  return { values, rowsCompared: 1 };
}

test('a speed-up is the server’s time through ours, of the medians', () => {
  const ours = [sample(9), sample(2), sample(1)];
  const [result] = toResults('work', [time], { ours, server: [sample(4)] });
  expect(result).toMatchObject({ ratio: 2, met: true, ours: { median: 2, min: 1, max: 9 } });
  const [slow] = toResults('work', [time], { ours: [sample(4)], server: [sample(7)] });
  expect(slow).toMatchObject({ ratio: 1.75, met: false });
});

test('a multiple is ours through the server’s', () => {
  const server = [sample(2)];
  expect(toResults('lag', [lag], { ours: [sample(3)], server })[0]).toMatchObject({
    ratio: 1.5,
    met: true,
  });
  expect(toResults('lag', [lag], { ours: [sample(4)], server })[0]?.met).toBe(false);
});

test('a limit is held without the server', () => {
  const results = toResults('memory', [memory], { ours: [sample(199)], server: [] });
  expect(results[0]).toMatchObject({ server: undefined, ratio: undefined, met: true });
  const more = toResults('memory', [memory], { ours: [sample(201)], server: [] });
  expect(more[0]?.met).toBe(false);
});

test('several figures of a workload are told apart, and one that was not run is left out', () => {
  const samples = { ours: [sample(1, 10)], server: [sample(2, 20)] };
  const results = toResults('latency', [lag, { ...lag, name: 'p99' }], samples);
  expect(results.map(({ metric, ours }) => [metric.name, ours.median])).toEqual([
    ['lag', 1],
    ['p99', 10],
  ]);
  expect(toResults('memory', [memory], { ours: [], server: [] })).toEqual([]);
});

test('processor time is the median of the runs that know it', () => {
  const cpu = { walsender: 1, agent: undefined, apply: 4 };
  const ours = [sample(1), { ...sample(1), cpu }, { ...sample(1), cpu: { ...cpu, walsender: 3 } }];
  const [result] = toResults('work', [time], { ours, server: [sample(1)] });
  expect(result?.cpu.ours).toEqual({ walsender: 2, agent: undefined, apply: 4 });
  expect(result?.cpu.server).toEqual({ walsender: undefined, agent: undefined, apply: undefined });
  expect(result?.rowsCompared).toBe(4);
});
