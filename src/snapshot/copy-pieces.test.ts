import { expect, test } from 'vitest';
import { copyPieces } from './copy-pieces.ts';
import type { CopyTable } from './copy-table.ts';

const MB = 1024 * 1024;

function table(name: string, megabytes: number, blocks = megabytes * 128): CopyTable {
  return {
    name: { schema: 'public', name },
    columns: ['id'],
    key: ['id'],
    format: 'binary',
    filter: undefined,
    rows: 0,
    bytes: megabytes * MB,
    blocks,
    isReadWhole: false,
  };
}

/** The ranges of blocks as numbers; the last has no end. */
function ranges(pieces: ReturnType<typeof copyPieces>): [number, number | undefined][] {
  return pieces.map(({ where = '' }) => {
    const [start, end] = [...where.matchAll(/\((\d+),0\)/g)].map((match) => Number(match[1]));
    return [start ?? -1, end];
  });
}

test('a small table is one piece without a condition', () => {
  expect(copyPieces([table('a', 31)])).toEqual([{ table: table('a', 31) }]);
});

test('the ranges of a large table follow one another, from the first block to no end', () => {
  const found = ranges(copyPieces([table('a', 165)]));
  expect(found).toHaveLength(10);
  expect(found[0]?.[0]).toBe(0);
  for (let index = 1; index < found.length; index++)
    expect(found[index]?.[0]).toBe(found[index - 1]?.[1]);
  expect(found.at(-1)?.[1]).toBeUndefined();
});

test('a table of few blocks is not cut into more pieces than it has, however much is beside it', () => {
  expect(ranges(copyPieces([table('toasted', 6400, 3)]))).toEqual([
    [0, 1],
    [1, 2],
    [2, undefined],
  ]);
});

test('a table whose rows cannot be told apart by block is one piece', () => {
  expect(copyPieces([table('other', 6400, 0)])).toHaveLength(1);
});

test('the largest table has a limit of pieces', () => {
  expect(copyPieces([table('huge', 10_000_000)])).toHaveLength(1000);
});

test('tables stay in their order', () => {
  const tables = [table('a', 64), table('b', 32), table('c', 1)];
  const names = copyPieces(tables).map((piece) => piece.table.name.name);
  expect(names.join('')).toBe('aaaabbc');
});
