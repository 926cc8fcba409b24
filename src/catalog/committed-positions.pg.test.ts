import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openNewDatabase, openSession } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import type { Lsn } from '../base/lsn.ts';
import type { PgTime } from '../base/pg-time.ts';
import { sqlDir } from '../config/paths.ts';
import { until } from '../demo/until.ts';
import { embeddedMajors } from '../embedded/binaries.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import {
  commitStamped,
  ensureOrigin,
  originProgress,
  rollBack,
  setUpOrigin,
} from '../postgres/origins.ts';
import type { Session } from '../postgres/session.ts';
import { committedProgress, commitApplied, followCommitted } from './committed-positions.ts';
import { install } from './install.ts';
import { readSqlFiles } from './sql-files.ts';

// COMMIT of what has said NOTIFY waits for that of others, behind the triggers that move an origin.
describe.each([Math.min(...embeddedMajors()), 16, Math.max(...embeddedMajors())])(
  'a position moves with a commit that has said NOTIFY, on PostgreSQL %i',
  (major) => {
    let server: EmbeddedServer;
    let user: Session;
    let session: Session;
    let position = 1000;

    beforeAll(async () => {
      server = await startServer({
        major,
        settings: { synchronous_standby_names: 'nobody', synchronous_commit: 'local' },
      });
      user = await openNewDatabase(server, 'app');
      await install(user, readSqlFiles(sqlDir()));
      await ensureOrigin(user, 'provider');
      await user.script('CREATE TABLE public.item (v text)');
      session = await withOrigin();
    });
    afterAll(async () => {
      await session.close();
      await user.close();
      await server[Symbol.asyncDispose]();
    });
    beforeEach(async () => {
      await user.script('TRUNCATE public.item');
      position += 1000;
      await session.script('BEGIN');
      await commitStamped(session, position as Lsn);
    });

    async function withOrigin(): Promise<Session> {
      const opened = await openSession(server, 'app');
      await setUpOrigin(opened, 'provider');
      await opened.script('SET synchronous_commit = off');
      return opened;
    }

    async function commit(v: string): Promise<void> {
      await session.script(`BEGIN; INSERT INTO public.item VALUES ('${v}'); NOTIFY said`);
      await commitApplied(session, {
        position: (position + 500) as Lsn,
        time: 1_000_000 as PgTime,
        mayNotify: true,
      });
    }

    /** Somebody has said NOTIFY, and his commit waits for a standby that never comes. */
    async function whileOthersNotify(work: () => Promise<void>): Promise<void> {
      await using other = await openSession(server, 'app');
      await other.script('SET synchronous_commit = on');
      const said = other.script(
        `BEGIN; NOTIFY other; SELECT pg_logical_emit_message(true, 'test', ''); COMMIT`,
      );
      await until('a commit to wait', async () => {
        const rows = await user.query(
          `SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = ${other.pid}`,
        );
        return rows.length > 0;
      });
      try {
        await work();
      } finally {
        await user.query(`SELECT pg_cancel_backend(${other.pid})`);
        await said;
      }
    }

    const state = async () => {
      const [count] = await user.query('SELECT FROM public.item');
      return {
        rows: count ? 1 : 0,
        origin: await originProgress(user, 'provider', true),
        applied: await committedProgress(user, 'provider'),
      };
    };

    test('where it commits, with its stamp, and nothing is left to follow', async () => {
      await commit('x');
      expect(await state()).toEqual({ rows: 1, origin: position + 500, applied: position + 500 });
      expect(await user.query('SELECT FROM bdr.committed_position')).toEqual([]);
      const [row] = await user.query(
        `SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin) - '2000-01-01 00:00:00Z')::int::text AS s
         FROM public.item`,
      );
      expect(row).toEqual({ s: '1' });
    });

    test('and stays where the lock for that is refused', async () => {
      await session.script(`SET lock_timeout = '50ms'`);
      await whileOthersNotify(async () => {
        await expect(commit('x')).rejects.toMatchObject({ code: '55P03' });
      });
      await rollBack(session);
      expect(await state()).toEqual({ rows: 0, origin: position, applied: position });
    });

    test('and where the session is ended meanwhile', async () => {
      await session.script('SET lock_timeout = 0');
      await whileOthersNotify(async () => {
        const failed = expect(commit('x')).rejects.toThrow();
        await until('it to wait', async () => {
          const rows = await user.query(
            `SELECT pg_terminate_backend(pid) FROM pg_locks
             WHERE NOT granted AND classid = 'pg_database'::regclass AND pid = ${session.pid}`,
          );
          return rows.length > 0;
        });
        await failed;
      });
      session = await withOrigin();
      await followCommitted(session);
      expect(await state()).toEqual({ rows: 0, origin: position, applied: position });
    });

    test('after a crash between the two commits it follows', async () => {
      await user.run(`INSERT INTO bdr.committed_position VALUES ('provider', $1)`, [
        `0/${(position + 500).toString(16)}`,
      ]);
      expect(await state()).toEqual({ rows: 0, origin: position, applied: position + 500 });
      await followCommitted(session);
      expect(await state()).toEqual({ rows: 0, origin: position + 500, applied: position + 500 });
    });
  },
);
