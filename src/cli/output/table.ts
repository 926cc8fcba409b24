import { stripVTControlCharacters } from 'node:util';

/** Lines of columns, each as wide as its widest cell. Cells may hold colours. */
export function drawTable(rows: readonly (readonly string[])[], indent = '  '): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.entries()) {
      widths[column] = Math.max(widths[column] ?? 0, width(cell));
    }
  }
  return rows.map((row) => {
    const cells = row.map((cell, column) => cell + ' '.repeat((widths[column] ?? 0) - width(cell)));
    return `${indent}${cells.join('  ')}`.trimEnd();
  });
}

/** Text of others (names, error texts) without what would move the cursor or break the line. */
export function oneLine(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return stripVTControlCharacters(text).replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ');
}

function width(cell: string): number {
  return Array.from(stripVTControlCharacters(cell)).length;
}
