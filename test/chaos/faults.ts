import { messageOf } from '../../src/base/errors.ts';
import { pause } from '../../src/base/wait.ts';
import { until } from '../../src/demo/until.ts';
import { childrenOf, signalProcess } from '../../src/embedded/processes.ts';
import type { Random } from '../support/sim/random.ts';
import type { ChaosNode } from './chaos-node.ts';

/** Something that goes wrong at one node. `strike` returns what ends it. */
export interface Fault {
  readonly name: string;
  strike(node: ChaosNode, random: Random): Promise<() => Promise<void>>;
}

const LEAST_LULL_MS = 200;
const MOST_LULL_MS = 1500;

export const FAULTS: readonly Fault[] = [
  {
    name: 'agent killed',
    async strike(node) {
      await node.killAgent();
      return async () => node.startAgent();
    },
  },
  {
    name: 'agent stopped',
    async strike(node) {
      const pid = node.agentPid;
      if (pid !== undefined) signalProcess(pid, 'SIGSTOP');
      return async () => {
        if (pid !== undefined) signalProcess(pid, 'SIGCONT');
      };
    },
  },
  {
    name: 'server killed',
    async strike(node) {
      await node.server.crash();
      return () => node.server.start();
    },
  },
  {
    // Nobody's commit waits for the disk meanwhile, so that the server loses what was applied last and is not on disk yet.
    name: 'server killed in a lull',
    async strike(node, random) {
      node.isQuiet = true;
      await pause(LEAST_LULL_MS + random.below(MOST_LULL_MS - LEAST_LULL_MS));
      await node.server.crash();
      node.isQuiet = false;
      return () => node.server.start();
    },
  },
  {
    name: 'agent and server killed',
    async strike(node, random) {
      const isAgentFirst = random.chance(0.5);
      await Promise.all([node.killAgent(), node.server.crash()]);
      return async () => {
        if (isAgentFirst) node.startAgent();
        await node.server.start();
        node.startAgent();
      };
    },
  },
  {
    // The postmaster then ends all others and begins anew; what was in shared memory is lost.
    name: 'backend killed',
    async strike(node, random) {
      const { pid } = node.server;
      const backends = pid === undefined ? [] : childrenOf(pid);
      if (backends.length > 0) signalProcess(random.pick(backends), 'SIGKILL');
      return () => insist(node, 'SELECT 1');
    },
  },
  {
    // Wherever it stands, at its COMMIT too: then what it has committed is committed, and what it has not is done again.
    name: 'sessions of the agent ended',
    async strike(node, random) {
      const end = random.chance(0.5) ? 'pg_terminate_backend' : 'pg_cancel_backend';
      const everyMs = 5 + random.below(200);
      await insist(node, 'SELECT 1');
      const session = await node.connect();
      let isOver = false;
      const ending = (async () => {
        while (!isOver) {
          await session.query(/* sql */ `
            SELECT ${end}(pid) FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND application_name ~ '^bdr:|:(apply|read|link|send)$'
              AND (application_name ~ ':(apply|own:write)$' OR random() < 0.05)`);
          await pause(everyMs);
        }
      })();
      return async () => {
        isOver = true;
        await ending;
        await session.close();
      };
    },
  },
  {
    name: 'server shut down',
    async strike(node) {
      await node.server.stop();
      return () => node.server.start();
    },
  },
  {
    name: 'link cut',
    async strike({ proxy }) {
      proxy.cut();
      return async () => proxy.heal();
    },
  },
  {
    name: 'link broken in a frame',
    async strike({ proxy }, random) {
      proxy.cutAfter(1 + random.below(20_000));
      return async () => proxy.heal();
    },
  },
  {
    name: 'link slow',
    async strike({ proxy }, random) {
      proxy.slow(20 + random.below(300));
      return async () => proxy.heal();
    },
  },
  {
    name: 'link silent',
    async strike({ proxy }) {
      proxy.silence();
      return async () => proxy.heal();
    },
  },
  {
    name: 'apply paused',
    async strike(node) {
      await insist(node, 'SELECT bdr.bdr_apply_pause()');
      return () => insist(node, 'SELECT bdr.bdr_apply_resume()');
    },
  },
];

/** Runs a statement again until it succeeds: the server may still be recovering from what was before. */
async function insist(node: ChaosNode, sql: string): Promise<void> {
  let failure: unknown;
  await until(
    `${node.name} runs "${sql}"`,
    async () => {
      try {
        await node.query(sql);
        return true;
      } catch (error) {
        failure = error;
        return false;
      }
    },
    { deadlineMs: 60_000, everyMs: 100, found: () => messageOf(failure) },
  );
}
