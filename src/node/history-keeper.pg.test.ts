import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openNewDatabase, openSession } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import { readEnvironment } from '../config/environment.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { resolveConninfo } from '../postgres/conninfo.ts';
import type { Session } from '../postgres/session.ts';
import { HistoryKeeper } from './history-keeper.ts';
import { readHistorySettings, SharedHistoryOptions } from './history-settings.ts';
import { createThreadLog, type LogLine } from './thread-log.ts';

const RETENTION = 'bdr.conflict_history_retention';
const DAY_MS = 86_400_000;

let server: EmbeddedServer;
let session: Session;
let lines: LogLine[];
let keeper: HistoryKeeper;
const { signal } = new AbortController();

beforeAll(async () => {
  server = await startServer();
  session = await openNewDatabase(server, 'app');
});
afterAll(async () => {
  await session?.close();
  await server?.[Symbol.asyncDispose]();
});
beforeEach(async () => {
  await session.script('ALTER DATABASE app RESET ALL; TRUNCATE bdr.bdr_conflict_history');
  lines = [];
  keeper = new HistoryKeeper(
    resolveConninfo(server.dsn('app'), readEnvironment()),
    createThreadLog((line) => lines.push(line)),
  );
});

const look = () => keeper.look(session, signal);
const set = (name: string, value: string) =>
  session.script(`ALTER DATABASE app SET ${name} = '${value}'`);

/** Conflicts of so many days ago. */
async function happened(days: readonly number[], on = session): Promise<void> {
  await on.query(
    `INSERT INTO bdr.bdr_conflict_history (
         local_node_sysid, local_conflict_xid, local_conflict_lsn, local_conflict_time, remote_node_sysid, remote_txid,
         remote_commit_time, remote_commit_lsn, conflict_type, conflict_resolution, row_key, policy, rule, action,
         certainly_concurrent
     )
     SELECT '1', '1', '0/1', clock_timestamp() - make_interval(days => day), '1', '1', now(), '0/1', 'update_update',
            'skip_change', json_build_object('day', day), 'last_update_wins', 'greater_version', 'skip', true
     FROM unnest($1::integer[]) AS day`,
    [`{${days.join(',')}}`],
  );
}

async function left(): Promise<number[]> {
  const rows = await session.query<{ day: string }>(
    `SELECT row_key->>'day' AS day FROM bdr.bdr_conflict_history ORDER BY conflict_id`,
  );
  return rows.map(({ day }) => Number(day));
}

describe('the settings', () => {
  async function settings() {
    await using fresh = await openSession(server, 'app');
    return await readHistorySettings(fresh);
  }

  test('are by default: all of it, for thirty days', async () => {
    expect(await settings()).toEqual({
      isKept: true,
      withRows: true,
      retentionMs: 30 * DAY_MS,
      invalid: [],
    });
  });

  test.each([
    ['90 days', 90 * DAY_MS],
    ['12 hours', DAY_MS / 2],
    // Without a unit it counts days.
    ['7', 7 * DAY_MS],
    ['0', Infinity],
    ['-1', Infinity],
    ['100000 years', Infinity],
  ])('keep conflicts for %s', async (value, ms) => {
    await set(RETENTION, value);
    expect(await settings()).toMatchObject({ retentionMs: ms, invalid: [] });
  });

  test('that mean nothing leave nothing out, and are named', async () => {
    await set(RETENTION, 'a while');
    await set('bdr.log_conflicts_to_table', 'perhaps');
    await set('bdr.conflict_logging_include_tuples', 'off');
    expect(await settings()).toEqual({
      isKept: true,
      withRows: false,
      retentionMs: Infinity,
      invalid: [
        {
          name: 'bdr.log_conflicts_to_table',
          message: expect.stringContaining('"perhaps"') as string,
        },
        { name: RETENTION, message: expect.stringContaining('"a while"') as string },
      ],
    });
  });

  test('are read again when they have changed, though the session stays the same', async () => {
    await look();
    const there = new SharedHistoryOptions(keeper.options.shared);
    expect([there.isKept, there.withRows]).toEqual([true, true]);
    await set('bdr.log_conflicts_to_table', 'off');
    await look();
    expect([there.isKept, there.withRows]).toEqual([false, true]);
    await session.script('ALTER DATABASE app RESET bdr.log_conflicts_to_table');
    await set('bdr.conflict_logging_include_tuples', 'off');
    await look();
    expect([there.isKept, there.withRows]).toEqual([true, false]);
  });

  test('that are not valid are told of once, and nothing is forgotten by them', async () => {
    await happened([1000]);
    await set(RETENTION, 'a while');
    await look();
    await look();
    expect(lines.map(({ level, fields }) => [level, fields['setting']])).toEqual([
      ['warn', RETENTION],
    ]);
    expect(await left()).toEqual([1000]);
  });
});

describe('conflicts', () => {
  test('that are older than they are to be kept are forgotten, and no others', async () => {
    await happened([31, 29, 400, 0]);
    await look();
    expect(await left()).toEqual([29, 0]);
    await set(RETENTION, '1 day');
    await look();
    expect(await left()).toEqual([0]);
  });

  test('are kept for ever where the setting says so', async () => {
    await set(RETENTION, '-1');
    await happened([31, 100_000]);
    await look();
    expect(await left()).toEqual([31, 100_000]);
  });

  test('go many at a time, as long as there are more', async () => {
    const old = Array.from({ length: 2500 }, (_, index) => 31 + (index % 7));
    await happened([...old, 3]);
    // What one look leaves to the next depends on the machine.
    for (let looks = 0; looks < 3; looks++) await look();
    expect(await left()).toEqual([3]);
  });

  test('that somebody holds are left for later, and nobody is waited for', async () => {
    await using other = await openSession(server, 'app');
    await happened([31, 32]);
    await other.script(
      `BEGIN; SELECT FROM bdr.bdr_conflict_history WHERE row_key->>'day' = '31' FOR UPDATE`,
    );
    await look();
    expect(await left()).toEqual([31]);
    await other.script('ROLLBACK; BEGIN; LOCK TABLE bdr.bdr_conflict_history');
    await set(RETENTION, '2 days');
    await look();
    await other.script('ROLLBACK');
    expect(await left()).toEqual([31]);
    await set(RETENTION, '3 days');
    await look();
    expect(await left()).toEqual([]);
    expect(lines).toEqual([]);
  });

  test('are forgotten beside an apply transaction that records others', async () => {
    await using apply = await openSession(server, 'app');
    await happened([31]);
    await apply.script('BEGIN');
    await happened([1], apply);
    await look();
    await apply.script('COMMIT');
    expect(await left()).toEqual([1]);
  });

  test('that cannot be forgotten stop nothing, and that is said once', async () => {
    await happened([31]);
    await session.script(`
      CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;
      CREATE TRIGGER refuse BEFORE DELETE ON bdr.bdr_conflict_history FOR EACH ROW EXECUTE FUNCTION public.refuse()`);
    await look();
    await look();
    await session.script('DROP FUNCTION public.refuse CASCADE');
    expect(lines.map(({ fields }) => fields['message'])).toEqual(['not this one']);
    await look();
    expect(await left()).toEqual([]);
  });
});
