import type { MutantName } from './mutants.ts';
import { BLOCKED, Scene, type SavedScene, type Turn } from './scene.ts';
import { stateOf } from './scene-state.ts';
import type { Scope } from './scope.ts';
import { turnsToTry } from './turns-to-try.ts';
import { Violation, type CheckName } from './world.ts';

export interface ScopeResult {
  readonly states: number;
  /** States in which nothing is left to happen. */
  readonly ends: ReadonlySet<string>;
  /** The order of turns that leads there. */
  readonly failure:
    { readonly check: CheckName; readonly message: string; readonly turns: string } | undefined;
  /** Not all orders were tried. */
  readonly isCut: boolean;
}

/** How it is done: for tests, which see that nothing is lost by it. */
interface Manner {
  /** Which turns of a state are enough. */
  readonly choose?: (scene: Scene) => readonly Turn[];
  /** Each order is begun anew instead of going back to where it leaves the last one. */
  readonly replays?: boolean;
}

/**
 * Tries every order of a small scope: in each turn a user's transaction, a heartbeat, some of a link's next transactions, or the own
 * stream, each without anything in between; what interleaves within them is for `simulate`. A state that was
 * met before is not gone on from, and of orders that come to the same one is tried. Ends with the first failure, and after `most` states.
 */
export function exhaust(
  scope: Scope,
  most: number,
  mutant?: MutantName,
  { choose = turnsToTry, replays = false }: Manner = {},
): ScopeResult {
  const search = new Search(() => new Scene(scope, mutant), choose, replays);
  for (;;) {
    const failure = search.follow();
    const isCut = search.met.size >= most;
    if (failure || isCut || !search.turnAside()) {
      const { met, ends } = search;
      return { states: met.size, ends, failure, isCut: isCut && !failure };
    }
  }
}

/** A state on the way, and which of its turns was taken. */
interface Stop {
  turns: readonly Turn[];
  taken: number;
  readonly saved: SavedScene | undefined;
}

class Search {
  readonly #newScene: () => Scene;
  readonly #choose: (scene: Scene) => readonly Turn[];
  readonly #replays: boolean;
  readonly met = new Set<string>();
  readonly ends = new Set<string>();
  readonly #stops: Stop[] = [];
  #scene: Scene;

  constructor(newScene: () => Scene, choose: (scene: Scene) => readonly Turn[], replays: boolean) {
    this.#newScene = newScene;
    this.#choose = choose;
    this.#replays = replays;
    this.#scene = newScene();
  }

  /** Goes on from where it is, taking the first turn each time, until there is none or a state is met again. */
  follow(): ScopeResult['failure'] {
    try {
      this.#takeLast();
      for (;;) {
        const state = stateOf(this.#scene);
        if (this.met.has(state)) return undefined;
        this.met.add(state);
        const turns = this.#choose(this.#scene);
        if (turns.length === 0) {
          this.ends.add(state);
          this.#scene.drain();
          return undefined;
        }
        const goesBack = this.#scene.isPlain && !this.#replays;
        const saved = goesBack ? this.#scene.save() : undefined;
        this.#stops.push({ turns, taken: 0, saved });
        this.#takeLast();
      }
    } catch (error) {
      if (error === BLOCKED) return undefined;
      if (!(error instanceof Violation)) throw error;
      const turns = this.#stops.map(({ turns, taken }) => turns[taken]?.name).join(', ');
      return { check: error.check, message: error.message, turns };
    }
  }

  #takeLast(): void {
    const last = this.#stops.at(-1);
    if (last) this.#scene.take(last.turns[last.taken] as Turn);
  }

  /** Goes back to the last state that has a turn left, which is next. Says whether there is one. */
  turnAside(): boolean {
    for (;;) {
      const last = this.#stops.at(-1);
      if (!last) return false;
      last.taken += 1;
      if (last.taken < last.turns.length) {
        if (last.saved) this.#scene.restore(last.saved);
        else this.#replay();
        return true;
      }
      this.#stops.pop();
    }
  }

  /** All turns from the beginning on, but for the last. */
  #replay(): void {
    this.#scene = this.#newScene();
    for (const [at, stop] of this.#stops.entries()) {
      stop.turns = this.#choose(this.#scene);
      if (at < this.#stops.length - 1) this.#scene.take(stop.turns[stop.taken] as Turn);
    }
  }
}
