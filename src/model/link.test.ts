import { expect, test } from 'vitest';
import {
  copyOriginName,
  originName,
  ownOriginName,
  ownSlotName,
  providerOfOrigin,
  publications,
  slotName,
  type Link,
} from './link.ts';

const LINK: Link = {
  provider: { sysid: '7012345678901234567', timeline: 1, dboid: 16384 },
  subscriber: { sysid: '7098765432109876543', timeline: 2, dboid: 5 },
};
const LONGEST: Link = {
  provider: { sysid: '18446744073709551615', timeline: 4294967295, dboid: 4294967295 },
  subscriber: { sysid: '18446744073709551615', timeline: 4294967295, dboid: 4294967295 },
};

test('slots and origins have the names of BDR', () => {
  expect(slotName(LINK)).toBe('bdr_16384_7098765432109876543_2_5__');
  expect(originName(LINK)).toBe('bdr_7012345678901234567_1_16384_5_');
});

test('a node’s own slot and origin are none of a peer', () => {
  expect(ownSlotName(LINK.subscriber)).toBe('bdr_5_own__');
  expect(ownOriginName(LINK.subscriber)).toBe('bdr_5_own');
});

test('the longest name fits into what the server gives it', () => {
  for (const name of [slotName(LONGEST), ...publications(LONGEST)]) {
    expect(name.length, name).toBeLessThan(64);
  }
});

test('the provider is read back from the origin, in its own database only', () => {
  expect(providerOfOrigin(originName(LINK), 5)).toEqual(LINK.provider);
  expect(providerOfOrigin(originName(LINK), 6)).toBeUndefined();
  for (const foreign of [
    'pg_16384',
    copyOriginName(LINK.subscriber, 1),
    'bdr_1_1_1_5_x',
    ownOriginName(LINK.subscriber),
    '',
  ]) {
    expect(providerOfOrigin(foreign, 5)).toBeUndefined();
  }
});
