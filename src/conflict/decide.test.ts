import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { decide, type ChangeKind, type Decision, type LocalRow } from './decide.ts';
import { compareVersions, type Version, type Writer } from './version.ts';

const WRITERS: readonly Writer[] = [1, 2, 3].map((sequence) => ({
  id: { sysid: '7', timeline: 1, dboid: sequence },
  sequence,
}));
const [A, B] = WRITERS as [Writer, Writer, Writer];
const KINDS: readonly ChangeKind[] = ['insert', 'update', 'delete'];

const at = (time: number, writer: Writer): Version => ({ time: time as PgTime, writer });
const row = (time: number, writer: Writer): LocalRow => ({
  kind: 'versioned',
  version: at(time, writer),
});

describe('decide', () => {
  const onMissing = (
    kind: ChangeKind,
    remote: Version,
    tombstone: Version | undefined,
    seenUpTo: PgTime = LONG_AGO,
    isDeletedHere = false,
  ) => decide(kind, remote, { kind: 'missing', tombstone, isDeletedHere }, seenUpTo);
  const taken: Decision = {
    action: 'as-insert',
    conflict: { type: 'update_delete', resolution: 'apply_change', rule: 'update_missing' },
  };
  const deletedTwice: Decision = {
    action: 'skip',
    conflict: { type: 'delete_delete', resolution: 'skip_change', rule: 'delete_missing' },
  };

  test.each<[ChangeKind, Decision]>([
    ['insert', { action: 'apply' }],
    ['update', taken],
    ['delete', deletedTwice],
  ])('%s of a row that is missing, nobody remembers why', (kind, decision) => {
    expect(onMissing(kind, at(5, A), undefined)).toEqual(decision);
  });

  test.each<[ChangeKind, Decision]>([
    ['insert', { action: 'skip' }],
    [
      'update',
      {
        action: 'skip',
        conflict: { type: 'update_delete', resolution: 'skip_change', rule: 'update_missing' },
      },
    ],
    ['delete', deletedTwice],
  ])('%s of a row that another node has deleted later', (kind, decision) => {
    expect(onMissing(kind, at(5, A), at(6, B))).toEqual(decision);
    // At equal times the greater node wins.
    expect(onMissing(kind, at(5, A), at(5, B))).toEqual(decision);
    // What was seen does not help an older change.
    expect(onMissing(kind, at(5, A), at(6, B), 6 as PgTime)).toEqual(decision);
  });

  test('insert of a row that users of this node have deleted later, who had not had it', () => {
    const lost: Decision = {
      action: 'skip',
      conflict: { type: 'update_delete', resolution: 'skip_change', rule: 'insert_deleted' },
    };
    expect(onMissing('insert', at(5, A), at(6, B), LONG_AGO, true)).toEqual(lost);
    expect(onMissing('insert', at(5, A), at(5, B), LONG_AGO, true)).toEqual(lost);
    expect(onMissing('insert', at(5, A), at(4, B), LONG_AGO, true)).toEqual({ action: 'apply' });
  });

  test.each<[ChangeKind, Decision, Decision]>([
    ['insert', { action: 'apply' }, { action: 'apply' }],
    ['update', taken, { action: 'as-insert' }],
    ['delete', deletedTwice, { action: 'skip' }],
  ])('%s of a row that another node had deleted before', (kind, unseen, seen) => {
    expect(onMissing(kind, at(5, A), at(4, B))).toEqual(unseen);
    expect(onMissing(kind, at(5, B), at(5, A))).toEqual(unseen);
    expect(onMissing(kind, at(5, A), at(4, B), 4 as PgTime)).toEqual(seen);
  });

  test.each<[ChangeKind, Decision]>([
    ['insert', { action: 'apply' }],
    ['update', { action: 'as-insert' }],
    ['delete', { action: 'skip' }],
  ])('%s of a row that its own writer deleted, even in the same transaction', (kind, decision) => {
    for (const time of [4, 5, 6]) expect(onMissing(kind, at(5, A), at(time, A))).toEqual(decision);
  });

  test.each(KINDS)(
    '%s applies to a row of the same transaction, and to one without record unless that is known to be newer',
    (kind) => {
      for (const met of ['own', 'unrecorded', 'older'] as const) {
        expect(decide(kind, at(5, A), { kind: met }, LONG_AGO)).toEqual({ action: 'apply' });
      }
      expect(decide(kind, at(5, A), { kind: 'newer' }, LONG_AGO)).toMatchObject({
        action: 'skip',
        conflict: { resolution: 'last_update_wins_keep_local' },
      });
    },
  );

  test.each(KINDS)('%s applies to a row of the same writer, even a later one', (kind) => {
    for (const time of [4, 5, 6]) {
      expect(decide(kind, at(5, A), row(time, A), LONG_AGO)).toEqual({ action: 'apply' });
    }
  });

  test.each<[ChangeKind, string, string]>([
    ['insert', 'insert_insert', 'insert_existing'],
    ['update', 'update_update', 'greater_version'],
    ['delete', 'update_delete', 'delete_existing'],
  ])(
    '%s meets a row of another writer: the greater version wins, and is a conflict',
    (kind, type, rule) => {
      const kept = { type, resolution: 'last_update_wins_keep_local', rule };
      const taken = { type, resolution: 'last_update_wins_keep_remote', rule };
      expect(decide(kind, at(5, A), row(6, B), LONG_AGO)).toEqual({
        action: 'skip',
        conflict: kept,
      });
      expect(decide(kind, at(5, A), row(5, B), LONG_AGO)).toEqual({
        action: 'skip',
        conflict: kept,
      });
      expect(decide(kind, at(5, B), row(5, A), LONG_AGO)).toEqual({
        action: 'apply',
        conflict: taken,
      });
      expect(decide(kind, at(5, A), row(4, B), 3 as PgTime)).toEqual({
        action: 'apply',
        conflict: taken,
      });
    },
  );

  test.each(KINDS)('%s of a row that its writer had seen is no conflict', (kind) => {
    expect(decide(kind, at(5, A), row(4, B), 4 as PgTime)).toEqual({ action: 'apply' });
    // What was seen does not help an older change.
    expect(decide(kind, at(5, A), row(6, B), 6 as PgTime).action).toBe('skip');
  });
});

