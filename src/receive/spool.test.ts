import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Spool } from './spool.ts';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'pg-bdr-spool-test-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** A record that tells its place and its length. */
function record(number: number, bytes: number): Buffer {
  const buffer = Buffer.alloc(bytes, number % 251);
  if (bytes >= 4) buffer.writeUInt32BE(number, 0);
  return buffer;
}

async function recordsOf(spool: Spool): Promise<{ position: number; bytes: Buffer }[]> {
  const all: { position: number; bytes: Buffer }[] = [];
  for await (const { buffer, bounds, position } of spool.read()) {
    for (let at = 0; at < bounds.length; at += 2) {
      const [from, to] = [bounds[at] as number, bounds[at + 1] as number];
      all.push({ position: position + from, bytes: buffer.subarray(from, to) });
    }
  }
  return all;
}

describe('Spool', () => {
  test.each([
    ['few small records, which never leave memory', [0, 1, 100, 5]],
    ['records that fill a block exactly', [128 * 1024 - 4, 10]],
    [
      'a record larger than what is read at once, first and between small ones',
      [999_999, 3, 700_000, 1],
    ],
    ['many records', Array.from({ length: 5000 }, (_, i) => (i * 37) % 400)],
  ])('gives back %s', async (_, sizes) => {
    await using spool = new Spool(directory);
    const begins: number[] = [];
    for (const [number, bytes] of sizes.entries()) {
      begins.push(spool.position);
      // In the middle of other bytes.
      const around = Buffer.concat([
        Buffer.from('before'),
        record(number, bytes),
        Buffer.from('x'),
      ]);
      spool.append(around, 6, 6 + bytes);
      await spool.room();
    }
    const read = await recordsOf(spool);
    expect(read.length).toBe(sizes.length);
    for (const [number, bytes] of sizes.entries()) {
      expect(read[number]?.bytes.equals(record(number, bytes)), `record ${number}`).toBe(true);
      // Behind its length: what was added when `position` was smaller lies before it.
      expect(read[number]?.position).toBe((begins[number] as number) + 4);
    }
  });

  test('holds little in memory, and leaves no file that others could see', async () => {
    await using spool = new Spool(directory);
    const one = Buffer.alloc(64 * 1024, 7);
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 1600; i++) {
      spool.append(one, 0, one.length);
      await spool.room();
    }
    expect(readdirSync(directory)).toEqual([]);
    let bytes = 0;
    for await (const batch of spool.read()) {
      for (let at = 0; at < batch.bounds.length; at += 2) {
        bytes += (batch.bounds[at + 1] as number) - (batch.bounds[at] as number);
      }
    }
    expect(bytes).toBe(1600 * one.length);
    // A hundred megabytes went through; what the garbage collector has not come to may be left.
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(90 * 1024 * 1024);
  });

  test('says what is wrong with its directory', async () => {
    await using spool = new Spool(path.join(directory, 'missing'));
    const one = Buffer.alloc(200 * 1024);
    const fill = async () => {
      for (let i = 0; i < 20; i++) {
        spool.append(one, 0, one.length);
        await spool.room();
      }
    };
    await expect(fill()).rejects.toMatchObject({ code: 'spool_failed' });
    await expect(recordsOf(spool)).rejects.toMatchObject({
      code: 'spool_failed',
      message: expect.stringContaining('ENOENT') as string,
      hint: expect.stringContaining('TMPDIR') as string,
    });
  });
});
