import { afterAll, beforeAll, expect, test } from 'vitest';
import { openNewDatabase } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Session } from '../postgres/session.ts';

let server: EmbeddedServer;
let session: Session;
beforeAll(async () => {
  server = await startServer();
  session = await openNewDatabase(server, 'app');
});
afterAll(async () => {
  await session.close();
  await server[Symbol.asyncDispose]();
});

/** Runs a script as apply does, which checks no foreign key. */
const asApply = (script: string) =>
  session.script(
    `SET session_replication_role = replica; ${script}; RESET session_replication_role`,
  );

/** "table constraint referenced-key row-key" of each orphan. */
async function orphans(of?: string): Promise<string[]> {
  const rows = await session.query<Record<'table' | 'name' | 'parent' | 'key' | 'row', string>>(
    `SELECT table_name::text AS table, constraint_name AS name, referenced_table::text AS parent,
            referenced_key::text AS key, row_key::text AS row
     FROM bdr.bdr_orphans($1::regclass) ORDER BY 1, 2, 5`,
    [of ?? null],
  );
  return rows.map(
    ({ table, name, parent, key, row }) => `${table} ${name} ${parent} ${key} ${row}`,
  );
}

test('a child whose parent is gone is listed, with the key it refers to and its own', async () => {
  await session.script(`
    CREATE TABLE public."Owner" ("Id" numeric PRIMARY KEY);
    CREATE TABLE public.item (
      id integer PRIMARY KEY,
      owner numeric CONSTRAINT belongs REFERENCES public."Owner",
      part_of integer CONSTRAINT contains REFERENCES public.item
    );
    INSERT INTO public."Owner" VALUES (1.0), (2);
    INSERT INTO public.item VALUES (10, 1.00, NULL), (11, NULL, 10), (12, 2, NULL)`);
  expect(await orphans()).toEqual([]);
  await asApply('DELETE FROM public."Owner" WHERE "Id" = 2; DELETE FROM public.item WHERE id = 10');
  expect(await orphans()).toEqual([
    'public.item belongs public."Owner" {"Id": 2} {"id": 12}',
    'public.item contains public.item {"id": 10} {"id": 11}',
  ]);
});

test('only of the table that is asked for', async () => {
  await session.script(`
    CREATE TABLE public.note (text text, item integer CONSTRAINT about REFERENCES public.item)`);
  await asApply(`INSERT INTO public.note VALUES ('no key', 99)`);
  expect(await orphans('public.note')).toEqual([
    'public.note about public.item {"id": 99} {"item": 99, "text": "no key"}',
  ]);
});

test('MATCH SIMPLE asks nothing where a column is null, MATCH FULL does', async () => {
  await session.script(`
    CREATE TABLE public.pair (a integer, b integer, PRIMARY KEY (a, b));
    CREATE TABLE public.simple (id integer PRIMARY KEY, a integer, b integer, CONSTRAINT s FOREIGN KEY (a, b) REFERENCES public.pair);
    CREATE TABLE public.full (id integer PRIMARY KEY, a integer, b integer,
      CONSTRAINT f FOREIGN KEY (a, b) REFERENCES public.pair MATCH FULL)`);
  for (const table of ['simple', 'full']) {
    await asApply(`INSERT INTO public.${table} VALUES (1, NULL, NULL), (2, 7, NULL), (3, 7, 8)`);
  }
  expect(await orphans('public.simple')).toEqual([
    'public.simple s public.pair {"a": 7, "b": 8} {"id": 3}',
  ]);
  expect(await orphans('public.full')).toEqual([
    'public."full" f public.pair {"a": 7, "b": null} {"id": 2}',
    'public."full" f public.pair {"a": 7, "b": 8} {"id": 3}',
  ]);
});

test('partitions are looked at once, on both sides; of inheritance only the table itself', async () => {
  await session.script(`
    CREATE TABLE public.parent (id integer PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE public.parent_1 PARTITION OF public.parent FOR VALUES FROM (0) TO (10);
    CREATE TABLE public.child (id integer PRIMARY KEY, parent integer CONSTRAINT c REFERENCES public.parent) PARTITION BY HASH (id);
    CREATE TABLE public.child_1 PARTITION OF public.child FOR VALUES WITH (MODULUS 1, REMAINDER 0);
    CREATE TABLE public.heir () INHERITS (public.item);
    INSERT INTO public.parent VALUES (1)`);
  await asApply(
    'INSERT INTO public.child VALUES (1, 1), (2, 2); INSERT INTO public.heir VALUES (50, 70)',
  );
  expect(await orphans('public.child')).toEqual([
    'public.child c public.parent {"id": 2} {"id": 2}',
  ]);
  expect((await orphans('public.item')).filter((line) => line.includes('50'))).toEqual([]);
});

test('a foreign key over a period wants it covered by all rows of that key together; one that is not enforced, nothing', async () => {
  await session.script(`
    CREATE EXTENSION btree_gist;
    CREATE TABLE public.price (id integer, at int4range, PRIMARY KEY (id, at WITHOUT OVERLAPS));
    CREATE TABLE public.sale (no integer PRIMARY KEY, id integer, at int4range,
      CONSTRAINT priced FOREIGN KEY (id, PERIOD at) REFERENCES public.price (id, PERIOD at));
    CREATE TABLE public.hint (no integer PRIMARY KEY, item integer REFERENCES public.item NOT ENFORCED);
    INSERT INTO public.hint VALUES (1, 12345);
    INSERT INTO public.price VALUES (1, '[1,5)'), (1, '[5,9)'), (2, '[1,5)');
    INSERT INTO public.sale VALUES (1, 1, '[2,8)')`);
  await asApply(`INSERT INTO public.sale VALUES (2, 2, '[2,8)'), (3, 3, '[1,2)')`);
  expect(await orphans('public.sale')).toEqual([
    'public.sale priced public.price {"at": "[2,8)", "id": 2} {"no": 2}',
    'public.sale priced public.price {"at": "[1,2)", "id": 3} {"no": 3}',
  ]);
  expect(await orphans('public.hint')).toEqual([]);
});

test('what the caller may not read is left out', async () => {
  await session.script(`
    CREATE ROLE reader; GRANT USAGE ON SCHEMA bdr TO reader; GRANT SELECT ON public.item TO reader;
    SET SESSION AUTHORIZATION reader`);
  try {
    expect(await orphans('public.item')).toEqual([
      'public.item contains public.item {"id": 10} {"id": 11}',
    ]);
  } finally {
    await session.script('RESET SESSION AUTHORIZATION');
  }
});