/** A write of a whole row, or its deletion. Each writer's times rise, as its clock and rule 4.7 make them. */
interface Write {
  readonly kind: ChangeKind;
  readonly version: Version;
}

/** What a node holds of one key. */
interface Held {
  readonly row: Version | undefined;
  readonly tombstone: Version | undefined;
}

function greatest(...versions: (Version | undefined)[]): Version | undefined {
  return versions
    .filter((version) => version !== undefined)
    .sort(compareVersions)
    .at(-1);
}

/** What becomes of a node's row by one write, which it made itself or received. */
function after({ row, tombstone }: Held, { kind, version }: Write, self: Writer): Held {
  const removes = kind === 'delete';
  // Rule 6: whatever becomes of the row.
  const remembered = removes ? greatest(tombstone, version) : tombstone;
  // A node's own writes are not decided about: they stand when they are made.
  if (version.writer !== self) {
    const local: LocalRow = row
      ? { kind: 'versioned', version: row }
      : { kind: 'missing', tombstone, isDeletedHere: false };
    if (decide(kind, version, local, LONG_AGO).action === 'skip') {
      return { row, tombstone: remembered };
    }
  }
  return { row: removes ? undefined : version, tombstone: remembered };
}

/** The row that a node holds once it has met these writes, in this order. */
function outcome(
  writes: readonly Write[],
  self: Writer,
  remembers: boolean = true,
): Version | undefined {
  let held: Held = { row: undefined, tombstone: undefined };
  for (const write of writes) {
    held = after(held, write, self);
    if (!remembers) held = { ...held, tombstone: undefined };
  }
  return held.row;
}

