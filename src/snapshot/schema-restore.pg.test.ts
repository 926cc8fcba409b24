import { afterAll, beforeAll, expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Session } from '../postgres/session.ts';
import type { DumpEntry } from './dump-archive.ts';
import { SchemaRestore } from './schema-restore.ts';

let server: EmbeddedServer;
let session: Session;
beforeAll(async () => {
  server = await startServer({ major: 18 });
  session = await openSession(server);
  await session.script('CREATE ROLE mallory; CREATE SCHEMA app AUTHORIZATION mallory');
});
afterAll(async () => {
  await session?.close();
  await server?.[Symbol.asyncDispose]();
});

const entry = (section: DumpEntry['section'], type: string, sql: string): DumpEntry => ({
  section,
  type,
  name: 'x',
  schema: 'app',
  owner: 'mallory',
  sql,
});
const options = { onProgress: () => Promise.resolve(), now: () => performance.now() };

const BODY = `BEGIN RAISE EXCEPTION 'it runs as %', current_user; END`;

// As pg_dump does where its body depends on a primary key.
test('a function that a dump makes behind the rows runs for no definition after it', async () => {
  const restore = new SchemaRestore(
    [
      entry(
        'pre-data',
        'TABLE',
        'CREATE TABLE app.a (id integer); CREATE TABLE app.b (id integer)',
      ),
    ],
    [
      entry('post-data', 'CONSTRAINT', 'ALTER TABLE app.a ADD PRIMARY KEY (id)'),
      entry(
        'post-data',
        'FUNCTION',
        `CREATE FUNCTION app.f(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $f$${BODY}$f$;
         ALTER FUNCTION app.f(integer) OWNER TO mallory`,
      ),
      entry('post-data', 'INDEX', 'CREATE INDEX ON app.b (id) WHERE app.f(1) > 0'),
      entry(
        'post-data',
        'FK CONSTRAINT',
        'ALTER TABLE app.b ADD FOREIGN KEY (id) REFERENCES app.a',
      ),
    ],
  );
  await restore.beforeRows(session, new Set());
  await session.script('ALTER TABLE app.a OWNER TO mallory; ALTER TABLE app.b OWNER TO mallory');
  await using other = await openSession(server);
  await restore.afterRows(other, options);
  expect(await session.query(`SELECT prosrc FROM pg_proc WHERE proname = 'f'`)).toEqual([
    { prosrc: BODY },
  ]);
});

test('a foreign key that rows of the source break says how they are found', async () => {
  const restore = new SchemaRestore(
    [
      entry(
        'pre-data',
        'TABLE',
        'CREATE TABLE app.p (id integer PRIMARY KEY); CREATE TABLE app.c (p integer)',
      ),
    ],
    [
      entry(
        'post-data',
        'FK CONSTRAINT',
        'ALTER TABLE app.c ADD CONSTRAINT of_p FOREIGN KEY (p) REFERENCES app.p',
      ),
    ],
  );
  await using first = await openSession(server);
  await restore.beforeRows(first, new Set());
  await session.script('INSERT INTO app.c VALUES (5)');
  await using second = await openSession(server);
  await expect(restore.afterRows(second, options)).rejects.toMatchObject({
    code: 'schema_copy_failed',
    sqlstate: '23503',
    detail: 'Key (p)=(5) is not present in table "p".',
    hint: expect.stringContaining('SELECT * FROM bdr.bdr_orphans() on the source') as string,
  });
});
