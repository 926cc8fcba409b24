import { describe, expect, test } from 'vitest';
import type { Finding } from './findings.ts';
import { Ledger, type Truncate, type Write } from './ledger.ts';
import type { FoundRow, HistoryEntry, JournalEntry, NodeState } from './node-state.ts';
import { judge } from './verdict.ts';

const NODES = ['node1', 'node2'];

/** Two nodes on which everything is as clients were told, until a test takes something away. */
class Scene {
  readonly ledger = new Ledger();
  readonly #times = new Map<string, number>();
  readonly #tables = NODES.map(() => new Map<string, Map<string, FoundRow>>());
  readonly #journals = NODES.map(() => new Map<string, JournalEntry>());
  readonly #histories: HistoryEntry[][] = NODES.map(() => []);

  /** A transaction that a client of the node made at a time, with its entry in every journal. */
  transaction(entry: string, node: number, at: number, changes: (Write | Truncate)[]): this {
    this.ledger.committed({ entry, parts: 1, node, changes });
    return this.inJournal(entry, at);
  }

  /** The same where the client does not know. */
  unknown(entry: string, node: number, at: number | undefined, changes: Write[]): this {
    this.ledger.unsure({ entry, parts: 1, node, changes });
    return at === undefined ? this : this.inJournal(entry, at);
  }

  inJournal(entry: string, at: number): this {
    this.#times.set(entry, at);
    for (const index of NODES.keys()) this.journal(index, entry, 1);
    return this;
  }

