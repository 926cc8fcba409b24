import { pause } from '../../src/base/wait.ts';
import { seeMarker, writeMarker } from '../marker.ts';
import { percentile } from '../statistics.ts';
import type { System } from '../systems/system.ts';
import { sized, type Plan, type Workload } from './workload.ts';

const COMMITS = 2000;
const FEWEST = 20;
/** Between two commits, so that each is alone. */
const BETWEEN_MS = { least: 5, most: 15 };
/** Short against what is measured, long enough to leave the processors to those who replicate. */
const LOOK_EVERY_MS = 0.2;
const GIVE_UP_MS = 30_000;

/** How long a lone commit takes from its return on A until it is seen on B. */
export function latency(plan: Plan): Workload {
  const commits = Math.max(FEWEST, sized(COMMITS, plan));
  return {
    name: 'latency',
    metrics: [
      { name: 'latency p50', unit: 'ms', comparison: 'multiple', goal: 1.5 },
      { name: 'latency p99', unit: 'ms', comparison: 'multiple', goal: 2 },
    ],
    systems: ['ours', 'server'],
    tables: [],
    run: async ({ system }) => {
      const samples: number[] = [];
      const { least, most } = BETWEEN_MS;
      while (samples.length < commits) {
        // Spread over whatever the agents and servers do at regular intervals.
        await pause(least + ((samples.length * 7) % (most - least)));
        samples.push(await measureOne(system));
      }
      return { values: [percentile(samples, 50), percentile(samples, 99)] };
    },
  };
}

async function measureOne(system: System): Promise<number> {
  const marker = await writeMarker(system.a);
  const committedAt = performance.now();
  for (;;) {
    if ((await seeMarker(system.b, marker)) !== undefined) return performance.now() - committedAt;
    system.check();
    if (performance.now() > committedAt + GIVE_UP_MS) throw new Error('a commit does not arrive');
    sleepShortly();
  }
}

const never = new Int32Array(new SharedArrayBuffer(4));

/** Timers of Node.js wait for a millisecond at least. This blocks the process, which has nothing else to do. */
function sleepShortly(): void {
  Atomics.wait(never, 0, 0, LOOK_EVERY_MS);
}
