import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openNewDatabase } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { AskedCommand } from '../model/global-lock.ts';
import type { Session } from '../postgres/session.ts';
import { commandNeed } from './command-need.ts';

let server: EmbeddedServer;
let session: Session;

beforeAll(async () => {
  server = await startServer();
  session = await openNewDatabase(server, 'app');
  await session.script(`
    CREATE ROLE owner; CREATE ROLE other; CREATE ROLE referrer;
    CREATE SCHEMA shop AUTHORIZATION owner;
    SET search_path = shop; SET ROLE owner;
    CREATE TYPE mood AS ENUM ('good'); CREATE DOMAIN price AS numeric; CREATE TYPE size AS (w integer);
    CREATE TABLE item (id integer PRIMARY KEY, price price, mood mood, sizes size[]);
    CREATE TABLE sale (id integer PRIMARY KEY, item integer REFERENCES item, of item);
    CREATE TABLE log (at date, UNIQUE (at)) PARTITION BY RANGE (at);
    CREATE TABLE log_rest PARTITION OF log DEFAULT;
    CREATE TABLE years (at date) PARTITION BY RANGE (at);
    CREATE INDEX sale_item ON sale (item); CREATE UNIQUE INDEX sale_of_item ON sale (item, id);
    CREATE FUNCTION twice(integer) RETURNS integer IMMUTABLE LANGUAGE sql AS 'SELECT $1 * 2';
    CREATE TABLE doubled (id integer, twice integer GENERATED ALWAYS AS (twice(id)) STORED);
    CREATE UNLOGGED TABLE unlogged (id integer);
    GRANT REFERENCES (id) ON item TO referrer;
    RESET ROLE;
    CREATE TABLE public.item (id integer)`);
});
afterAll(async () => {
  await session.close();
  await server[Symbol.asyncDispose]();
});

/** What a text asks for, in words. */
async function needOf(
  text: string | null,
  more: Partial<AskedCommand> & Partial<AskedCommand['place']> = {},
): Promise<string> {
  const { role = 'owner', path = ['shop'], temporary = [], locked = [], ...rest } = more;
  const found = await commandNeed(session, {
    text,
    isContext: false,
    isAlone: true,
    place: { role, path, temporary, locked },
    ...rest,
  });
  if (found.kind !== 'lock') return found.kind;
  const { mode, tables, mayBeMajority } = found.need;
  if (mode === 'ddl_lock') return mayBeMajority ? 'majority' : 'ddl_lock';
  if (tables === null) return 'write_lock on everything';
  return tables
    .map(({ schema, name }) => `${schema}.${name}`)
    .toSorted()
    .join(' ');
}