  journal(node: number, entry: string, parts: number, differentParts = 1): this {
    const committedAt = BigInt(this.#times.get(entry) ?? 0);
    this.#journals[node]?.set(entry, { parts, differentParts, committedAt });
    return this;
  }

  notInJournal(node: number, entry: string): this {
    this.#journals[node]?.delete(entry);
    return this;
  }

  /** A row, or none, on all nodes or on one. */
  row(key: string, tag: string, node?: number, table = 'hot'): this {
    for (const [index, tables] of this.#tables.entries()) {
      if (node !== undefined && node !== index) continue;
      if (!tables.has(table)) tables.set(table, new Map());
      tables.get(table)?.set(key, { tag, image: `image of ${tag}`, text: `(${key},${tag})` });
    }
    return this;
  }

  conflict(node: number, localTag: string | null, remoteTag: string | null): this {
    const key = 'k';
    this.#histories[node]?.push({ table: 'hot', key, localTag, remoteTag, text: '' });
    return this;
  }

  findings(): string[] {
    const states = NODES.map((name, index): NodeState => ({
      name,
      number: index + 1,
      tables: this.#tables[index]!,
      journal: this.#journals[index]!,
      history: this.#histories[index]!,
    }));
    return judge(this.ledger.entries, states).findings.map(said);
  }
}

function said({ kind, text, row }: Finding): string {
  return `${kind}: ${row ? `${row.table} ${row.key}: ` : ''}${text}`;
}

const rowOf = (key: string, tag: string) => ({ key, tag, image: `image of ${tag}` });

function write(
  before: readonly [string, string] | null,
  after: readonly [string, string] | null,
  table = 'hot',
): Write {
  return {
    kind: 'write',
    table,
    before: before && { key: before[0], tag: before[1] },
    after: after && rowOf(...after),
  };
}

const inserted = (key: string, tag: string, table?: string) => write(null, [key, tag], table);
const updated = (key: string, from: string, to: string) => write([key, from], [key, to]);

describe('all is well', () => {
  test('when the later of two writes stands everywhere, and a history has the other', () => {
    const scene = new Scene()
      .transaction('a', 0, 10, [inserted('k', 'of a')])
      .transaction('b', 1, 20, [inserted('k', 'of b')])
      .row('k', 'of b')
      .conflict(0, 'of a', 'of b');
    expect(scene.findings()).toEqual([]);
  });

  test('when a row was overwritten by who had read it', () => {
    const scene = new Scene()
      .transaction('a', 0, 10, [inserted('k', 'of a')])
      .transaction('b', 1, 20, [updated('k', 'of a', 'of b')])
      .row('k', 'of b');
    expect(scene.findings()).toEqual([]);
  });

  test('when at equal times the greater number has won', () => {
    const scene = new Scene()
      .transaction('b', 1, 10, [inserted('k', 'of b')])
      .transaction('a', 0, 10, [inserted('k', 'of a')])
      .row('k', 'of b')
      .conflict(1, 'of b', 'of a');
    expect(scene.findings()).toEqual([]);
  });

  test('when a transaction that nobody knows of was committed, or was not', () => {
    const scene = new Scene()
      .transaction('a', 0, 10, [inserted('k', 'of a')])
      .unknown('b', 1, 20, [updated('k', 'of a', 'of b')])
      .unknown('c', 1, undefined, [updated('k', 'of b', 'of c')])
      .row('k', 'of b');
    expect(scene.findings()).toEqual([]);
  });

  test('when a row went by deletion, by another key, or by TRUNCATE', () => {
    const truncate: Truncate = { kind: 'truncate', table: 'cleared' };
    const scene = new Scene()
      .transaction('a', 0, 10, [
        inserted('k', '1'),
        inserted('l', '2'),
        inserted('k', '3', 'cleared'),
      ])
      .transaction('b', 1, 20, [
        write(['k', '1'], null),
        write(['l', '2'], ['m', '4']),
        write(['k', '3'], null, 'cleared'),
        truncate,
        inserted('n', '5', 'cleared'),
      ])
      .row('m', '4')
      .row('n', '5', undefined, 'cleared');
    expect(scene.findings()).toEqual([]);
  });
});

describe('it is noticed', () => {
  test('that a row is on one node only', () => {
    const scene = new Scene().transaction('a', 0, 10, [inserted('k', 'of a')]).row('k', 'of a', 0);
    expect(scene.findings()).toEqual([
      'nodes differ: hot k: node1 (k,of a), node2 nothing',
      'a write is not the winner: hot k: node2 has nothing, the last to write there was a',
    ]);
  });

  test('that nodes hold different rows', () => {
    const scene = new Scene()
      .transaction('a', 0, 10, [inserted('k', 'of a')])
      .transaction('b', 1, 20, [inserted('k', 'of b')])
      .row('k', 'of a', 0)
      .row('k', 'of b', 1);
    expect(scene.findings()).toContain('nodes differ: hot k: node1 (k,of a), node2 (k,of b)');
  });

  test('that the earlier write stands everywhere', () => {
    const scene = new Scene()
      .transaction('a', 0, 10, [inserted('k', 'of a')])
      .transaction('b', 1, 20, [inserted('k', 'of b')])
      .row('k', 'of a')
      .conflict(0, 'of a', 'of b');
    expect(scene.findings()).toEqual([
      'a write is not the winner: hot k: node1 has (k,of a), the last to write there was b',
      'a write is not the winner: hot k: node2 has (k,of a), the last to write there was b',
    ]);
  });

  test('that a deleted row is there', () => {
    const scene = new Scene()
      .transaction('a', 0, 10, [inserted('k', 'of a')])
      .transaction('b', 1, 20, [write(['k', 'of a'], null)])
      .row('k', 'of a');
    expect(scene.findings()).toContain(
      'a write is not the winner: hot k: node1 has (k,of a), the last to write there was no row after b',
    );
  });

  test('that a truncated row is there', () => {
    const scene = new Scene()
      .transaction('a', 0, 10, [inserted('k', 'of a', 'cleared')])
      .transaction('b', 1, 20, [{ kind: 'truncate', table: 'cleared' }])
      .row('k', 'of a', undefined, 'cleared');
    expect(scene.findings()).toContain(
      'a write is not the winner: cleared k: node1 has (k,of a), the last to write there was no row after b',
    );
  });

  test('that a row is there which nobody wrote', () => {
    const scene = new Scene().row('k', 'of nobody');
    expect(scene.findings()).toContain(
      'a write is not the winner: hot k: node1 has (k,of nobody), the last to write there was nobody',
    );
  });

  test('that the write of a transaction which was not committed is there', () => {
    const scene = new Scene().unknown('a', 0, undefined, [inserted('k', 'of a')]).row('k', 'of a');
    expect(scene.findings()).toContain(
      'a write is not the winner: hot k: node1 has (k,of a), the last to write there was nobody',
    );
  });

  test('that a row which a TRUNCATE took unseen is in no history', () => {
    const scene = new Scene()
      .transaction('a', 0, 10, [inserted('k', 'of a', 'cleared')])
      .transaction('b', 1, 20, [{ kind: 'truncate', table: 'cleared' }]);
    expect(scene.findings()).toEqual([
      'a loser is nowhere: cleared k: of a of transaction a is in no table, no write had seen it, and no history has it',
    ]);
  });

  test('that a write which lost unseen is in no history', () => {
    const scene = new Scene()
      .transaction('a', 0, 10, [inserted('k', 'of a')])
      .transaction('b', 1, 20, [inserted('k', 'of b')])
      .row('k', 'of b');
    expect(scene.findings()).toEqual([
      'a loser is nowhere: hot k: of a of transaction a is in no table, no write had seen it, and no history has it',
    ]);
  });

  test('that who had seen a write was rolled back', () => {
    const scene = new Scene()
      .transaction('a', 0, 10, [inserted('k', 'of a')])
      .unknown('c', 0, undefined, [updated('k', 'of a', 'of c')])
      .transaction('b', 1, 20, [inserted('k', 'of b')])
      .row('k', 'of b');
    expect(scene.findings()).toHaveLength(1);
  });

  test('that a transaction which a client was told of is gone', () => {
    const scene = new Scene()
      .transaction('a', 0, 10, [inserted('k', 'of a')])
      .row('k', 'of a')
      .notInJournal(0, 'a');
    expect(scene.findings()).toContain(
      'a told write is gone: transaction a of a client of node1 was told to be committed and is not in the journal there',
    );
  });

  test('that one is missing on another node, came twice, or came from nowhere', () => {
    const scene = new Scene();
    for (const entry of ['a', 'b', 'c', 'd']) scene.transaction(entry, 0, 10, []);
    scene.notInJournal(1, 'b').journal(1, 'c', 2).journal(1, 'd', 1, 0).journal(1, 'e', 1);
    expect(scene.findings()).toEqual([
      'the journal is wrong: b is missing on node2',
      'the journal is wrong: c has 2 parts on node2, 1 of them different, instead of 1',
      'the journal is wrong: d has 1 parts on node2, 0 of them different, instead of 1',
      'the journal is wrong: e is on node2, and was not committed by any client',
    ]);
  });
});

test('the ledger counts what clients were told', () => {
  const ledger = new Ledger();
  ledger.committed({ entry: 'a', parts: 3, node: 0, changes: [inserted('k', 'of a')] });
  ledger.unsure({ entry: 'b', parts: 1, node: 0, changes: [] });
  ledger.refuse('40P01');
  ledger.refuse('40P01');
  expect(ledger).toMatchObject({ writes: 4, unknown: 1, refused: new Map([['40P01', 2]]) });
  expect(ledger.entries.map(({ entry, isTold }) => [entry, isTold])).toEqual([
    ['a', true],
    ['b', false],
  ]);
});
