import { expect, test } from 'vitest';
import { checkLocalColumns } from './doctor-local-columns.ts';

const ITEM = { table: { schema: 'app', name: 'item' }, columns: ['note', 'seen'], flaw: null };

test('columns that stay on a node are told', () => {
  expect(checkLocalColumns([])).toEqual([]);
  expect(checkLocalColumns([ITEM])).toMatchObject([
    {
      level: 'note',
      check: 'local_columns',
      message: 'columns of app.item that stay on this node: note, seen',
    },
  ]);
});

test('one on which nodes must agree is an error', () => {
  const flaw = 'column "note": It is generated.';
  expect(checkLocalColumns([{ ...ITEM, flaw }])[0]).toMatchObject({
    level: 'error',
    message: `table app.item has a local column on which nodes must agree: ${flaw}`,
  });
});
