import { expect, test } from 'vitest';
import type { HandlerState, PolicyState } from '../catalog/policy-states.ts';
import { checkPolicies } from './doctor-policies.ts';

const POLICY: PolicyState = {
  table: { schema: 'app', name: 'stock' },
  policy: 'update_wins',
  isHere: true,
  hasKey: true,
  tellsOldRows: true,
  unknownNodes: [],
  handlers: [],
};
const HANDLER: HandlerState = { name: 'h', signature: 'app.f(app.stock)', state: 'usable' };
const check = (more: Partial<PolicyState>) => checkPolicies([{ ...POLICY, ...more }]);

test('a policy that can do what it is for is nothing to speak of', () => {
  expect(check({})).toEqual([]);
  expect(check({ policy: 'handler', handlers: [HANDLER] })).toEqual([]);
});

test.each<[string, Partial<PolicyState>]>([
  ['warning conflict_policy app.stock, which is no table here', { isHere: false, hasKey: false }],
  ['error conflict_policy no primary key', { hasKey: false }],
  ['error conflict_policy REPLICA IDENTITY FULL', { tellsOldRows: false }],
  ['note conflict_policy no members: paris', { policy: 'node_priority', unknownNodes: ['paris'] }],
  ['note conflict_handler no handler', { policy: 'handler' }],
  ['warning conflict_handler are not asked', { handlers: [HANDLER] }],
])('%s', (expected, more) => {
  const [level, name, ...words] = expected.split(' ');
  expect(check(more)).toMatchObject([
    { level, check: name, message: expect.stringContaining(words.join(' ')) as string },
  ]);
});

test.each<[HandlerState['state'], string]>([
  ['missing', 'does not exist on this node'],
  ['unfit', 'has not the arguments'],
  ['not_owners', 'has an owner whose rights'],
])('a handler that is %s will stop a link', (state, why) => {
  expect(check({ policy: 'handler', handlers: [{ ...HANDLER, state }] })).toMatchObject([
    {
      level: 'error',
      check: 'conflict_handler',
      message: expect.stringContaining(why) as string,
      fix: expect.stringMatching(/\S/) as string,
    },
  ]);
});
