import { expect, test } from 'vitest';
import { sessionIs } from './target-session-attrs.ts';

const sessions = [
  { role: 'primary', read_only: 'off', is: ['any', 'primary', 'read-write'] },
  { role: 'primary', read_only: 'on', is: ['any', 'primary', 'read-only'] },
  { role: 'standby', read_only: 'off', is: ['any', 'standby', 'read-only'] },
];
const kinds = ['any', 'read-write', 'read-only', 'primary', 'standby'] as const;

test.each(sessions)(
  'a $role with default_transaction_read_only=$read_only is $is',
  async ({ is, ...row }) => {
    const session = { query: <Row extends object>() => Promise.resolve([row as unknown as Row]) };
    const answers = await Promise.all(kinds.map((kind) => sessionIs(session, kind)));
    expect(kinds.filter((_, index) => answers[index]).toSorted()).toEqual(is.toSorted());
  },
);
