import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { PgTime } from '../base/pg-time.ts';
import type { GlobalLockRow, LockAsk, LockMode } from '../model/global-lock.ts';
import { nodeKey, sameNode, type NodeId } from '../model/node.ts';
import { nextStep, ownLock, type LockMember, type LockView } from './protocol.ts';

const idOf = (n: number): NodeId => ({ sysid: String(n), timeline: 1, dboid: 5 });
const memberOf = (n: number): LockMember => ({ id: idOf(n), sequence: n, isConnected: true });

const lock = (owner: number, more: Partial<GlobalLockRow> = {}): GlobalLockRow => ({
  owner: idOf(owner),
  node: idOf(owner),
  number: 1,
  round: 1,
  mode: 'ddl_lock',
  tables: null,
  mayBeMajority: false,
  state: 'asked',
  askedAt: 10 as PgTime,
  known: {},
  holder: { pid: 1, transaction: '1/1', serverStart: 1 as PgTime },
  ...more,
});
const answer = (owner: number, node: number, more: Partial<GlobalLockRow> = {}) =>
  lock(owner, { node: idOf(node), state: 'acquired', holder: null, ...more });
const ask = (more: Partial<LockAsk> = {}): LockAsk => ({
  ask: 7,
  mode: 'ddl_lock',
  tables: null,
  mayBeMajority: false,
  askedAt: 10 as PgTime,
  holder: { pid: 1, transaction: '1/1', serverStart: 1 as PgTime },
  ...more,
});
const view = (me: number, rows: GlobalLockRow[], more: Partial<LockView> = {}): LockView => ({
  me: idOf(me),
  members: [1, 2, 3].map(memberOf),
  rows,
  asks: [],
  isHolderAlive: true,
  ...more,
});

describe('what a node does next', () => {
  const kindOf = (seen: LockView) => nextStep(seen).kind;

  test('it asks when nobody else does, and every node can answer', () => {
    expect(kindOf(view(1, [], { asks: [ask()] }))).toBe('ask');
    expect(kindOf(view(1, [lock(2)], { asks: [ask()] }))).toBe('answer');
    const away = { ...memberOf(3), isConnected: false };
    const members = [memberOf(1), memberOf(2), away];
    expect(kindOf(view(1, [], { asks: [ask()], members }))).toBe('wait');
    expect(kindOf(view(1, [], { asks: [ask({ mayBeMajority: true })], members }))).toBe('ask');
  });

  test('it is granted the lock when all have answered this very ask', () => {
    expect(kindOf(view(1, [lock(1), answer(1, 2)]))).toBe('wait');
    expect(kindOf(view(1, [lock(1), answer(1, 2), answer(1, 3, { number: 0 })]))).toBe('wait');
    expect(kindOf(view(1, [lock(1), answer(1, 2), answer(1, 3, { state: 'catchup' })]))).toBe(
      'wait',
    );
    expect(kindOf(view(1, [lock(1), answer(1, 2), answer(1, 3)]))).toBe('grant');
  });

  test('a majority is enough for a ddl_lock that says so, and for no write_lock', () => {
    const mayBeMajority = true;
    expect(kindOf(view(1, [lock(1, { mayBeMajority }), answer(1, 2)]))).toBe('grant');
    expect(kindOf(view(1, [lock(1, { mayBeMajority })]))).toBe('wait');
    const mode = 'write_lock';
    expect(kindOf(view(1, [lock(1, { mayBeMajority, mode }), answer(1, 2, { mode })]))).toBe(
      'wait',
    );
  });

  test('it waits for releases that those who answer have seen', () => {
    const known = { [nodeKey(idOf(3))]: 4 };
    const rows = [lock(1, { mayBeMajority: true }), answer(1, 2, { known })];
    expect(kindOf(view(1, rows))).toBe('wait');
    expect(kindOf(view(1, [...rows, lock(3, { number: 4, state: 'released' })]))).toBe('grant');
  });

  test('the later of two asks is taken back, a lock that is held is not', () => {
    const earlier = lock(2, { askedAt: 9 as PgTime });
    expect(kindOf(view(1, [lock(1), earlier]))).toBe('release');
    expect(kindOf(view(2, [lock(1), earlier]))).toBe('wait');
    expect(kindOf(view(1, [lock(1, { state: 'acquired' }), earlier]))).toBe('wait');
    expect(kindOf(view(2, [lock(1), lock(2)]))).toBe('release');
  });

  test('it answers one at a time, and forgets its answer when the lock is released', () => {
    expect(kindOf(view(3, [lock(1), lock(2), answer(1, 3)]))).toBe('wait');
    expect(kindOf(view(3, [lock(1, { state: 'released' }), lock(2), answer(1, 3)]))).toBe('forget');
    expect(kindOf(view(3, [lock(1, { number: 2 }), answer(1, 3)]))).toBe('forget');
  });

  test('what a parted node held or asked for does not count', () => {
    const members = [memberOf(1), memberOf(2)];
    expect(kindOf(view(1, [lock(3, { state: 'acquired' }), answer(3, 1)], { members }))).toBe(
      'forget',
    );
    expect(kindOf(view(1, [lock(1), answer(1, 2)], { members }))).toBe('grant');
    expect(kindOf(view(3, [lock(3)], { members }))).toBe('release');
  });

  test('who has died holds nothing', () => {
    expect(kindOf(view(1, [lock(1, { state: 'acquired' })], { isHolderAlive: false }))).toBe(
      'release',
    );
  });

  test('who holds the lock may ask for more, and is answered anew', () => {
    const more = ask({ mode: 'write_lock', tables: [{ schema: 's', name: 't' }] });
    const held = lock(1, { state: 'acquired' });
    const step = nextStep(view(1, [held, answer(1, 2), answer(1, 3)], { asks: [more] }));
    expect(step).toMatchObject({ kind: 'ask', more: { mode: 'write_lock', tables: more.tables } });
    const asked = lock(1, { round: 2, mode: 'write_lock' });
    expect(kindOf(view(1, [asked, answer(1, 2), answer(1, 3)]))).toBe('wait');
    expect(kindOf(view(2, [asked, answer(1, 2)]))).toBe('answer');
  });
});