describe('a command needs a write lock on', () => {
  test.each([
    ['the table that its path means', 'ALTER TABLE item DROP price', 'shop.item'],
    ['the table that it names in full', 'ALTER TABLE shop.sale DROP item', 'shop.sale'],
    [
      'both ends of a foreign key',
      'ALTER TABLE sale ADD FOREIGN KEY (id) REFERENCES item',
      'shop.item shop.sale',
    ],
    ['what refers to a table that goes', 'DROP TABLE item CASCADE', 'shop.item shop.sale'],
    [
      'tables with a type, also in arrays and rows',
      'ALTER TYPE size ADD ATTRIBUTE h integer',
      'shop.item shop.sale',
    ],
    ['tables with a domain', 'ALTER DOMAIN price ADD CHECK (value > 0)', 'shop.item shop.sale'],
    ['tables with an enum', `ALTER TYPE mood RENAME VALUE 'good' TO 'fine'`, 'shop.item shop.sale'],
    [
      'tables whose values a function computes',
      'DROP FUNCTION twice(integer) CASCADE',
      'shop.doubled',
    ],
    [
      'all tables of a schema',
      'ALTER SCHEMA shop RENAME TO store',
      'shop.doubled shop.item shop.log shop.log_rest shop.sale shop.years',
    ],
    ['the table of a unique index', 'DROP INDEX sale_of_item', 'shop.sale'],
    [
      'a table with a column of which a value may be too long for its index',
      'CREATE INDEX ON item (id, price)',
      'shop.item',
    ],
    [
      'a table that gets a column of a domain, which may refuse what its rows get',
      'ALTER TABLE log ADD c price',
      'shop.log shop.log_rest',
    ],
    [
      'tables that hold rows of one as values, where it gets a column',
      'ALTER TABLE item ADD c integer',
      'shop.item shop.sale',
    ],
    [
      'a table whose default partition is looked at',
      `CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')`,
      'shop.log shop.log_rest',
    ],
    [
      'all that is in one text',
      'CREATE TABLE fresh (); ALTER TABLE item DROP price; DROP TABLE sale, fresh',
      'shop.item shop.sale',
    ],
  ])('%s', async (_, text, tables) => {
    expect(await needOf(text)).toBe(tables);
  });

  test('tables that it locks with it, where it is not alone', async () => {
    expect(await needOf('DROP TABLE sale')).toBe('shop.sale');
    expect(await needOf('DROP TABLE sale', { isAlone: false })).toBe('shop.item shop.sale');
    expect(await needOf('ALTER TABLE item ALTER id TYPE bigint', { isAlone: false })).toBe(
      'shop.item shop.sale',
    );
  });

  test('what is reached by way of triggers and indexes', async () => {
    await session.script(`
      SET search_path = shop; SET ROLE owner;
      CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
      CREATE TRIGGER touch BEFORE UPDATE ON sale FOR EACH ROW EXECUTE FUNCTION touch();
      CREATE UNIQUE INDEX sale_twice ON sale (twice(id)); RESET ROLE; RESET search_path`);
    expect(await needOf('DROP FUNCTION touch() CASCADE')).toBe('shop.sale');
    expect(await needOf('DROP FUNCTION twice(integer) CASCADE')).toBe('shop.doubled shop.sale');
  });

  test('all tables of a role', async () => {
    expect(await needOf('DROP OWNED BY owner', { role: 'postgres' })).toContain('shop.item');
  });
});

test.each([
  ['CREATE TABLE fresh (id integer)', 'majority'],
  ['ALTER TABLE fresh DROP id', 'ddl_lock'],
  ['DROP INDEX sale_item', 'ddl_lock'],
  ['CREATE INDEX ON sale (item) INCLUDE (id)', 'majority'],
  ['ALTER TABLE sale ADD c integer, ADD d text', 'majority'],
  ['DROP SCHEMA shop', 'ddl_lock'],
  [
    `CREATE TABLE y1 PARTITION OF years FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')`,
    'majority',
  ],
  ['ALTER TABLE item OWNER TO other', 'ddl_lock'],
])('%s does without', async (text, lock) => {
  expect(await needOf(text)).toBe(lock);
});

test.each([
  ['ALTER TABLE unlogged DROP id', {}],
  ['ALTER TABLE item DROP id', { temporary: ['item'] }],
  ['DROP TABLE pg_temp_3.item_2', {}],
  ['CREATE TABLE IF NOT EXISTS item (id integer)', {}],
  ['CREATE UNIQUE INDEX IF NOT EXISTS sale_item ON sale (id)', {}],
  ['CREATE SCHEMA IF NOT EXISTS shop; CREATE EXTENSION IF NOT EXISTS plpgsql', {}],
  ['DROP TABLE IF EXISTS gone, shop.gone_too CASCADE', {}],
  ['DROP TABLE pg_temp.item', {}],
  ['CREATE TEMP TABLE here (id integer); DROP TABLE here', {}],
  ['ALTER TABLE bdr.bdr_nodes ADD x integer', {}],
])('%s asks nobody', async (text, more) => {
  expect(await needOf(text, more)).toBe('nothing');
});

test('a temporary table hides another of its name, unless the path says that it comes later', async () => {
  const temporary = ['item'];
  expect(await needOf('DROP TABLE item, sale', { temporary })).toBe('shop.sale');
  expect(await needOf('DROP TABLE item', { temporary, path: ['shop', 'pg_temp_3'] })).toBe(
    'shop.item',
  );
});

