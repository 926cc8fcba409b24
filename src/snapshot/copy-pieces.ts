import type { CopyTable, ListedTable } from './copy-table.ts';

/** What one lane copies in one transaction: a table, or a range of its blocks. */
export interface CopyPiece {
  readonly table: CopyTable;
  /** Which rows; all of them when it is not there. */
  readonly where?: string;
}

/** Takes some tenths of a second; a transaction and a COPY more take milliseconds. */
const PIECE_BYTES = 16 * 1024 * 1024;
const MOST_PIECES = 1000;

/**
 * Cuts large tables into ranges of blocks, so that several lanes copy one table and end at about the same time. The order of the
 * tables stays.
 *
 * The number of blocks was read after the snapshot was taken: what it shows lies in them, wherever it was moved since. Nothing
 * depends on that: the last range has no end.
 */
export function copyPieces(tables: readonly CopyTable[]): CopyPiece[] {
  return tables.flatMap((table) => {
    const count = piecesOf(table);
    if (count < 2 || table.isReadWhole) return [{ table }];
    return Array.from({ length: count }, (_, index): CopyPiece => {
      const start = Math.floor((table.blocks * index) / count);
      const end = Math.floor((table.blocks * (index + 1)) / count);
      const from = `ctid >= '(${start},0)'::tid`;
      const where = index === count - 1 ? from : `${from} AND ctid < '(${end},0)'::tid`;
      return { table, where };
    });
  });
}

/** Whether a table is so large that it is cut. */
export function isCut(table: ListedTable): boolean {
  return piecesOf(table) > 1;
}

function piecesOf({ bytes, blocks }: ListedTable): number {
  return Math.min(Math.floor(bytes / PIECE_BYTES), MOST_PIECES, blocks);
}