/** What all nodes must end with: the greatest write, unless that is a deletion. */
function wanted(writes: readonly Write[]): Version | undefined {
  const last = [...writes].sort((a, b) => compareVersions(a.version, b.version)).at(-1);
  return last?.kind === 'delete' ? undefined : last?.version;
}

/** Merges queues in an order that keeps each one's own: `picks` says whose turn it is. */
function interleave(queues: readonly (readonly Write[])[], picks: readonly number[]): Write[] {
  const rest = queues.map((queue) => [...queue]);
  const merged: Write[] = [];
  for (let turn = 0; rest.some((queue) => queue.length > 0); turn++) {
    const waiting = rest.filter((queue) => queue.length > 0);
    const next = waiting[(picks[turn % picks.length] ?? 0) % waiting.length]?.shift();
    if (next) merged.push(next);
  }
  return merged;
}

const queues: fc.Arbitrary<Write[][]> = fc.tuple(
  ...WRITERS.map((writer) =>
    fc.array(fc.tuple(fc.constantFrom(...KINDS), fc.nat(6)), { maxLength: 6 }).map((writes) => {
      let time = 0;
      return writes.map(([kind, later]): Write => {
        time += 1 + later;
        return { kind, version: at(time, writer) };
      });
    }),
  ),
);
const picks = fc.array(fc.nat(2), { minLength: 1, maxLength: 20 });

describe('convergence of whole rows', () => {
  const observer: Writer = { id: { sysid: '7', timeline: 1, dboid: 9 }, sequence: 9 };
  const anyOrder = (remembers: boolean) =>
    fc.property(queues, picks, (writes, order) => {
      expect(outcome(interleave(writes, order), observer, remembers)).toEqual(
        wanted(writes.flat()),
      );
    });

  test('every order of arrival that keeps each writer’s own order ends with the greatest version', () => {
    fc.assert(anyOrder(true));
  });

  test('not so where deletions are not remembered', () => {
    expect(fc.check(anyOrder(false)).failed).toBe(true);
  });

  test('a node ends with what the others have, while its own writes come after what it has seen', () => {
    fc.assert(
      fc.property(queues, picks, (writes, order) => {
        for (const self of WRITERS) {
          // Rule 4.7: what a node applies lies before its clock, so its own next write is greater.
          const arriving = interleave(writes, order);
          const possible = arriving.every(
            ({ version }, index) =>
              version.writer !== self ||
              arriving.slice(0, index).every((before) => before.version.time < version.time),
          );
          if (possible) expect(outcome(arriving, self)).toEqual(wanted(writes.flat()));
        }
      }),
    );
  });

  test('deciding is a function of its arguments alone', () => {
    const local: fc.Arbitrary<LocalRow> = fc.oneof(
      fc.constantFrom<LocalRow>(
        { kind: 'own' },
        { kind: 'unrecorded' },
        { kind: 'older' },
        { kind: 'newer' },
      ),
      fc
        .tuple(
          fc.option(fc.tuple(fc.nat(5), fc.constantFrom(...WRITERS)), { nil: undefined }),
          fc.boolean(),
        )
        .map(([left, isDeletedHere]) => ({
          kind: 'missing' as const,
          tombstone: left && at(...left),
          isDeletedHere,
        })),
      fc.tuple(fc.nat(5), fc.constantFrom(...WRITERS)).map(([time, writer]) => row(time, writer)),
    );
    fc.assert(
      fc.property(
        fc.constantFrom(...KINDS),
        fc.nat(5),
        fc.constantFrom(...WRITERS),
        local,
        fc.nat(6),
        (kind, time, writer, meets, seen) => {
          const again = () => decide(kind, at(time, writer), meets, seen as PgTime);
          expect(again()).toEqual(again());
        },
      ),
    );
  });
});