// A group in small: each node's rows and writes come to each other node in order, one at a time, in any order of links.

type Sent =
  | { readonly row: GlobalLockRow }
  | { readonly gone: GlobalLockRow }
  | { readonly write: number }
  | { readonly definition: number };

class Group {
  readonly nodes: Member[];
  /** By sender and receiver. */
  readonly links = new Map<string, Sent[]>();
  /** Made under the lock, one after the other. */
  definitions = 0;

  constructor(size: number) {
    const members = Array.from({ length: size }, (_, at) => memberOf(at + 1));
    this.nodes = members.map(({ id }) => new Member(id, members, this));
  }

  link(from: NodeId, to: NodeId): Sent[] {
    const key = `${nodeKey(from)} ${nodeKey(to)}`;
    const queue = this.links.get(key) ?? [];
    this.links.set(key, queue);
    return queue;
  }

  send(from: NodeId, sent: Sent): void {
    for (const { id } of this.nodes) if (!sameNode(id, from)) this.link(from, id).push(sent);
  }
}

class Member {
  readonly id: NodeId;
  readonly members: readonly LockMember[];
  readonly group: Group;
  rows: GlobalLockRow[] = [];
  asks: LockAsk[] = [];
  /** Writes of each node that are applied here. */
  readonly applied = new Map<string, number>();
  writes = 0;
  /** As many of the group's as this node has. */
  definitions = 0;
  #number = 0;
  #asks = 0;

  constructor(id: NodeId, members: readonly LockMember[], group: Group) {
    this.id = id;
    this.members = members;
    this.group = group;
  }

  get isGated(): boolean {
    return this.rows.some(
      ({ owner, node, mode }) =>
        sameNode(node, this.id) && !sameNode(owner, this.id) && mode === 'write_lock',
    );
  }

  get holds(): GlobalLockRow | undefined {
    const own = ownLock({ me: this.id, rows: this.rows });
    return own?.state === 'acquired' ? own : undefined;
  }

  put(row: GlobalLockRow): void {
    this.rows = [...this.rows.filter((old) => !sameRow(old, row)), row];
  }

  say(row: GlobalLockRow): void {
    this.put(row);
    this.group.send(this.id, { row });
  }

  receive(from: NodeId): boolean {
    const sent = this.group.link(from, this.id).shift();
    if (!sent) return false;
    if ('row' in sent) this.put(sent.row);
    else if ('gone' in sent) this.rows = this.rows.filter((old) => !sameRow(old, sent.gone));
    else if ('write' in sent) this.applied.set(nodeKey(from), sent.write);
    else this.definitions = Math.max(this.definitions, sent.definition);
    return true;
  }

  write(): void {
    if (!this.isGated) this.group.send(this.id, { write: (this.writes += 1) });
  }

