import { until } from '../../src/demo/until.ts';
import type { BenchDatabase } from '../database.ts';
import { seeMarker, writeMarker } from '../marker.ts';
import type { Stream, System } from './system.ts';

/** The walsender that reads from a slot. */
export async function streamOf(provider: BenchDatabase, slot: string): Promise<Stream | undefined> {
  const row = await provider.ask<{ pid: string; ms: string }>(
    'stream',
    /* sql */ `
      SELECT r.pid, extract(epoch FROM r.backend_start) * 1000 AS ms
      FROM pg_replication_slots AS s
      JOIN pg_stat_replication AS r ON r.pid = s.active_pid
      WHERE s.slot_name = $1
    `,
    [slot],
  );
  return row && { walsenderPid: Number(row.pid), startedAtMs: Number(row.ms) };
}

/**
 * Moves all slots of both databases past what was written so far. A walsender that starts anew decodes from its slot's restart
 * position, which stands still until the log has told of the running transactions and the subscriber has confirmed that place:
 * without this, each run would decode the work of those before it once more.
 */
export async function moveSlots(system: System): Promise<void> {
  const marks = await Promise.all(
    [
      [system.a, system.b],
      [system.b, system.a],
    ].map(async ([database, other]) => {
      if (!database || !other) throw new Error('two databases');
      const [row] = await database.query<{ lsn: string }>(
        `SELECT pg_current_wal_insert_lsn() AS lsn`,
      );
      return { database, other, lsn: row?.lsn ?? '' };
    }),
  );
  await until(
    `the slots of ${system.name} move on`,
    async () => {
      system.check();
      for (const { database, other, lsn } of marks) {
        await database.query(`SELECT pg_log_standby_snapshot()`);
        const marker = await writeMarker(database);
        // Behind all that was written to either server since, the other system's rows included.
        const arrived = async () => {
          system.check();
          return seeMarker(other, marker);
        };
        await until('a marker arrives', arrived, { deadlineMs: 300_000 });
        if (!(await slotsPast(database, lsn))) return false;
      }
      return true;
    },
    { deadlineMs: 300_000, everyMs: 100 },
  );
}

async function slotsPast(database: BenchDatabase, lsn: string): Promise<boolean> {
  const [row] = await database.query<{ past: string }>(
    /* sql */ `
      SELECT bool_and(restart_lsn >= $1::pg_lsn AND confirmed_flush_lsn >= $1::pg_lsn) AS past
      FROM pg_replication_slots
      WHERE database = current_database()
    `,
    [lsn],
  );
  return row?.past === 't';
}
