import { expect, test } from 'vitest';
import { describeError } from './describe-error.ts';

test.each([
  Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }),
  Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' }),
  new Error('Connection terminated unexpectedly'),
])('a connection that ends is told as one, whoever notices: $message', (error) => {
  expect(describeError(error)).toMatchObject({
    code: 'connection_failed',
    sqlstate: '08006',
    message: `connection to the server was lost: ${error.message}`,
  });
});

test("the server's errors keep their SQLSTATE, and what is neither is a fault of the program", () => {
  const refused = Object.assign(new Error('not 13'), { code: 'P0001', detail: 'why' });
  expect(describeError(refused)).toMatchObject({ code: null, sqlstate: 'P0001', detail: 'why' });
  expect(describeError(new TypeError('x'))).toMatchObject({ code: null, sqlstate: 'XX000' });
});
