import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Session } from './session.ts';
import { readUserCode } from './user-code.ts';

describe.each([14, 18])('users’ code that writing to a table runs, on PostgreSQL %i', (major) => {
  let server: EmbeddedServer;
  let session: Session;
  beforeAll(async () => {
    server = await startServer({ major });
    session = await openSession(server);
    await session.script(`
      CREATE ROLE mallory;
      CREATE SCHEMA app AUTHORIZATION mallory;
      SET SESSION AUTHORIZATION mallory;
      CREATE FUNCTION app.f(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END';
      CREATE FUNCTION app.greater(integer, integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
      CREATE OPERATOR app.>>> (LEFTARG = integer, RIGHTARG = integer, FUNCTION = app.greater);
      CREATE FUNCTION app.fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
      CREATE DOMAIN app.odd AS integer CHECK (app.f(VALUE) > 0);
      CREATE DOMAIN app.plain AS integer CHECK (VALUE > 0);
      CREATE TYPE app.pair AS (a integer, b app.odd);
      CREATE TYPE app.mood AS ENUM ('good', 'bad');
      CREATE FUNCTION app.mood_json(app.mood) RETURNS json LANGUAGE sql AS $$ SELECT '1'::json $$;
      CREATE CAST (app.mood AS json) WITH FUNCTION app.mood_json(app.mood);
      CREATE TYPE app.grade AS ENUM ('a', 'b');
      CREATE TYPE app.rank AS ENUM ('x', 'y');
      CREATE FUNCTION app.to_rank(text) RETURNS app.rank LANGUAGE sql AS $$ SELECT NULL::app.rank $$;
      CREATE CAST (text AS app.rank) WITH FUNCTION app.to_rank(text);
      RESET SESSION AUTHORIZATION;
      CREATE DOMAIN app.trusted AS integer CHECK (VALUE > 0);
    `);
  });
  afterAll(async () => {
    await session.close();
    await server[Symbol.asyncDispose]();
  });

  /** The places in a table `app.t` that is made so. */
  const placesOf = async (definition: string, more = '') => {
    await session.script(`CREATE TABLE app.t ${definition}; ${more}`);
    try {
      const [found] = await readUserCode(session, [{ schema: 'app', name: 't' }]);
      return found?.places;
    } finally {
      await session.script('DROP TABLE app.t CASCADE');
    }
  };

  test.each([
    '(id integer PRIMARY KEY, v text CHECK (v <> $$$$ AND length(lower(v)) < 9))',
    '(id serial PRIMARY KEY, made timestamptz DEFAULT now(), u uuid DEFAULT gen_random_uuid())',
    '(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a integer, b integer GENERATED ALWAYS AS (a * 2) STORED)',
    '(id app.trusted, many app.trusted[], r int4range, j jsonb CHECK (j ? $$a$$), UNIQUE (id))',
    '(g app.grade, gs app.grade[])',
  ])('is none in: %s', async (definition) => {
    expect(await placesOf(definition)).toEqual([]);
  });

  test.each([
    ['(id integer CONSTRAINT c CHECK (app.f(id) > 0))', 'CHECK constraint c: app.f(integer)'],
    [
      '(id integer CONSTRAINT c CHECK (id OPERATOR(app.>>>) 0))',
      'CHECK constraint c: app.greater(integer,integer)',
    ],
    [
      `(id integer CONSTRAINT c CHECK (query_to_xml('SELECT app.f(1)', true, true, '') IS NOT NULL))`,
      'CHECK constraint c: query_to_xml(text,boolean,boolean,text)',
    ],
    [
      `(id integer CONSTRAINT c CHECK (set_config('role', 'none', false) IS NOT NULL))`,
      'CHECK constraint c: set_config(text,text,boolean)',
    ],
    [
      '(id integer, g integer GENERATED ALWAYS AS (app.f(id)) STORED)',
      'generated column g: app.f(integer)',
    ],
    ['(id integer DEFAULT app.f(1))', 'default of column id: app.f(integer)'],
    ['(m app.mood)', 'cast of app.mood to json: app.mood_json(app.mood)'],
    ['(r app.rank)', 'cast of text to app.rank: app.to_rank(text)'],
    [
      '(v integer CONSTRAINT c CHECK (v::app.plain IS NOT NULL))',
      'CHECK constraint c: type app.plain',
    ],
  ])('is found in: %s', async (definition, place) => {
    expect(await placesOf(definition)).toEqual([place]);
  });

  const odd = ['domain app.odd: app.f(integer)', 'type app.odd of role mallory'];
  const pair = [...odd, 'type app.pair of role mallory'];
  test.each([
    ['(id app.odd)', odd, []],
    ['(ids app.odd[])', odd, ['ids']],
    ['(p app.pair)', pair, ['p']],
    ['(ps app.pair[])', pair, ['ps']],
    // Its owner may add a CHECK constraint without a lock on any table.
    ['(id app.plain)', ['type app.plain of role mallory'], []],
  ])('is found in the types of: %s', async (definition, places, opaqueColumns) => {
    await session.script(`CREATE TABLE app.t ${definition}`);
    const found = await readUserCode(session, [{ schema: 'app', name: 't' }]);
    await session.script('DROP TABLE app.t');
    expect(found).toMatchObject([{ places, opaqueColumns, hasUsersTypes: true }]);
  });

  test.each([
    ['CREATE INDEX x ON app.t (app.f(id))', 'index x: app.f(integer)'],
    ['CREATE INDEX x ON app.t (id) WHERE app.f(id) > 0', 'index x: app.f(integer)'],
    ['CREATE STATISTICS app.x ON (app.f(id)) FROM app.t', 'statistics x: app.f(integer)'],
    [
      'CREATE TRIGGER x BEFORE INSERT ON app.t FOR EACH ROW EXECUTE FUNCTION app.fire(); ALTER TABLE app.t ENABLE ALWAYS TRIGGER x',
      'trigger x: app.fire()',
    ],
    [
      'CREATE RULE x AS ON INSERT TO app.t DO ALSO SELECT app.f(1); ALTER TABLE app.t ENABLE REPLICA RULE x',
      'rule x',
    ],
  ])('is found behind: %s', async (more, place) => {
    expect(await placesOf('(id integer)', more)).toEqual([place]);
  });

  test('is none in triggers and rules that do not fire in replica role', async () => {
    const more = `
      CREATE TRIGGER x BEFORE INSERT ON app.t FOR EACH ROW EXECUTE FUNCTION app.fire();
      CREATE RULE x AS ON INSERT TO app.t DO ALSO SELECT app.f(1)`;
    expect(await placesOf('(id integer)', more)).toEqual([]);
  });

  test('is found in what partitions are checked against', async () => {
    await session.script(`
      CREATE TABLE app.p (id integer) PARTITION BY LIST (app.f(id));
      CREATE TABLE app.p1 PARTITION OF app.p FOR VALUES IN (1)`);
    const places = ['partition key of app.p: app.f(integer)'];
    expect(await readUserCode(session, [{ schema: 'app', name: 'p1' }])).toMatchObject([
      {
        table: { schema: 'app', name: 'p1' },
        isOwnersTrusted: true,
        places,
        untrusted: places,
      },
    ]);
  });
});