test('where one text makes or drops what hides a table, it needs what that needs', async () => {
  for (const text of [
    'ALTER TABLE item DROP price; CREATE TEMP TABLE item (id integer)',
    'CREATE UNLOGGED TABLE staging.item (id integer); ALTER TABLE item DROP price',
  ]) {
    expect(await needOf(text)).toContain('shop.item');
  }
  expect(
    await needOf('DROP TABLE item; ALTER TABLE item DROP price', { temporary: ['item'] }),
  ).toBe('shop.item shop.sale');
  expect(await needOf('DROP TABLE IF EXISTS gone, sale')).toBe('shop.sale');
});

test('names mean what they mean in the transaction, which has made, renamed or dropped some', async () => {
  const oidOf = async (table: string) => {
    const [row] = await session.query<{ oid: string }>(`SELECT '${table}'::regclass::oid AS oid`);
    return Number(row?.oid);
  };
  // Made by it, so on no other node; the name is another's elsewhere.
  const made = { oid: 4_000_000, schema: 'tenant', name: 'item' };
  expect(
    await needOf('CREATE INDEX ON item (id)', {
      role: 'other',
      path: ['tenant', 'shop'],
      locked: [made],
      isAlone: false,
    }),
  ).toBe('majority');
  const path = ['shop', 'public'];
  const item = await oidOf('shop.item');
  expect(
    await needOf('ALTER TABLE item DROP id', {
      role: 'postgres',
      path,
      locked: [{ oid: item, schema: null, name: null }],
    }),
  ).toBe('public.item');
  expect(
    await needOf('ALTER TABLE thing DROP id', {
      path,
      locked: [{ oid: item, schema: 'shop', name: 'thing' }],
    }),
  ).toBe('shop.item');
});

test('a role that others do not see yet may do nothing, and nobody fails for it', async () => {
  expect(
    await needOf('CREATE TABLE r (id integer REFERENCES item)', { role: 'nobody', isAlone: false }),
  ).toBe('forbidden');
});

test('nobody holds up what he may not change; who may refer to a table may do that', async () => {
  for (const text of [
    'ALTER TABLE item DROP price',
    'DROP TYPE mood CASCADE',
    'DROP SCHEMA shop CASCADE',
    'DROP FUNCTION twice(integer) CASCADE',
    'DROP OWNED BY owner',
    'CREATE UNIQUE INDEX ON item (id)',
    'DROP CAST (integer AS text) CASCADE',
  ]) {
    expect(await needOf(text, { role: 'other' })).toBe('forbidden');
  }
  const refers = { role: 'referrer', isAlone: false };
  expect(await needOf('CREATE TABLE r (id integer REFERENCES item)', refers)).toBe('shop.item');
  expect(await needOf('CREATE TABLE r (id integer REFERENCES sale)', refers)).toBe('forbidden');
  expect(await needOf('CREATE TABLE r (id integer REFERENCES item)', { isAlone: false })).toBe(
    'shop.item',
  );
});

test('what nobody can read is everything, for superusers', async () => {
  for (const text of [null, 'SOMETHING THE SERVER KNOWS', 'SELECT 1']) {
    expect(await needOf(text, { role: 'postgres' })).toBe('write_lock on everything');
    expect(await needOf(text)).toBe('forbidden');
  }
});

test('what the transaction has locked before is told apart', async () => {
  const [row] = await session.query<{ oid: string }>(`SELECT 'shop.sale'::regclass::oid AS oid`);
  const found = await commandNeed(session, {
    text: `SQL statement "ALTER TABLE sale DROP id, DROP item"\nPL/pgSQL function f() line 1 at SQL statement`,
    isContext: true,
    isAlone: false,
    place: {
      role: 'owner',
      path: ['shop'],
      temporary: [],
      locked: [{ oid: Number(row?.oid), schema: 'shop', name: 'sale' }],
    },
  });
  expect(found).toMatchObject({ kind: 'lock', locked: [{ schema: 'shop', name: 'sale' }] });
});
