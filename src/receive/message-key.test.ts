import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MessageKey } from './message-key.ts';

const SECRET = Buffer.alloc(32, 7);
const NODE = { sysid: '7000', timeline: 1, dboid: 5 };
const KEY = new MessageKey(SECRET, NODE);

const sealed = (content: string, key = KEY) =>
  Buffer.from(`${key.sign(Buffer.from(content))} ${content}`);

describe('MessageKey', () => {
  test('signs by HMAC-SHA256 over the node and the content', () => {
    const expected = createHmac('sha256', SECRET).update('7000,1,5 {}').digest('hex');
    expect(KEY.sign(Buffer.from('{}'))).toBe(expected);
  });

  test('opens what it has signed, whatever that is', () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        const content = Buffer.from(bytes);
        const message = Buffer.concat([Buffer.from(`${KEY.sign(content)} `), content]);
        expect(KEY.open(message)).toEqual(content);
      }),
    );
  });

  test.each<[string, Buffer]>([
    ['made with another secret', sealed('{}', new MessageKey(Buffer.alloc(32, 8), NODE))],
    [
      'of a database of the same server',
      sealed('{}', new MessageKey(SECRET, { ...NODE, dboid: 6 })),
    ],
    ['of an earlier timeline', sealed('{}', new MessageKey(SECRET, { ...NODE, timeline: 2 }))],
    ['of another server', sealed('{}', new MessageKey(SECRET, { ...NODE, sysid: '7001' }))],
    ['with another content', Buffer.from(`${KEY.sign(Buffer.from('{}'))} {"a":1}`)],
    ['with a longer content', Buffer.concat([sealed('{}'), Buffer.from(' ')])],
    ['in capitals', Buffer.from(sealed('{}').toString().toUpperCase())],
    ['without its space', Buffer.from(KEY.sign(Buffer.from('{}')))],
    ['without a signature', Buffer.from(' {}')],
    ['that is empty', Buffer.alloc(0)],
  ])('does not open a message %s', (_, message) => {
    expect(KEY.open(message)).toBeUndefined();
  });

  test('opens nothing that is changed anywhere, and never throws', () => {
    const message = sealed('{"heartbeat": {"clock": 1}}');
    fc.assert(
      fc.property(fc.nat(message.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const changed = Buffer.from(message);
        changed[at] = (changed[at] as number) ^ flip;
        expect(KEY.open(changed)).toBeUndefined();
      }),
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(KEY.open(Buffer.from(bytes))).toBeUndefined();
      }),
    );
  });
});
