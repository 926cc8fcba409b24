import { expect, test } from 'vitest';
import { sessionIs } from './target-session-attrs.ts';

const sessions = [
  { standby: 'off', readOnly: 'off', is: ['any', 'primary', 'read-write'] },
  { standby: 'off', readOnly: 'on', is: ['any', 'primary', 'read-only'] },
  { standby: 'on', readOnly: 'off', is: ['any', 'standby', 'read-only'] },
];
const kinds = ['any', 'read-write', 'read-only', 'primary', 'standby'] as const;

test.each(sessions)(
  'a session with in_hot_standby=$standby and default_transaction_read_only=$readOnly is $is',
  ({ is, standby, readOnly }) => {
    const reported = { in_hot_standby: standby, default_transaction_read_only: readOnly };
    expect(kinds.filter((kind) => sessionIs(reported, kind)).toSorted()).toEqual(is.toSorted());
  },
);
