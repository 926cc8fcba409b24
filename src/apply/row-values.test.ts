import { describe, expect, test } from 'vitest';
import { tupleOf, UNCHANGED } from '../pgoutput/tuple-value.ts';
import { filledFrom, isComplete, readValues, sameValue, UNSENT } from './row-values.ts';

describe('values of a row', () => {
  test('are read with what kind they are', () => {
    const bytes = Buffer.from([0, 255]);
    const values = readValues(tupleOf([null, UNCHANGED, '', 'é', bytes]));
    expect(values).toEqual([null, UNSENT, '', 'é', bytes]);
    expect(isComplete(values)).toBe(false);
    expect(isComplete([null, ''])).toBe(true);
  });

  test('that were not sent are taken from the old row, as far as that was sent', () => {
    expect(filledFrom(['old key', null, 'old', UNSENT], [UNSENT, UNSENT, UNSENT, UNSENT])).toEqual([
      'old key',
      UNSENT,
      'old',
      UNSENT,
    ]);
    expect(filledFrom(['old', 'old'], [null, ''])).toEqual([null, '']);
  });

  test('are the same when their text or their bytes are', () => {
    expect(sameValue('1.0', '1.0')).toBe(true);
    expect(sameValue('1.0', '1.00')).toBe(false);
    expect(sameValue(null, null)).toBe(true);
    expect(sameValue(null, '')).toBe(false);
    expect(sameValue(Buffer.from('a'), Buffer.from('a'))).toBe(true);
    expect(sameValue(Buffer.from('a'), Buffer.from('b'))).toBe(false);
    expect(sameValue(Buffer.from('a'), 'a')).toBe(false);
  });
});
