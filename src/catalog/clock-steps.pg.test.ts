import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import { pgTimeSql, type PgTime } from '../base/pg-time.ts';
import { sqlDir } from '../config/paths.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Session } from '../postgres/session.ts';
import {
  endClockStep,
  endLateRows,
  noteClockStep,
  readDuePeerRows,
  readDueSteps,
} from './clock-steps.ts';
import { install } from './install.ts';
import { readSqlFiles } from './sql-files.ts';

const SECOND = 1_000_000;
const HOUR = 3600 * SECOND;

let server: EmbeddedServer;
let session: Session;
let now: number;
const at = (seconds: number) => (now + seconds * SECOND) as PgTime;
const before = (seconds: number) => ({ xid: 77, xmin: 70, clock: at(seconds) });

beforeAll(async () => {
  server = await startServer();
  session = await openSession(server);
  await install(session, readSqlFiles(sqlDir()));
});
afterAll(async () => {
  await session?.close();
  await server?.[Symbol.asyncDispose]();
});
beforeEach(async () => {
  await session.script('TRUNCATE bdr.bdr_clock_steps, bdr.own_stream');
  const [row] = await session.query<{ now: string }>(
    `SELECT ${pgTimeSql('clock_timestamp()')} AS now`,
  );
  now = Number(row?.now);
});

/** The own stream, and with it what is applied, has come so far, by the clock. */
async function comesTo(interval: string): Promise<void> {
  await session.script(`
    INSERT INTO bdr.own_stream (status, watermark_at)
    VALUES ('streaming', clock_timestamp() + interval '${interval}')
    ON CONFLICT (singleton) DO UPDATE SET watermark_at = EXCLUDED.watermark_at`);
}

const done = { rewritten: 1, deleted: 0, lost: 0 };

test('rows of peers are due once what users wrote is done, and all is applied up to then', async () => {
  await noteClockStep(session, { before: before(-30), to: at(-31), lowest: at(-32) });
  await comesTo('-1 min');
  expect(await readDueSteps(session)).toEqual([]);
  await comesTo('-10 s');
  const [step] = await readDueSteps(session);
  expect(step).toEqual({ heartbeatXid: '77', oldestXid: '70', upTo: at(-25) });
  if (!step) return;
  expect(await readDuePeerRows(session)).toEqual([]);
  await endLateRows(session, step, done);
  expect(await readDueSteps(session)).toEqual([]);
  // Something older may still be on its way.
  expect(await readDuePeerRows(session)).toEqual([]);
  await comesTo('1 s');
  const [rows] = await readDuePeerRows(session);
  expect(rows).toMatchObject({ heartbeatXid: '77', oldestXid: '70', from: at(-32) });
  expect(rows?.upTo).toBeGreaterThan(now);
  if (!rows) return;
  await endClockStep(session, rows, 2);
  expect(await readDuePeerRows(session)).toEqual([]);
  const [row] = await session.query<{ n: string }>(
    'SELECT nr_rewritten AS n FROM bdr.bdr_clock_steps WHERE rewritten_at IS NOT NULL',
  );
  expect(row?.n).toBe('3');
});

test('a peer that is away is not waited for longer than five minutes', async () => {
  await noteClockStep(session, { before: before(-800), to: at(-900) });
  await comesTo('-1 h');
  const [step] = await readDueSteps(session);
  if (step) await endLateRows(session, step, done);
  expect(await readDuePeerRows(session)).toEqual([]);
  await session.script(
    `UPDATE bdr.bdr_clock_steps SET late_rewritten_at = late_rewritten_at - interval '5 min'`,
  );
  expect(await readDuePeerRows(session)).toHaveLength(1);
});

test('how low the clock was is known from whoever looked on, and else taken to be an hour less', async () => {
  const lowest = async () => {
    await session.script('UPDATE bdr.bdr_clock_steps SET late_rewritten_at = clock_timestamp()');
    await comesTo('1 s');
    const [rows] = await readDuePeerRows(session);
    return rows?.from;
  };
  await noteClockStep(session, { before: before(-30), to: at(-40) });
  expect(await lowest()).toBe(at(-40) - HOUR);
  await noteClockStep(session, { before: before(-30), to: at(-39), lowest: at(-41) });
  expect(await lowest()).toBe(at(-41));
  await noteClockStep(session, { before: before(-30), to: at(-40) });
  expect(await lowest()).toBe(at(-41));
});
