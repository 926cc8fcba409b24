import type { Random } from './random.ts';

/** What a process waits for. */
export interface Wait {
  readonly ready: () => boolean;
  /** A lock: the wait may be given up at any time, as by lock_timeout or the deadlock detector. */
  readonly isLock?: boolean;
}

/**
 * What a session, an agent's task or a user does. Each `yield` ends an effect: anything else may happen before the next, a crash
 * too. With a Wait, it goes on once that is ready.
 */
export type Steps<T = void> = Generator<Wait | undefined, T, undefined>;

/** Thrown into a process whose wait for a lock is given up. One object: a run throws it often. */
export const LOCK_CONFLICT = new Error('lock conflict');

/** Who runs processes. */
export interface Processes {
  spawn(name: string, steps: Steps): Process;
  /** Ends a process where it stands; what it held is for the caller to see to. */
  kill(process: Process): void;
  /** Nobody dawdles any more. */
  readonly isHealing: boolean;
}

/** A process by itself, with its place in the run. */
export class Process {
  readonly name: string;
  readonly steps: Steps;
  wait: Wait | undefined;
  ended = false;
  /** How likely it goes on when it is its turn: some are slow for a while. */
  speed = 1;

  constructor(name: string, steps: Steps) {
    this.name = name;
    this.steps = steps;
  }
}

const SPEEDS = [1, 1, 1, 0.3, 0.05] as const;

/** Runs processes in an order of chance, one effect at a time. */
export class Scheduler implements Processes {
  readonly #random: Random;
  readonly #advance: () => void;
  #processes: Process[] = [];
  /** Time passes about once in so many steps. */
  #slowness = 4;
  steps = 0;
  /** Lock waits are given up now and then; not at the end, where every wait must end by itself or by what it waits for. */
  isHealing = false;

  /** `advance` lets time pass. */
  constructor(random: Random, advance: () => void) {
    this.#random = random;
    this.#advance = advance;
  }

  spawn(name: string, steps: Steps): Process {
    const process = new Process(name, steps);
    process.speed = this.isHealing ? 1 : this.#random.pick(SPEEDS);
    this.#processes.push(process);
    return process;
  }

  kill(process: Process): void {
    process.ended = true;
  }

  /** All processes go at full speed from here on. */
  heal(): void {
    this.isHealing = true;
    for (const process of this.#processes) process.speed = 1;
  }

  /** Names of the processes that wait. */
  waiting(): string[] {
    return this.#processes.filter(({ ended, wait }) => !ended && wait).map(({ name }) => name);
  }

  /** Lets one process make one step. */
  step(): void {
    this.steps += 1;
    const random = this.#random;
    if (random.below(this.#slowness) === 0) this.#advance();
    if ((this.steps & 255) === 0) this.#vary();
    const { length } = this.#processes;
    for (let tries = 0; tries < 8; tries++) {
      const process = this.#processes[random.below(length)] as Process;
      if (process.speed < 1 && !random.chance(process.speed)) continue;
      if (this.#resume(process)) return;
    }
    const first = random.below(length);
    for (let i = 0; i < length; i++) {
      if (this.#resume(this.#processes[(first + i) % length] as Process)) return;
    }
    // All wait: for time, or for ever.
    this.#advance();
  }

  #resume(process: Process): boolean {
    if (process.ended) return false;
    const { wait } = process;
    if (wait) {
      const isReady = wait.ready();
      if (!isReady) {
        const rarely = this.isHealing ? 100 : 20;
        if (!wait.isLock || this.#random.below(rarely) > 0) return false;
      }
      process.wait = undefined;
      if (!isReady) return this.#take(process, process.steps.throw(LOCK_CONFLICT));
    }
    return this.#take(process, process.steps.next());
  }

  #take(process: Process, { done, value }: IteratorResult<Wait | undefined, void>): true {
    if (done) process.ended = true;
    else process.wait = value as Wait | undefined;
    return true;
  }

  #vary(): void {
    this.#processes = this.#processes.filter(({ ended }) => !ended);
    if (this.isHealing) return;
    this.#slowness = this.#random.pick([2, 4, 16, 150]);
    const some = this.#processes[this.#random.below(this.#processes.length)];
    if (some) some.speed = this.#random.pick(SPEEDS);
  }
}
