import { afterAll, beforeAll, expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import { until } from '../../test/support/cluster.ts';
import { startServer } from '../../test/support/servers.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Session } from './session.ts';
import { createSlot, ensureSlot } from './slots.ts';

let server: EmbeddedServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => server[Symbol.asyncDispose]());

/** The session, but behind its first query, the look whether the slot is there, `meanwhile` happens. */
function withBetween(session: Session, meanwhile: () => Promise<void>): Session {
  let looked = false;
  const query: Session['query'] = async <Row extends object>(
    ...call: Parameters<Session['query']>
  ) => {
    const rows = await session.query<Row>(...call);
    if (!looked) {
      looked = true;
      await meanwhile();
    }
    return rows;
  };
  return { query } as Session;
}

test('a slot that is not there is made, and one that is there is taken', async () => {
  await using session = await openSession(server);
  const start = await ensureSlot(session, 'alone');
  expect(start).toBeGreaterThan(0);
  await session.script('SELECT pg_switch_wal()');
  expect(await ensureSlot(session, 'alone')).toBe(start);
});

test('a slot that another session makes at the same moment is taken', async () => {
  await using session = await openSession(server);
  await using other = await openSession(server);
  let made: number | undefined;
  const start = await ensureSlot(
    withBetween(session, async () => {
      made = await createSlot(other, 'together');
    }),
    'together',
  );
  expect(start).toBe(made);
});

test('a slot that another session has not come to the end of making has no start yet', async () => {
  await using session = await openSession(server);
  await using other = await openSession(server);
  await using writer = await openSession(server);
  // A slot waits for every transaction that writes.
  await writer.script('BEGIN; SELECT pg_current_xact_id()');
  let making: Promise<number> | undefined;
  const start = await ensureSlot(
    withBetween(session, async () => {
      making = createSlot(other, 'underway');
      await until('the slot to have its name', async () => {
        const found = await session.query(
          `SELECT FROM pg_replication_slots WHERE slot_name = 'underway'`,
        );
        return found.length === 1;
      });
    }),
    'underway',
  );
  expect(start).toBeNull();
  await writer.script('COMMIT');
  const made = await making;
  expect(await ensureSlot(session, 'underway')).toBe(made);
});
