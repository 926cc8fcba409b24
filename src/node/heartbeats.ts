import type { Logger } from '../base/logger.ts';
import type { Lsn } from '../base/lsn.ts';
import type { PgTime } from '../base/pg-time.ts';
import { pause, Wakeup } from '../base/wait.ts';
import { noteClockStep, type ClockStep } from '../catalog/clock-steps.ts';
import { emitHeartbeat } from '../catalog/heartbeat.ts';
import type { LastHeartbeat } from '../catalog/own-stream.ts';
import type { Conninfo } from '../postgres/conninfo.ts';
import { isOnThisMachine } from '../postgres/server-facts.ts';
import { logPositions } from '../postgres/origins.ts';
import { Session } from '../postgres/session.ts';
import { lowestBetween, setBackFrom, type ClockLook } from '../receive/clock-pace.ts';
import { describeError } from './describe-error.ts';

const BUSY_INTERVAL_MS = 100;
const IDLE_INTERVAL_MS = 1000;
/** No more often than this, however many links ask. */
const LEAST_INTERVAL_MS = 20;
/** Peers' heartbeats arrive as small commits: less than this much WAL is no sign of work, or nodes would keep each other awake. */
const IDLE_BYTES = 4096;

/**
 * Leaves a small transaction in the node's own log ten times a second while anything happens, once a second when idle (DESIGN
 * 4.5), and at once when a link asks for one. It tells the peers what this node has seen, moves their positions on, and with them
 * the slots.
 */
export class Heartbeats {
  readonly #conninfo: Conninfo;
  readonly #log: Logger;
  readonly #applied: () => Record<string, PgTime>;
  readonly #wanted = new Wakeup();
  #told: (LastHeartbeat & ClockLook) | undefined;
  /** Steps of the clock that are not on disk yet. */
  #unnoted: ClockStep[] = [];
  #stop: AbortController | undefined;
  #done: Promise<void> = Promise.resolve();

  /** `applied` gives, by nodeKey(), up to which commit time this node has applied each other node. */
  constructor(conninfo: Conninfo, log: Logger, applied: () => Record<string, PgTime>) {
    this.#conninfo = conninfo;
    this.#log = log;
    this.#applied = applied;
  }

  /** Begins; calling it again changes nothing. */
  start(): void {
    if (this.#stop) return;
    const stop = new AbortController();
    this.#stop = stop;
    this.#done = this.#run(stop.signal);
  }

  /** A link could group what it has, if this node's own stream were further. */
  hurry(): void {
    this.#wanted.raise();
  }

  /** Ends without waiting; start() begins anew. */
  pause(): void {
    this.#stop?.abort();
    this.#stop = undefined;
  }

  async stop(): Promise<void> {
    this.pause();
    await this.#done;
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await using session = await Session.connect(this.#conninfo, {
          applicationName: 'bdr:heartbeat',
          signal,
          settings: { synchronous_commit: 'off' },
        });
        await this.#beat(session, signal);
      } catch (error) {
        if (signal.aborted) return;
        this.#log.warn(describeError(error), 'heartbeats are interrupted');
        await pause(IDLE_INTERVAL_MS, signal);
      }
    }
  }

  async #beat(session: Session, signal: AbortSignal): Promise<void> {
    let after: Lsn | undefined;
    let beatAt = -Infinity;
    let isWanted = false;
    const isNear = await isOnThisMachine(session);
    while (!signal.aborted) {
      const { insert } = await logPositions(session);
      const busy = after === undefined || insert - after > IDLE_BYTES;
      if (isWanted || busy || performance.now() - beatAt >= IDLE_INTERVAL_MS) {
        const startedMs = performance.now();
        const told = await emitHeartbeat(session, this.#applied());
        beatAt = performance.now();
        this.#watch({ ...told, startedMs, endedMs: beatAt }, isNear);
        await this.#note(session);
        after = (await logPositions(session)).insert;
      }
      await pause(LEAST_INTERVAL_MS, signal);
      isWanted = await this.#wanted.wait(BUSY_INTERVAL_MS - LEAST_INTERVAL_MS, signal);
    }
  }

  /**
   * Notices that the clock has stepped back by less than has passed since the last one; the own stream notices more than that, and
   * knows less of it. A server elsewhere may only have stood still, as a machine does that is moved: its clock shows more than before.
   */
  #watch(told: LastHeartbeat & ClockLook, isNear: boolean): void {
    const before = this.#told;
    this.#told = told;
    if (!before || (!isNear && told.clock > before.clock)) return;
    const clock = setBackFrom(before, told);
    if (clock === undefined) return;
    const lowest = lowestBetween(before, told);
    this.#unnoted.push({ before: { ...before, clock }, to: told.clock, lowest });
  }

  /** What fails is tried again with the next heartbeat: by then it could not be noticed any more. */
  async #note(session: Session): Promise<void> {
    for (;;) {
      const [step] = this.#unnoted;
      if (!step) return;
      await session.transaction(async () => {
        // Heartbeats need not be on disk; this has to, since nobody notices a short step again.
        await session.script('SET LOCAL synchronous_commit = local');
        await noteClockStep(session, step);
      });
      this.#unnoted.shift();
      this.#log.warn({}, 'the clock of the server has stepped back');
    }
  }
}
