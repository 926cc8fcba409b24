import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { nodeKey, type NodeId } from '../model/node.ts';
import {
  NOTHING_UNTOLD,
  parseHeartbeat,
  settledUpTo,
  Watermark,
  type Heartbeat,
} from './watermark.ts';

const beat = (clock: number, xid: number, xmin: number): Heartbeat => ({
  clock: clock as PgTime,
  xid,
  xmin,
  applied: new Map(),
  untold: NOTHING_UNTOLD,
});

describe('Watermark', () => {
  test('begins before everything', () => {
    expect(new Watermark().time).toBe(LONG_AGO);
  });

  test('passes a heartbeat at once when nothing older runs', () => {
    const watermark = new Watermark();
    watermark.handled(beat(1000, 50, 50));
    // Not 1000: what takes its id next may still take that time.
    expect(watermark.time).toBe(999);
  });

  test('waits at a heartbeat while a transaction that is older than it runs', () => {
    const watermark = new Watermark();
    watermark.handled(beat(1000, 50, 40));
    watermark.handled(beat(1100, 60, 40));
    expect(watermark.time).toBe(LONG_AGO);
    // 40 has ended, 55 still runs: it may have a time up to 1100, but not up to 1000.
    watermark.handled(beat(1200, 70, 55));
    expect(watermark.time).toBe(999);
    watermark.handled(beat(1300, 80, 80));
    expect(watermark.time).toBe(1299);
  });

  test('never goes back, whatever a clock does', () => {
    const watermark = new Watermark();
    watermark.handled(beat(1000, 50, 50));
    watermark.handled(beat(900, 60, 60));
    expect(watermark.time).toBe(999);
  });

  test('forgets some of many waiting heartbeats, and still passes none too early', () => {
    const watermark = new Watermark(8);
    for (let i = 0; i < 1000; i++) watermark.handled(beat(1000 + i, 50 + i, 10));
    expect(watermark.time).toBe(LONG_AGO);
    watermark.handled(beat(3000, 2000, 500));
    expect(watermark.time).toBeLessThanOrEqual(1000 + 450);
    watermark.handled(beat(3001, 2001, 2001));
    expect(watermark.time).toBe(3000);
  });

  test('never passes a clock while a transaction that may lie before it is still to come', () => {
    // Transactions take an id, later a commit time, and later still come in the stream.
    const history = fc.array(
      fc.record({ begins: fc.nat(20), runs: fc.nat(20), stamped: fc.nat(20) }),
      { maxLength: 12 },
    );
    fc.assert(
      fc.property(
        history,
        fc.uniqueArray(fc.nat(45), { minLength: 1, maxLength: 10 }),
        (runs, beats) => {
          // Ids in order of beginning, heartbeats among them; times are the steps of one clock.
          const transactions = runs.map(({ begins, runs: length, stamped }) => ({
            begins,
            ends: begins + 1 + length,
            time: begins + Math.min(stamped, length + 1),
          }));
          const xidAt = (step: number) =>
            1 +
            transactions.filter((other) => other.begins < step).length +
            beats.filter((other) => other < step).length;
          const watermark = new Watermark(4);
          for (const step of [...beats].sort((a, b) => a - b)) {
            const running = transactions.filter(
              (other) => other.begins < step && other.ends > step,
            );
            const xmin = Math.min(xidAt(step), ...running.map((other) => xidAt(other.begins)));
            watermark.handled(beat(step, xidAt(step), xmin));
            for (const other of transactions) {
              if (other.ends > step)
                expect(watermark.time).toBeLessThanOrEqual(Math.max(other.time, other.begins));
            }
          }
        },
      ),
    );
  });
});

describe('settledUpTo', () => {
  const node = (sysid: string): NodeId => ({ sysid, timeline: 1, dboid: 5 });
  const settled = (untold: PgTime, ...others: string[]) =>
    settledUpTo(
      { ...beat(1000, 1, 1), untold, applied: new Map([entry('7', 700), entry('8', 800)]) },
      others.map(node),
    );
  const entry = (sysid: string, time: number) => [nodeKey(node(sysid)), time as PgTime] as const;

  test('is what the sender had applied of all others', () => {
    expect(settled(NOTHING_UNTOLD, '7', '8')).toBe(700);
    expect(settled(NOTHING_UNTOLD, '8')).toBe(800);
    expect(settled(NOTHING_UNTOLD)).toBe(NOTHING_UNTOLD);
  });

  test('is nothing while one of them is not known', () => {
    expect(settled(NOTHING_UNTOLD, '8', '9')).toBe(LONG_AGO);
  });

  test('ends at the rows of whose loss it has still to tell', () => {
    expect(settled(650 as PgTime, '7', '8')).toBe(650);
  });
});

describe('parseHeartbeat', () => {
  const parse = (text: string) => parseHeartbeat(Buffer.from(text));

  test('reads what the server sends', () => {
    expect(
      parse(
        '{"heartbeat": {"xid": 815, "xmin": 800, "clock": 845000000000000, "applied": {"7,1,5": 844000000000000, "8,1,5": null}, "untold": 843000000000000}}',
      ),
    ).toEqual({
      clock: 845000000000000,
      xid: 815,
      xmin: 800,
      applied: new Map([['7,1,5', 844000000000000]]),
      untold: 843000000000000,
    });
  });

  test.each<[string, PgTime]>([
    [', "untold": null', NOTHING_UNTOLD],
    // Of an agent that does not say it.
    ['', LONG_AGO],
    [', "untold": "1"', LONG_AGO],
  ])('with %j is of a node that has to tell of rows from %d on', (untold, time) => {
    const heartbeat = parse(`{"heartbeat": {"clock": 1, "xid": 1, "xmin": 1${untold}}}`);
    expect(heartbeat?.untold).toBe(time);
  });

  test.each([
    '',
    'null',
    '[]',
    '{}',
    '{"heartbeat": null}',
    '{"heartbeat": {"clock": "1", "xid": 1, "xmin": 1}}',
    '{"heartbeat": {"clock": 1e999, "xid": 1, "xmin": 1}}',
    '{"heartbeat": {"clock": 1.5, "xid": 1, "xmin": 1}}',
    '{"heartbeat": {"clock": 1, "xid": 1}}',
    '\u0000\ufffd',
  ])('takes %j for no heartbeat', (text) => {
    expect(parse(text)).toBeUndefined();
  });

  test('leaves out what is no time', () => {
    const applied = '{"a": 1, "b": "2", "c": 1e999, "d": {}, "e": 0.5}';
    expect(
      parse(`{"heartbeat": {"clock": 1, "xid": 1, "xmin": 1, "applied": ${applied}}}`)?.applied,
    ).toEqual(new Map([['a', 1]]));
  });

  test('never throws', () => {
    fc.assert(fc.property(fc.uint8Array(), (bytes) => void parseHeartbeat(Buffer.from(bytes))));
    fc.assert(fc.property(fc.json(), (text) => void parse(`{"heartbeat": ${text}}`)));
  });
});
