import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { openNewDatabase, openSession } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import type { Lsn } from '../base/lsn.ts';
import type { PgTime } from '../base/pg-time.ts';
import { until } from '../demo/until.ts';
import { embeddedMajors } from '../embedded/binaries.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { commitStamped, ensureOrigin, originProgress, rollBack, setUpOrigin } from './origins.ts';
import type { Session } from './session.ts';

// From 16 on the server moves an origin also where a transaction aborts, to the position that was set up for it.
describe.each([Math.min(...embeddedMajors()), 16, Math.max(...embeddedMajors())])(
  'a position moves with its commit alone, on PostgreSQL %i',
  (major) => {
    let server: EmbeddedServer;
    let user: Session;
    let session: Session;

    beforeAll(async () => {
      server = await startServer({ major });
      user = await openNewDatabase(server, 'app');
      await ensureOrigin(user, 'provider');
      await user.script(`
        CREATE SCHEMA app;
        CREATE TABLE app.t (what text);
        CREATE TABLE app.inner_t (what text);
        CREATE FUNCTION app.late() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.what = 'fails' THEN RAISE EXCEPTION 'late'; END IF;
            IF NEW.what = 'sleeps' THEN PERFORM pg_sleep(600); END IF;
            IF NEW.what = 'goes on' THEN INSERT INTO app.inner_t VALUES ('fails'); END IF;
            RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER late AFTER INSERT ON app.t DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION app.late();
        CREATE CONSTRAINT TRIGGER late AFTER INSERT ON app.inner_t DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION app.late();
        ALTER TABLE app.t ENABLE ALWAYS TRIGGER late;
        ALTER TABLE app.inner_t ENABLE ALWAYS TRIGGER late`);
      session = await openSession(server, 'app');
      await setUpOrigin(session, 'provider');
      await session.script(`BEGIN; INSERT INTO app.t VALUES ('first')`);
      await commitStamped(session, 1000 as Lsn);
    });
    afterAll(async () => {
      await session.close();
      await user.close();
      await server[Symbol.asyncDispose]();
    });

    const rows = () => user.query('SELECT what FROM app.t ORDER BY what');

    test.each(['fails', 'goes on'])('not where the commit fails: %s', async (what) => {
      await session.script(`BEGIN; INSERT INTO app.t VALUES ('${what}')`);
      await expect(commitStamped(session, 2000 as Lsn)).rejects.toMatchObject({ message: 'late' });
      await rollBack(session);
      expect(await originProgress(user, 'provider', true)).toBe(1000);
    });

    test('not where the commit is cancelled', async () => {
      await session.script(`BEGIN; INSERT INTO app.t VALUES ('sleeps')`);
      const committed = commitStamped(session, 3000 as Lsn);
      const failed = expect(committed).rejects.toMatchObject({ code: '57014' });
      await until('the commit sleeps', async () => {
        const sleeping = await user.query(`
          SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'`);
        return sleeping.length > 0;
      });
      await failed;
      await rollBack(session);
      expect(await originProgress(user, 'provider', true)).toBe(1000);
    });

    test('and where a transaction is committed, with its stamp', async () => {
      await session.script(`BEGIN; INSERT INTO app.t VALUES ('last')`);
      await commitStamped(session, 4000 as Lsn, 1_000_000 as PgTime);
      expect(await originProgress(user, 'provider', true)).toBe(4000);
      expect(await rows()).toEqual([{ what: 'first' }, { what: 'last' }]);
      const [row] = await user.query(
        `SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin) - '2000-01-01 00:00:00Z')::int::text AS s
         FROM app.t WHERE what = 'last'`,
      );
      expect(row).toEqual({ s: '1' });
    });

    /** Commits when so many milliseconds have passed, for this process. */
    async function commitLater(ms: number, position: Lsn): Promise<void> {
      const clock = vi.spyOn(performance, 'now').mockReturnValue(performance.now() + ms);
      try {
        await session.script('BEGIN');
        await commitStamped(session, position);
      } finally {
        clock.mockRestore();
      }
    }

    test('and what it takes does not grow old, however long the session lives', async () => {
      const age = async () => {
        const [row] = await session.query<{ age: string }>(
          `SELECT age(relfrozenxid) AS age FROM pg_class WHERE oid = 'pg_temp.bdr_leaving'::regclass`,
        );
        return Number(row?.age);
      };
      await user.script(`
        CREATE PROCEDURE app.burn() LANGUAGE plpgsql AS $$
        BEGIN FOR i IN 1..1000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$;`);
      await user.script('CALL app.burn()');
      expect(await age()).toBeGreaterThan(1000);
      await commitLater(3_700_000, 4500 as Lsn);
      expect(await age()).toBeLessThan(100);
    });

    test('nor is a commit undone when that cannot be had at the moment', async () => {
      const [row] = await session.query<{ name: string }>(
        `SELECT format('%I.bdr_leaving', nspname) AS name FROM pg_namespace WHERE oid = pg_my_temp_schema()`,
      );
      await user.script(`BEGIN; LOCK TABLE ${row?.name} IN SHARE UPDATE EXCLUSIVE MODE`);
      await session.script(`SET lock_timeout = '10ms'`);
      try {
        await commitLater(7_400_000, 4600 as Lsn);
      } finally {
        await user.script('ROLLBACK');
      }
      expect(await originProgress(user, 'provider', true)).toBe(4600);
    });

    test('nor where nothing was written, and after an error the next one moves it', async () => {
      await session.script('BEGIN');
      await commitStamped(session, 5000 as Lsn);
      expect(await originProgress(user, 'provider', true)).toBe(5000);
    });
  },
);
