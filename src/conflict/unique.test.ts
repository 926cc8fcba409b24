import { describe, expect, test } from 'vitest';
import type { PgTime } from '../base/pg-time.ts';
import type { LocalRow } from './decide.ts';
import { answerTo, deathOf, losesTo } from './unique.ts';
import type { Version, Writer } from './version.ts';

const [A, B, C] = [1, 2, 3].map((sequence) => ({
  id: { sysid: String(sequence), timeline: 1, dboid: 5 },
  sequence,
})) as [Writer, Writer, Writer];
const at = (time: number, writer: Writer): Version => ({ time: time as PgTime, writer });
const row = (time: number, writer: Writer) =>
  ({ kind: 'versioned', version: at(time, writer) }) as const satisfies LocalRow;
const UNRECORDED = { kind: 'unrecorded' } as const;
const OWN = { kind: 'own' } as const;
const SEEN = 3 as PgTime;

describe('a row that finds its value taken', () => {
  test('loses to a greater row of another writer', () => {
    expect(losesTo(at(5, A), row(6, B))).toBe(true);
    expect(losesTo(at(5, A), row(5, B))).toBe(true);
    expect(losesTo(at(5, B), row(5, A))).toBe(false);
    expect(losesTo(at(5, A), row(4, B))).toBe(false);
  });

  test('never loses to one of its own writer, nor to one without record', () => {
    expect(losesTo(at(5, A), row(6, A))).toBe(false);
    expect(losesTo(at(5, A), OWN)).toBe(false);
    expect(losesTo(at(5, A), UNRECORDED)).toBe(false);
  });
});

describe('the death of a row', () => {
  test('is spread by the node that wrote it, with its own version, and asked for by others', () => {
    expect(deathOf(row(6, A), A, SEEN)).toEqual({ kind: 'kill', version: at(6, A) });
    expect(deathOf(row(6, B), A, SEEN)).toEqual({ kind: 'ask', version: at(6, B) });
  });

  test('is a deletion of what is seen where nobody knows who wrote it', () => {
    expect(deathOf(UNRECORDED, A, SEEN)).toEqual({ kind: 'kill', version: at(3, A) });
  });

  test('is no news where this transaction brought the row', () => {
    expect(deathOf(OWN, A, SEEN)).toBeUndefined();
  });
});

describe('an ask', () => {
  test('is followed by the writer, for a row that is not above the version asked for', () => {
    for (const time of [4, 6]) {
      const death = { kind: 'kill', version: at(time, A) };
      expect(answerTo(at(6, A), row(time, A), A, SEEN)).toEqual(death);
    }
    expect(answerTo(at(6, A), row(7, A), A, SEEN)).toBeUndefined();
    expect(answerTo(at(6, A), UNRECORDED, A, SEEN)).toEqual({ kind: 'kill', version: at(3, A) });
  });

  test('is nothing to a node that did not write the row, or has another one', () => {
    expect(answerTo(at(6, B), row(6, B), A, SEEN)).toBeUndefined();
    expect(answerTo(at(6, A), row(4, C), A, SEEN)).toBeUndefined();
    expect(answerTo(at(6, A), undefined, A, SEEN)).toBeUndefined();
  });
});
