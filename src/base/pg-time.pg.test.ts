import { expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import { formatPgTime, LONG_AGO, pgTimeSql, type PgTime } from './pg-time.ts';

test('a server reads a moment as it was written, and writes it as it was read', async () => {
  await using server = await startServer();
  await using session = await openSession(server);
  const moments = [0, 1, -1, 999_999, 1_000_001, 845_000_000_123_456, -62_135_596_800_000_000];
  // A double is exact up to 2^53 microseconds: the year 2285.
  for (const time of [...moments, 2 ** 53 - 1] as PgTime[]) {
    const [row] = await session.query<{ time: string }>(
      `SELECT ${pgTimeSql('$1::timestamptz')} AS time`,
      [formatPgTime(time)],
    );
    expect([time, Number(row?.time)]).toEqual([time, time]);
  }
  const [row] = await session.query<{ past: string }>(
    `SELECT $1::timestamptz < '4713-01-01 BC' AS past`,
    [formatPgTime(LONG_AGO)],
  );
  expect(row?.past).toBe('t');
});
