import { until } from '../../src/demo/until.ts';
import type { BenchDatabase } from '../database.ts';
import { awaitMarker, writeMarker } from '../marker.ts';
import type { System } from '../systems/system.ts';
import type { Measured } from './workload.ts';

const POLL_MS = 5;

/**
 * How long B takes to get what was written on A while it was held: from the moment at which the walsender's connection was
 * accepted until the transaction behind the work is seen on B, both by the servers' clocks.
 */
export async function catchUp(
  system: System,
  work: (a: BenchDatabase) => Promise<void>,
): Promise<Measured> {
  await system.hold();
  await work(system.a);
  const marker = await writeMarker(system.a);
  await system.release();
  const stream = await until(
    `${system.name} streams again`,
    async () => {
      system.check();
      return system.stream();
    },
    { everyMs: POLL_MS },
  );
  const endedAtMs = await awaitMarker(system.b, marker, system);
  const cpu = await system.cpuSeconds(stream);
  return { values: [(endedAtMs - stream.startedAtMs) / 1000], cpu };
}
