import { expect, test } from 'vitest';
import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { SharedTime } from '../base/shared-time.ts';
import type { Node } from '../model/node.ts';
import { Edition } from './edition.ts';
import { KnownGroup, type GroupView } from './group-view.ts';

test('is one for all threads, and replaced only by who has seen the last', () => {
  const here = new Edition();
  const there = new Edition(here.shared);
  const begun = here.number;
  expect(here.replace(begun)).toBe(there.number);
  const second = here.number;
  there.outdate();
  expect(here.replace(second)).not.toBe(there.number);
  expect(here.number).not.toBe(second);
});

/**
 * A model of all that share an edition. The catalog counts up with each change of the group. One link brings changes and outdates
 * the edition behind each; the main thread looks, and tells what it has read; another link goes by what it was told, as late as
 * it likes. A step is what nothing comes between.
 */
class Model {
  catalog = 0;
  /** The catalog of which everybody must know: changes that a link has counted. */
  brought = 0;
  readonly edition = new Edition();
  readonly watermark = new SharedTime();
  readonly mailbox: GroupView[] = [];
  readonly facts = new Map<GroupView, number>();
  readonly link: KnownGroup;
  view: GroupView;
  #begun = 0;
  #read = 0;
  #told = { facts: 0, number: 0 };

  constructor() {
    this.watermark.set(1 as PgTime);
    this.view = this.#viewOf(0, 0);
    this.link = new KnownGroup(new Edition(this.edition.shared), this.view);
  }

  #viewOf(number: number, facts: number): GroupView {
    const origins = {
      local: { id: { sysid: '1', timeline: 1, dboid: 1 }, sequence: 1 },
      providers: new Map(),
      copies: new Set<number>(),
    };
    const { shared } = this.watermark;
    const view = {
      number,
      nodes: [] as Node[],
      origins,
      own: shared,
      ownHeard: shared,
      others: [],
    };
    this.facts.set(view, facts);
    return view;
  }

  readonly bringing = [
    () => void (this.catalog += 1),
    () => {
      this.edition.outdate();
      this.brought = this.catalog;
    },
  ];

  /** As NodeService does it. */
  readonly looking = [
    () => void (this.#begun = this.edition.number),
    () => void (this.#read = this.catalog),
    () => {
      const isNew = this.#read !== this.#told.facts;
      if (!isNew && this.#begun === this.#told.number) return;
      const number = isNew ? this.edition.replace(this.#begun) : this.#begun;
      this.#told = { facts: this.#read, number };
      this.mailbox.push(this.#viewOf(number, this.#read));
    },
  ];

  hear(): void {
    const view = this.mailbox.shift();
    if (!view) return;
    this.view = view;
    this.link.told(view);
  }

  /** Whether the link may group, and whether what it goes by is all that it must know. */
  get mayGroup(): boolean {
    return this.link.limit > LONG_AGO;
  }

  get knowsEnough(): boolean {
    return (this.facts.get(this.view) ?? 0) >= this.brought;
  }
}

/** All orders of the steps of several threads, each in its own order. */
function* orders(left: readonly number[]): Generator<number[], void, void> {
  if (left.every((count) => count === 0)) return yield [];
  for (const [thread, count] of left.entries()) {
    if (count === 0) continue;
    const rest = left.map((one, at) => (at === thread ? one - 1 : one));
    for (const order of orders(rest)) yield [thread, ...order];
  }
}

test('no link groups without knowing of a change that another has brought, in whatever order things happen', () => {
  let grouped = 0;
  for (const order of orders([4, 9, 2])) {
    const model = new Model();
    const threads = [
      [...model.bringing, ...model.bringing],
      [...model.looking, ...model.looking, ...model.looking],
      [() => model.hear(), () => model.hear()],
    ];
    const done: string[] = [];
    for (const thread of order) {
      threads[thread]?.shift()?.();
      done.push(['brings', 'looks', 'hears'][thread] ?? '');
      if (model.mayGroup && !model.knowsEnough) expect.fail(`after ${done.join(', ')}`);
      if (model.mayGroup && model.brought > 0) grouped += 1;
    }
    // One more look and a message: the group is known, and nothing stays outdated.
    for (const step of model.looking) step();
    while (model.mailbox.length > 0) model.hear();
    if (!model.mayGroup || !model.knowsEnough) expect.fail(`at the end of ${done.join(', ')}`);
  }
  expect(grouped).toBeGreaterThan(0);
});

test('the limit is the least watermark, and long ago while one is not known', () => {
  const edition = new Edition();
  const [own, other] = [new SharedTime(), new SharedTime()];
  const { origins } = new Model().view;
  const { shared } = own;
  const view = {
    number: 0,
    nodes: [],
    origins,
    own: shared,
    ownHeard: shared,
    others: [other.shared],
  };
  const group = new KnownGroup(edition, view);
  own.set(7 as PgTime);
  expect(group.limit).toBe(LONG_AGO);
  expect(group.ownLimit).toBe(7);
  other.set(5 as PgTime);
  expect(group.limit).toBe(5);
  other.set(9 as PgTime);
  expect(group.limit).toBe(7);
  edition.outdate();
  expect(group.limit).toBe(LONG_AGO);
});
