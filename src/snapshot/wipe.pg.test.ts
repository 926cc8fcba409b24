import { describe, expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import type { Session } from '../postgres/session.ts';
import { objectsBefore, wipeDatabase } from './wipe.ts';

/** One of everything that can stand in schema public, or in none; two of what may hide another. */
const SCHEMA = `
  CREATE TABLE public.plain (id serial PRIMARY KEY, at timestamptz GENERATED ALWAYS AS (NULL) STORED);
  CREATE TABLE public.numbered (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
  CREATE TABLE public.parts (id integer, note text) PARTITION BY RANGE (id, lower(note));
  CREATE TABLE public.parts_all PARTITION OF public.parts DEFAULT PARTITION BY LIST (id);
  CREATE TABLE public.parts_all_all PARTITION OF public.parts_all DEFAULT;
  CREATE TABLE public.child () INHERITS (public.plain);
  CREATE SEQUENCE public.numbers;
  CREATE VIEW public.seen AS SELECT * FROM public.plain;
  CREATE MATERIALIZED VIEW public.kept AS SELECT * FROM public.seen;
  CREATE TYPE public.mood AS ENUM ('well');
  CREATE TYPE public.pair AS (a integer, b public.mood);
  CREATE TYPE public.span AS RANGE (subtype = float8);
  CREATE DOMAIN public.short AS text CHECK (length(VALUE) < 9);
  CREATE TYPE public.shell;
  CREATE FUNCTION public.f(a integer) RETURNS integer LANGUAGE sql AS 'SELECT a';
  CREATE PROCEDURE public.p() LANGUAGE sql AS '';
  CREATE AGGREGATE public.total(integer) (SFUNC = int4pl, STYPE = integer);
  CREATE OPERATOR public.=== (FUNCTION = int4eq, LEFTARG = integer, RIGHTARG = integer);
  CREATE OPERATOR FAMILY public.family USING btree;
  CREATE OPERATOR CLASS public.class FOR TYPE public.mood USING btree FAMILY public.family AS
      OPERATOR 1 < (anyenum, anyenum), FUNCTION 1 enum_cmp(anyenum, anyenum);
  CREATE COLLATION public.sorted FROM "C";
  CREATE CONVERSION public.turned FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
  CREATE TEXT SEARCH CONFIGURATION public.config (COPY = english);
  CREATE TEXT SEARCH DICTIONARY public.dictionary (TEMPLATE = simple);
  CREATE STATISTICS public.statistics ON id, note FROM public.parts;
  CREATE FOREIGN DATA WRAPPER wrapper;
  CREATE SERVER far FOREIGN DATA WRAPPER wrapper;
  CREATE USER MAPPING FOR PUBLIC SERVER far;
  CREATE FOREIGN TABLE public.outside (a integer) SERVER far;
  CREATE CAST (public.mood AS integer) WITH INOUT;
  CREATE FUNCTION public.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
  CREATE EVENT TRIGGER looks ON ddl_command_end EXECUTE FUNCTION public.on_ddl();
  CREATE ACCESS METHOD way TYPE TABLE HANDLER heap_tableam_handler;
  CREATE EXTENSION pgcrypto SCHEMA public;
  CREATE SCHEMA other;
  CREATE TABLE other.parts (id integer) PARTITION BY HASH (id);
`;

const CATALOGS = [
  'class|rel',
  'proc|pro',
  'type|typ',
  'operator|opr',
  'opclass|opc',
  'opfamily|opf',
  'collation|coll',
  'conversion|con',
  'ts_config|cfg',
  'ts_dict|dict',
  'statistic_ext|stx',
  'foreign_server|srv',
  'foreign_data_wrapper|fdw',
  'event_trigger|evt',
  'am|am',
  'namespace|nsp',
  'extension|ext',
].map((entry) => entry.split('|') as [string, string]);

/** Every object that is not the server's own, by its name. */
async function objects(session: Session): Promise<string[]> {
  const found: string[] = [];
  for (const [catalog, prefix] of CATALOGS) {
    const rows = await session.query<{ name: string }>(
      `SELECT '${catalog} ' || ${prefix}name AS name FROM pg_${catalog} WHERE oid >= 16384 ORDER BY 1`,
    );
    found.push(...rows.map(({ name }) => name));
  }
  return found;
}

describe.each([14, 18])('on PostgreSQL %i', (major) => {
  test('what a copy has made goes, to the last object, and what was there stays', async () => {
    await using server = await startServer({ major });
    await using session = await openSession(server);
    await session.script(
      "CREATE FUNCTION public.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    );
    const before = await objects(session);
    const kept = await objectsBefore(session);
    await session.script(SCHEMA);
    expect((await objects(session)).length).toBeGreaterThan(before.length + 40);
    await wipeDatabase(session, kept);
    expect(await objects(session)).toEqual(before);
    // As the next try does.
    await session.script(SCHEMA);
  });
});
