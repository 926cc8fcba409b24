import { expect, test } from 'vitest';
import { CopyFrames } from './copy-frames.ts';

function frame(type: string, payload: string | Buffer = ''): Buffer {
  const bytes = Buffer.from(payload);
  const header = Buffer.alloc(5);
  header.write(type);
  header.writeUInt32BE(4 + bytes.length, 1);
  return Buffer.concat([header, bytes]);
}

/** The chunks in pieces; data and the rest, each in one, and what came of the end. */
function walk(chunks: readonly Buffer[]) {
  const data: Buffer[] = [];
  const other: Buffer[] = [];
  let payloadBytes = 0;
  let rest: Buffer | undefined;
  const frames = new CopyFrames({
    data: (run, bytes) => {
      data.push(run);
      payloadBytes += bytes;
    },
    other: (one) => other.push(one),
  });
  for (const chunk of chunks) {
    if (rest) rest = Buffer.concat([rest, chunk]);
    else rest = frames.push(chunk);
  }
  return { data, other: other.map(String), payloadBytes, rest: rest?.toString() };
}

const ROWS = [frame('d', 'first'), frame('d', ''), frame('d', 'Z\0\0\0\x05I'), frame('d', 'last')];
const NOTICE = frame('N', 'SNOTICE\0Mhello\0\0');
const [first, empty, like, last] = ROWS as [Buffer, Buffer, Buffer, Buffer];
const ANSWER = Buffer.concat([
  frame('H', '\x01\0\0'),
  first,
  empty,
  NOTICE,
  like,
  last,
  frame('c'),
  frame('C', 'COPY 4\0'),
  frame('Z', 'I'),
  frame('A', 'later'),
]);
const EXPECTED = {
  data: Buffer.concat(ROWS).toString(),
  other: [frame('H', '\x01\0\0'), NOTICE, frame('c'), frame('C', 'COPY 4\0')].map(String),
  payloadBytes: 15,
  rest: Buffer.concat([frame('Z', 'I'), frame('A', 'later')]).toString(),
};

test('an answer that is cut anywhere is the same answer', () => {
  for (let one = 0; one <= ANSWER.length; one++) {
    for (let two = one; two <= ANSWER.length; two++) {
      const chunks = [ANSWER.subarray(0, one), ANSWER.subarray(one, two), ANSWER.subarray(two)];
      const walked = walk(chunks);
      const seen = { ...walked, data: Buffer.concat(walked.data).toString() };
      expect(seen, `cut at ${one} and ${two}`).toEqual(EXPECTED);
    }
  }
});

test('an answer that comes byte by byte is the same answer', () => {
  const walked = walk([...ANSWER].map((byte) => Buffer.from([byte])));
  expect({ ...walked, data: Buffer.concat(walked.data).toString() }).toEqual(EXPECTED);
});

test('data that was passed on ends with a frame, wherever the answer is cut', () => {
  for (let cut = 0; cut <= ANSWER.length; cut++) {
    for (const run of walk([ANSWER.subarray(0, cut), ANSWER.subarray(cut)]).data) {
      let at = 0;
      while (at < run.length) at += 1 + run.readUInt32BE(at + 1);
      expect(at, `cut at ${cut}`).toBe(run.length);
    }
  }
});

test('rows that come in one chunk are passed on in one piece, not copied', () => {
  const chunk = Buffer.concat(ROWS);
  const { data } = walk([chunk]);
  expect(data).toHaveLength(1);
  expect(data[0]?.buffer).toBe(chunk.buffer);
  expect(data[0]?.byteOffset).toBe(chunk.byteOffset);
});

test('a row of many chunks is whole when it is passed on', () => {
  const row = frame('d', Buffer.alloc(1_000_000, 'x'));
  const chunks: Buffer[] = [];
  for (let at = 0; at < row.length; at += 65_536) chunks.push(row.subarray(at, at + 65_536));
  const { data } = walk(chunks);
  expect(data).toHaveLength(1);
  expect(data[0]?.equals(row)).toBe(true);
});

test('what cannot be an answer is refused', () => {
  expect(() => walk([frame('?', 'hello')])).toThrow('something else than the answer to COPY');
  expect(() => walk([Buffer.from('d\0\0\0\x03')])).toThrow('something else');
});
