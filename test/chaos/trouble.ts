import { pause } from '../../src/base/wait.ts';
import type { Random } from '../support/sim/random.ts';
import type { ChaosNode } from './chaos-node.ts';
import { FAULTS, type Fault } from './faults.ts';

const LEAST_REST_MS = 300;
const MOST_REST_MS = 2500;
/** Half of the rests are so much longer: agents and links try again after up to ten seconds, and should be struck at work too. */
const LONG_REST_TIMES = 6;
const LEAST_FAULT_MS = 100;
const MOST_FAULT_MS = 4000;
/** Some last so many times as long: links begin to notice silence after half a minute, and much is left to catch up with. */
const LONG_FAULT_TIMES = 10;
const LONG_FAULT_CHANCE = 0.04;

/** The faults of one node, one after the other, each ended before the next; every kind comes before any comes again. */
export class Trouble {
  readonly #node: ChaosNode;
  readonly #random: Random;
  readonly #note: (text: string) => void;
  #bag: Fault[] = [];
  /** How often each has struck. */
  readonly counts = new Map<string, number>();
  /** What is wrong now. */
  current: string | undefined;

  constructor(node: ChaosNode, random: Random, note: (text: string) => void) {
    this.#node = node;
    this.#random = random;
    this.#note = note;
  }

  /** Returns when `stop` is aborted and the last fault has been ended. */
  async run(stop: AbortSignal): Promise<void> {
    const random = this.#random;
    for (;;) {
      const restTimes = random.chance(0.5) ? LONG_REST_TIMES : 1;
      await pause(restTimes * (LEAST_REST_MS + random.below(MOST_REST_MS - LEAST_REST_MS)), stop);
      if (stop.aborted) return;
      this.#node.watchAgent();
      const fault = this.#draw();
      const times = random.chance(LONG_FAULT_CHANCE) ? LONG_FAULT_TIMES : 1;
      const forMs = times * (LEAST_FAULT_MS + random.below(MOST_FAULT_MS - LEAST_FAULT_MS));
      this.#note(`${this.#node.name}: ${fault.name} for ${forMs} ms`);
      this.current = fault.name;
      const end = await fault.strike(this.#node, random);
      this.counts.set(fault.name, (this.counts.get(fault.name) ?? 0) + 1);
      await pause(forMs, stop);
      await end();
      this.current = undefined;
      this.#note(`${this.#node.name}: ${fault.name} is over`);
    }
  }

  #draw(): Fault {
    if (this.#bag.length === 0) this.#bag = [...FAULTS];
    const [fault] = this.#bag.splice(this.#random.below(this.#bag.length), 1);
    if (!fault) throw new Error('there are no faults');
    return fault;
  }
}
