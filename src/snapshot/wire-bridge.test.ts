import { expect, test } from 'vitest';
import { ClientSide, ServerSide } from './wire-bridge.ts';

const greeting = { parameters: { server_version: '18.4' }, processId: 7, secretKey: -2 };
const message = (letter: string, body = '') => {
  const bytes = Buffer.from(`${letter}\0\0\0\0${body}`, 'latin1');
  bytes.writeUInt32BE(body.length + 4, 1);
  return bytes;
};
const startup = (code: number, rest = '') => {
  const bytes = Buffer.from(`\0\0\0\0\0\0\0\0${rest}`, 'latin1');
  bytes.writeUInt32BE(bytes.length, 0);
  bytes.writeUInt32BE(code, 4);
  return bytes;
};
const START = startup(3 << 16, 'user\0me\0\0');

function started(): ClientSide {
  const client = new ClientSide(greeting);
  client.write(START);
  return client;
}

test('the start-up is answered here, encryption is declined', () => {
  const client = new ClientSide(greeting);
  expect(Buffer.from(client.write(startup(80877103)).answer).toString()).toBe('N');
  const { answer, forward, replies } = client.write(START);
  expect(forward).toHaveLength(0);
  expect(replies).toBe(0);
  expect(Buffer.from(answer).toString('latin1')).toBe(
    'R\0\0\0\x08\0\0\0\0' +
      'S\0\0\0\x18server_version\x0018.4\0' +
      'K\0\0\0\x0c\0\0\0\x07\xff\xff\xff\xfe' +
      'Z\0\0\0\x05I',
  );
});

test('a client of another protocol is refused', () => {
  expect(() => new ClientSide(greeting).write(startup(2 << 16))).toThrow('unknown protocol 2.0');
});

test('a question counts when it is complete, however it is cut', () => {
  const client = started();
  const query = message('Q', 'select 1\0');
  for (let at = 0; at < query.length - 1; at += 1)
    expect(client.write(query.subarray(at, at + 1))).toMatchObject({ replies: 0 });
  const last = client.write(query.subarray(-1));
  expect(last.replies).toBe(1);
  expect(Buffer.from(last.forward)).toEqual(query);
});

test('messages of the extended protocol are answered after their Sync', () => {
  const client = started();
  expect(client.write(Buffer.concat([message('P', 'x'), message('B', 'x')])).replies).toBe(0);
  expect(client.write(Buffer.concat([message('E', 'x'), message('S')])).replies).toBe(1);
  expect(client.write(message('X'))).toMatchObject({ replies: 0, goodbye: true });
});

test('the end of a reply is found in chunks of every size', () => {
  const reply = Buffer.concat([message('D', 'Z\0\0\0\x05I'), message('C', 'x'), message('Z', 'I')]);
  for (let size = 1; size <= reply.length; size += 1) {
    const server = new ServerSide();
    let ends = 0;
    for (let at = 0; at < reply.length; at += size) {
      expect(ends).toBe(0);
      ends += server.read(reply.subarray(at, at + size));
    }
    expect(ends).toBe(1);
  }
});

test('a notice behind the end does not take the end back', () => {
  const server = new ServerSide();
  expect(server.read(Buffer.concat([message('Z', 'I'), message('N', 'x'), Buffer.from('S')]))).toBe(
    1,
  );
});

test('an error is remembered for later', () => {
  const server = new ServerSide();
  expect(server.lastError).toBeUndefined();
  const error = message('E', 'SFATAL\0C57P01\0Mterminated\0\0');
  server.read(error.subarray(0, 12));
  server.read(error.subarray(12));
  expect(server.lastError).toBe('terminated');
});
