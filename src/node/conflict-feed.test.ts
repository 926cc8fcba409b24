import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { ConflictEntry } from '../catalog/read-conflicts.ts';
import { ConflictFeed, type ConflictSource } from './conflict-feed.ts';

/** A history whose transactions draw numbers, one or several each, and commit in any order. */
class History implements ConflictSource {
  readonly committed = new Set<number>();
  readonly #open = new Map<string, number[]>();
  last = 0;
  #begun = 0;
  /** Runs between the two questions of a look. */
  between: () => void = () => undefined;
  /** What the last look asked for. */
  asked: { after: number; except: readonly number[] } = { after: 0, except: [] };

  begin(): string {
    const writer = `3/${++this.#begun}`;
    this.#open.set(writer, []);
    return writer;
  }

  draw(writer: string): void {
    this.#open.get(writer)?.push(++this.last);
  }

  end(writer: string, commits = true): void {
    for (const id of this.#open.get(writer) ?? []) if (commits) this.committed.add(id);
    this.#open.delete(writer);
  }

  get writers(): string[] {
    return [...this.#open.keys()];
  }

  async horizon() {
    return { last: this.last, writers: this.writers };
  }

  async read(after: number, except: readonly number[]) {
    this.between();
    this.asked = { after, except };
    return [...this.committed]
      .filter((id) => id > after && !except.includes(id))
      .sort((a, b) => a - b)
      .slice(0, 3)
      .map((id) => ({ id }) as ConflictEntry);
  }
}

const idsOf = async (feed: ConflictFeed, history: History) =>
  (await feed.look(history)).map(({ id }) => id);

test('a number that turns up after a greater one is handed on, and none twice', async () => {
  const [history, feed] = [new History(), new ConflictFeed(0)];
  const [slow, quick] = [history.begin(), history.begin()];
  history.draw(slow);
  history.draw(quick);
  history.end(quick);
  expect(await idsOf(feed, history)).toEqual([2]);
  for (let looks = 0; looks < 3; looks++) expect(await idsOf(feed, history)).toEqual([]);
  history.end(slow);
  expect(await idsOf(feed, history)).toEqual([1]);
  expect(await idsOf(feed, history)).toEqual([]);
});

test('so is one that was drawn, together with the greater one, between the two questions of a look', async () => {
  const [history, feed] = [new History(), new ConflictFeed(0)];
  let slow = '';
  history.between = () => {
    slow = history.begin();
    history.draw(slow);
    const quick = history.begin();
    history.draw(quick);
    history.end(quick);
  };
  expect(await idsOf(feed, history)).toEqual([2]);
  history.between = () => undefined;
  for (let looks = 0; looks < 3; looks++) expect(await idsOf(feed, history)).toEqual([]);
  history.end(slow);
  expect(await idsOf(feed, history)).toEqual([1]);
});

test('what was handed on is forgotten once nothing smaller can turn up', async () => {
  const [history, feed] = [new History(), new ConflictFeed(0)];
  for (let n = 0; n < 2; n++) {
    const writer = history.begin();
    history.draw(writer);
    history.end(writer);
    await feed.look(history);
  }
  for (let looks = 0; looks < 4; looks++) await feed.look(history);
  expect(history.asked).toEqual({ after: 2, except: [] });
});

test('numbers that begin anew are numbers of other conflicts', async () => {
  const [history, feed] = [new History(), new ConflictFeed(0)];
  for (let n = 0; n < 3; n++) {
    const writer = history.begin();
    history.draw(writer);
    history.end(writer);
  }
  expect(await idsOf(feed, history)).toEqual([1, 2, 3]);
  history.committed.clear();
  history.last = 0;
  const writer = history.begin();
  history.draw(writer);
  history.end(writer);
  expect(await idsOf(feed, history)).toEqual([1]);
});

test('in whatever order transactions draw, commit and roll back, each conflict is handed on once', async () => {
  const step = fc.tuple(fc.constantFrom('begin', 'draw', 'commit', 'undo', 'look'), fc.nat(3));
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const [history, feed] = [new History(), new ConflictFeed(0)];
      const handed: number[] = [];
      const left = [...steps];
      const take = () => {
        const [what, which] = left.shift() ?? (['look', 0] as const);
        const { writers } = history;
        const writer = writers[which % Math.max(1, writers.length)];
        if (what === 'begin') history.begin();
        else if (what === 'look' || writer === undefined) return what === 'look';
        else if (what === 'draw') history.draw(writer);
        else history.end(writer, what === 'commit');
        return false;
      };
      while (left.length > 0) {
        if (!take()) continue;
        // Up to the next look, whatever comes may come between its questions.
        history.between = () => {
          for (let n = 0; n < 8 && left.length > 0 && left[0]?.[0] !== 'look'; n++) take();
        };
        handed.push(...(await idsOf(feed, history)));
      }
      for (const writer of history.writers) history.end(writer);
      // A look hands on three at most.
      for (let looks = 0; looks < 40; looks++) handed.push(...(await idsOf(feed, history)));
      expect(handed.toSorted((a, b) => a - b)).toEqual(
        [...history.committed].toSorted((a, b) => a - b),
      );
    }),
    { numRuns: 1000 },
  );
});
