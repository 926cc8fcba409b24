import { setMaxListeners } from 'node:events';
import { backoffMs } from '../base/backoff.ts';
import { BdrError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { pause } from '../base/wait.ts';
import { makeFirstNode, setJoinError, setStatus, type LocalNode } from '../catalog/nodes.ts';
import { requireReplicationSettings } from '../membership/checks.ts';
import type { Endpoints } from '../membership/endpoints.ts';
import { Join } from '../membership/join.ts';
import { checkOwnDsns } from '../membership/join-checks.ts';
import type { Node } from '../model/node.ts';
import { markAgentSession } from '../postgres/advisory.ts';
import { readServerFacts } from '../postgres/server-facts.ts';
import { Session } from '../postgres/session.ts';
import { describeError } from './describe-error.ts';

const WAITING_MS = 1000;
const RETRY = { firstMs: 500, mostMs: 15_000 };

/** A node's way into its group, or the making of one: tried until it is done, on a session of its own. */
export class JoinService {
  readonly #endpoints: Endpoints;
  readonly #log: Logger;
  readonly #random: () => number;
  readonly #nudge: () => void;
  #running: Promise<void> | undefined;
  #failures = 0;
  #stop = new AbortController();

  /** `nudge` is called when the node has come a step further, or a try has ended. */
  constructor(endpoints: Endpoints, log: Logger, random: () => number, nudge: () => void) {
    this.#endpoints = endpoints;
    this.#log = log;
    this.#random = random;
    this.#nudge = nudge;
  }

  /** Starts the next try, unless one is running or resting, or none can help. */
  progress(me: Node, local: LocalNode, outer: AbortSignal): void {
    if (this.#running) return;
    if (local.joinError && !local.joinError.retry) return;
    this.#stop = new AbortController();
    const signal = AbortSignal.any([outer, this.#stop.signal]);
    // One for each session of the copy: Node would warn of more than ten.
    setMaxListeners(0, signal);
    this.#running = this.#run(me, local, signal)
      .catch((error: unknown) => {
        if (!signal.aborted)
          this.#log.error(describeError(error), 'join could not report its failure');
      })
      .finally(() => {
        this.#running = undefined;
        this.#nudge();
      });
  }

  abort(): void {
    this.#stop.abort();
  }

  /** Returns when nothing is running any more. */
  async stop(): Promise<void> {
    this.abort();
    await this.#running;
  }

  /** What follows belongs to another call of create or join. */
  forget(): void {
    this.#failures = 0;
  }

  async #run(me: Node, local: LocalNode, signal: AbortSignal): Promise<void> {
    const connect = () =>
      Session.connect(this.#endpoints.local, {
        applicationName: `${me.name}:join`,
        signal,
        settings: { synchronous_commit: 'local' },
      });
    try {
      await using own = await connect();
      own.abortOn(signal);
      await markAgentSession(own);
      if (me.initFromDsn === null) await this.#createGroup(own, me, signal);
      else {
        await new Join({
          session: own,
          node: me,
          local,
          endpoints: this.#endpoints,
          log: this.#log,
          signal,
          nudge: this.#nudge,
        }).run();
      }
      this.#failures = 0;
    } catch (error) {
      if (signal.aborted) return;
      // Its turn has not come: that is no failure.
      const waiting = error instanceof BdrError && error.code === 'join_in_progress';
      this.#failures = waiting ? 0 : this.#failures + 1;
      const described = describeError(error);
      const retry = !(error instanceof BdrError) || error.retry;
      this.#log.error({ ...described, retry, failures: this.#failures }, 'join failed');
      try {
        // The join's own session may be what failed; the look's is in use beside this.
        await using reporting = await connect();
        await setJoinError(reporting, me.id, local.call, {
          message: described.message,
          detail: described.detail,
          hint: described.hint,
          sqlstate: described.sqlstate,
          retry,
          waiting,
          failures: this.#failures,
        });
      } finally {
        // Also when nothing can be written, because the disk is full.
        await pause(waiting ? WAITING_MS : backoffMs(this.#failures, RETRY, this.#random), signal);
      }
    }
  }

  async #createGroup(session: Session, me: Node, signal: AbortSignal): Promise<void> {
    const facts = await readServerFacts(session);
    requireReplicationSettings(facts, 'this server');
    await checkOwnDsns(me, facts, this.#endpoints, signal);
    await makeFirstNode(session, me.id);
    await setStatus(session, me.id, 'r');
    this.#log.info({ node: me.name }, 'group is created');
  }
}