  wants(mode: LockMode, clock: number, mayBeMajority: boolean): void {
    this.#asks += 1;
    const holder = { pid: 1, transaction: String(this.#asks), serverStart: 1 as PgTime };
    this.asks.push(ask({ ask: this.#asks, mode, askedAt: clock as PgTime, mayBeMajority, holder }));
  }

  /** The transaction ends, in the middle of whatever it waits for. */
  end(): void {
    const own = ownLock({ me: this.id, rows: this.rows });
    if (this.holds) {
      this.definitions = this.group.definitions += 1;
      this.group.send(this.id, { definition: this.definitions });
    }
    const ending = own?.holder?.transaction ?? this.asks[0]?.holder.transaction;
    this.asks = this.asks.filter(({ holder }) => holder.transaction !== ending);
  }

  look(): boolean {
    const own = ownLock({ me: this.id, rows: this.rows });
    const isHolderAlive =
      own === undefined ||
      this.asks.some(({ holder }) => holder.transaction === own.holder?.transaction);
    const { id: me, members, rows } = this;
    const asks = this.asks.filter(
      ({ holder }) => holder.transaction !== this.holds?.holder?.transaction,
    );
    const step = nextStep({ me, members, rows, asks, isHolderAlive });
    switch (step.kind) {
      case 'wait':
        return false;
      case 'ask': {
        const { mode, tables, mayBeMajority, askedAt, holder } = step.ask;
        const need = { mode, tables, mayBeMajority, askedAt, holder };
        this.say(lock(0, { ...need, owner: me, node: me, number: (this.#number += 1) }));
        return true;
      }
      case 'grant':
        if (own) this.say({ ...own, state: 'acquired' });
        if (own) this.#granted(own);
        return true;
      case 'release':
        if (own) this.say({ ...own, state: 'released' });
        return true;
      case 'answer': {
        const state = step.lock.mode === 'ddl_lock' ? 'acquired' : 'catchup';
        this.say({ ...step.lock, node: me, state, holder: null, known: step.known });
        return true;
      }
      case 'confirm':
        this.say({ ...step.lock, node: me, state: 'acquired', holder: null });
        return true;
      case 'forget':
        this.rows = rows.filter((old) => !sameRow(old, step.answer));
        this.group.send(me, { gone: step.answer });
        return true;
    }
  }

  #granted(own: GlobalLockRow): void {
    const { nodes } = this.group;
    expect(nodes.filter(({ holds }) => holds).length, 'holders').toBe(1);
    expect(this.definitions, 'definitions that were made before').toBe(this.group.definitions);
    if (own.mode === 'ddl_lock') return;
    for (const writer of nodes) {
      if (writer === this) continue;
      expect(writer.isGated, 'writes are held').toBe(true);
      for (const reader of nodes)
        if (reader !== writer)
          expect(reader.applied.get(nodeKey(writer.id)) ?? 0, 'nothing old is on its way').toBe(
            writer.writes,
          );
    }
  }
}

function sameRow(a: GlobalLockRow, b: GlobalLockRow): boolean {
  return sameNode(a.owner, b.owner) && sameNode(a.node, b.node);
}

describe('a group', () => {
  test('has one holder at a time, whose write lock finds nothing old on its way, and everybody gets it', () => {
    const numbers = fc.array(fc.nat(999), { minLength: 50, maxLength: 600 });
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 4 }), numbers, (size, choices) => {
        const group = new Group(size);
        const pick = (n: number) => group.nodes[n % size] as Member;
        for (const [clock, choice] of choices.entries()) {
          const node = pick(choice);
          const other = pick(Math.floor(choice / size));
          switch (Math.floor(choice / 100)) {
            case 0:
              if (node.asks.length < 2)
                node.wants(choice % 2 ? 'write_lock' : 'ddl_lock', clock, choice % 3 > 0);
              break;
            case 1:
              if (node.holds || choice % 10 === 0) node.end();
              break;
            case 2:
            case 3:
              node.write();
              break;
            case 4:
            case 5:
            case 6:
              node.look();
              break;
            default:
              node.receive(other.id);
          }
        }
        // From here on all goes well, and who holds the lock lets it go.
        for (let busy = true; busy;) {
          busy = false;
          for (const node of group.nodes) {
            if (node.holds) node.end();
            while (node.look()) busy = true;
            for (const { id } of group.nodes) busy = node.receive(id) || busy;
          }
        }
        expect(group.nodes.flatMap(({ asks }) => asks)).toEqual([]);
        expect(group.nodes.some(({ isGated }) => isGated)).toBe(false);
      }),
      { numRuns: 150 },
    );
  });
});
