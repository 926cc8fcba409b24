import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import { until } from '../../test/support/cluster.ts';
import { openOrdinaryRole } from '../../test/support/ordinary-role.ts';
import { startServer } from '../../test/support/servers.ts';
import { runRestricted } from '../catalog/restricted.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Relation } from '../pgoutput/transaction.ts';
import type { Session } from '../postgres/session.ts';
import { TableMap } from './table-map.ts';

const relation = (name: string): Relation => ({
  id: 1,
  schema: 'app',
  name,
  replicaIdentity: 'default',
  columns: [{ name: 'id', isKey: true, typeOid: 23, typmod: -1 }],
});

describe.each([14, 18])('tables of ordinary roles, on PostgreSQL %i', (major) => {
  let server: EmbeddedServer;
  let session: Session;
  let owner: Session;
  let mallory: string;

  beforeAll(async () => {
    server = await startServer({ major });
    ({ session, owner } = await openOrdinaryRole(server));
    await owner.script(`
      CREATE FUNCTION app.f(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END';
      CREATE DOMAIN app.odd AS integer;
      CREATE TYPE app.mood AS ENUM ('good');
      CREATE TABLE app.plain (id integer PRIMARY KEY);
      CREATE TABLE app.moods (id integer PRIMARY KEY, m app.mood);
      CREATE TABLE app.code (id integer PRIMARY KEY CHECK (app.f(id) > 0));
      CREATE TABLE app.opaque (id app.odd[] PRIMARY KEY);
    `);
    const [role] = await session.query<{ oid: string }>(
      `SELECT oid FROM pg_roles WHERE rolname = 'mallory'`,
    );
    mallory = role?.oid ?? '';
  });
  afterAll(async () => {
    await owner?.close();
    await session?.close();
    await server?.[Symbol.asyncDispose]();
  });

  // The notes of those commands are thinned out meanwhile, which an older snapshot does not see.
  test('commands under an older snapshot are not disturbed by the notes of others', async () => {
    await owner.script('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
    for (let n = 0; n < 40; n++) {
      await session.script(`COMMENT ON TABLE app.of_superuser IS '${n}'`);
    }
    await owner.script(`CREATE TABLE app.late (id integer PRIMARY KEY); COMMIT`);
    await session.script(`COMMENT ON TABLE app.of_superuser IS NULL`);
    const [kept] = await session.query<{ count: string }>(
      'SELECT count(*) AS count FROM bdr.definition_change',
    );
    expect(Number(kept?.count)).toBeLessThanOrEqual(17);
  });

  test('what is known outlives errors that say nothing about tables, and no others', async () => {
    const tables = new TableMap(session);
    const errorOf = async (text: string): Promise<unknown> =>
      session.script(text).then(
        () => expect.fail(`no error: ${text}`),
        (error: unknown) => error,
      );
    const plain = relation('plain');
    await session.script('INSERT INTO app.plain VALUES (1)');
    const isForgottenAfter = async (text: string) => {
      const known = await tables.seek(plain);
      tables.doubt(await errorOf(text));
      return (await tables.seek(plain)) !== known;
    };
    expect(await isForgottenAfter('INSERT INTO app.plain VALUES (1)')).toBe(false);
    await owner.script('BEGIN; SELECT FROM app.plain FOR UPDATE');
    expect(
      await isForgottenAfter(`SET lock_timeout = '1ms'; DELETE FROM app.plain WHERE id = 1`),
    ).toBe(false);
    await owner.script('ROLLBACK');
    expect(await isForgottenAfter('SELECT lost FROM app.plain')).toBe(true);
    await session.script(`SET lock_timeout = '0'; DELETE FROM app.plain`);
  });

  test('only what runs code is read and written with the owner’s rights', async () => {
    const tables = new TableMap(session);
    const trust = async (name: string) => {
      const table = await tables.seek(relation(name));
      return { role: table?.role, hold: table?.hold };
    };
    expect(await trust('of_superuser')).toEqual({ role: undefined, hold: 'nothing' });
    expect(await trust('plain')).toEqual({ role: undefined, hold: 'table' });
    expect(await trust('moods')).toEqual({ role: undefined, hold: 'table and casts' });
    expect(await trust('code')).toEqual({ role: mallory, hold: 'table' });
    await expect(trust('opaque')).rejects.toMatchObject({ code: 'apply_failed' });
  });

  test('a definition that changes before the table is locked is read again, one after it has to wait', async () => {
    const tables = new TableMap(session);
    const plain = relation('plain');
    expect((await tables.seek(plain))?.role).toBeUndefined();
    await owner.script('ALTER TABLE app.plain ADD CHECK (app.f(id) > 0)');
    await session.script('BEGIN');
    expect((await tables.find(plain)).role).toBe(mallory);
    await owner.script(`SET lock_timeout = '50ms'`);
    const later = owner.script('ALTER TABLE app.plain ADD CHECK (app.f(id) > 1)');
    await expect(later).rejects.toMatchObject({ code: '55P03' });
    const mood = relation('moods');
    await tables.find(mood);
    await owner.script(
      `CREATE FUNCTION app.to_mood(text) RETURNS app.mood LANGUAGE sql AS 'SELECT NULL::app.mood'`,
    );
    const cast = owner.script('CREATE CAST (text AS app.mood) WITH FUNCTION app.to_mood(text)');
    await expect(cast).rejects.toMatchObject({ code: '55P03' });
    await session.script('ROLLBACK');
  });

  // An index takes rows before the command that builds it concurrently has ended: with the rights of apply, if that is not known.
  test('an index that is being built concurrently is known before it takes rows', async () => {
    await using holder = await openSession(server, 'app');
    await using builder = await openSession(server, 'app');
    await owner.script('CREATE TABLE app.busy (id integer PRIMARY KEY)');
    const tables = new TableMap(session);
    const before = await tables.seek(relation('busy'));
    if (!before) throw new Error('no table');
    expect(before.role).toBeUndefined();
    // Keeps the index from going on once it is in the catalogs.
    await holder.script('BEGIN; LOCK TABLE app.busy IN ROW EXCLUSIVE MODE');
    const building = builder.query('CREATE INDEX CONCURRENTLY busy_f ON app.busy (app.f(id))');
    await until('the index to be in the catalogs', async () => {
      const [row] = await session.query<{ there: string }>(
        `SELECT to_regclass('app.busy_f') IS NOT NULL AS there`,
      );
      return row?.there === 't';
    });
    await session.script('BEGIN');
    expect(await tables.hold(before)).toBe(false);
    expect((await tables.find(relation('busy'))).role).toBe(mallory);
    await session.script('ROLLBACK');
    await holder.script('ROLLBACK');
    await building;
  });

  test.each([
    ['RESET ROLE', /security-restricted operation/],
    ['RESET SESSION AUTHORIZATION', /security-restricted operation/],
    ['ALTER ROLE mallory SUPERUSER', /permission denied|must be superuser/],
    ['DECLARE c CURSOR WITH HOLD FOR SELECT 1', /security-restricted operation/],
    ['PREPARE bdr_1 AS SELECT 1', /security-restricted operation/],
    ['CREATE TEMP TABLE t ()', /security-restricted operation/],
    ['CREATE TABLE app.other ()', /definitions have changed while code of role "mallory" ran/],
    ['ALTER TABLE bdr_guard.x OWNER TO mallory', /permission denied for schema bdr_guard/],
  ])('with those rights, %s is refused', async (command, message) => {
    await expect(runRestricted(session, mallory, command)).rejects.toThrow(message);
  });

  test('no setting is left behind, and the answer is that of the statement', async () => {
    const settings = () =>
      session.query(`SELECT name, setting FROM pg_settings WHERE source = 'session' ORDER BY name`);
    await session.script(`SET session_replication_role = replica; SET lock_timeout = '7s'`);
    const before = await settings();
    for (const command of ['RESET ALL', `SET search_path = app`, `SET datestyle = 'German'`]) {
      await runRestricted(session, mallory, command);
    }
    expect(await settings()).toEqual(before);
    expect(
      await runRestricted(
        session,
        mallory,
        `SELECT current_user || ' ' || current_setting('session_replication_role')`,
      ),
    ).toBe('mallory replica');
    expect(await runRestricted(session, mallory, 'INSERT INTO app.code VALUES (1), (2)')).toBe('2');
    expect(await runRestricted(session, mallory, 'DELETE FROM app.code WHERE id = 7')).toBe('0');
  });

  test('after an error, or when its table is gone, it works again', async () => {
    await expect(
      runRestricted(session, mallory, 'INSERT INTO app.code VALUES (-1)'),
    ).rejects.toMatchObject({ code: '23514' });
    expect(await runRestricted(session, mallory, `SELECT 'a'`)).toBe('a');
    await session.script(`DROP TABLE bdr_guard.role_${mallory}`);
    expect(await runRestricted(session, mallory, `SELECT 'b'`)).toBe('b');
  });
});
