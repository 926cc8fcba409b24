import { expect, test } from 'vitest';
import type { Logger } from '../base/logger.ts';
import { IgnoredMessages } from './ignored-messages.ts';

test('the first ignored message is told at once, then their number once a minute', () => {
  const told: unknown[] = [];
  const nothing = () => undefined;
  const log: Logger = {
    debug: nothing,
    info: nothing,
    warn: (fields) => told.push(fields),
    error: nothing,
    child: () => log,
  };
  let now = 0;
  const ignored = new IgnoredMessages(log, () => now);
  for (; now < 150_000; now += 1000) ignored.add();
  expect(told).toEqual([{ ignored: 1 }, { ignored: 61 }, { ignored: 121 }]);
});
