import type { Logger } from '../base/logger.ts';
import { restartOnFailure } from '../base/restart.ts';
import { Wakeup } from '../base/wait.ts';
import { flushAsks, mustFlushAsks } from '../catalog/global-locks.ts';
import { GlobalLock } from '../lock/global-lock.ts';
import { LockAsks } from '../lock/lock-asks.ts';
import type { NodeId } from '../model/node.ts';
import { markAgentSession } from '../postgres/advisory.ts';
import type { Conninfo } from '../postgres/conninfo.ts';
import { Session } from '../postgres/session.ts';
import { describeError } from './describe-error.ts';

/** How long an ask may be on its way to the disk, before 17. */
const FLUSH_MS = 50;
const RETRY = { firstMs: 250, mostMs: 15_000 };

/** Serves the global lock of a node, on a session of its own, until it is stopped. */
export class LockService {
  readonly #local: Conninfo;
  readonly #log: Logger;
  readonly #random: () => number;
  readonly #wakeup = new Wakeup();
  readonly #asks = new LockAsks();
  #stop: AbortController | undefined;
  #done: Promise<void> = Promise.resolve();

  constructor(local: Conninfo, log: Logger, random: () => number) {
    this.#local = local;
    this.#log = log;
    this.#random = random;
  }

  /** Begins; calling it again changes nothing. */
  start(me: NodeId): void {
    if (this.#stop) return;
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    this.#done = restartOnFailure(() => this.#serve(me, signal), {
      limits: RETRY,
      random: this.#random,
      signal,
      onFailure: ({ error, retryInMs }) =>
        this.#log.warn({ ...describeError(error), retryInMs }, 'the global lock is not served'),
    });
  }

  async stop(): Promise<void> {
    this.#stop?.abort();
    this.#wakeup.raise();
    await this.#done;
    this.#stop = undefined;
  }

  /** Something may have changed. */
  wake(): void {
    this.#wakeup.raise();
  }

  /** Takes a signed message of the node's own log. */
  hear(content: Buffer): void {
    this.#asks.hear(content);
    this.#wakeup.raise();
  }

  async #serve(me: NodeId, signal: AbortSignal): Promise<void> {
    const fresh = async <T>(read: (session: Session) => Promise<T>): Promise<T> => {
      await using other = await Session.connect(this.#local, {
        applicationName: 'bdr:settings',
        signal,
      });
      return await read(other);
    };
    await using session = await Session.connect(this.#local, {
      applicationName: 'bdr:lock',
      signal,
      settings: {
        synchronous_commit: 'local',
        // Gates are no definitions of the user's.
        session_replication_role: 'replica',
        lock_timeout: '100ms',
        // For an autovacuum that is in the way to be canceled.
        deadlock_timeout: '10ms',
      },
    });
    await markAgentSession(session);
    const mustFlush = await mustFlushAsks(session);
    const lock = new GlobalLock({ session, me, asks: this.#asks, log: this.#log, fresh });
    while (!signal.aborted) {
      session.lost.throwIfAborted();
      const lookInMs = await lock.look();
      if (mustFlush) await this.#waitAndFlush(session, lookInMs, signal);
      else await this.#wakeup.wait(lookInMs, signal);
    }
  }

  /** Waits until something may have changed; who asks meanwhile is heard by that. */
  async #waitAndFlush(session: Session, ms: number, signal: AbortSignal): Promise<void> {
    for (let waitedMs = 0; waitedMs < ms && !signal.aborted; waitedMs += FLUSH_MS) {
      await flushAsks(session);
      if (await this.#wakeup.wait(FLUSH_MS, signal)) return;
    }
  }
}
