import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openNewDatabase, openSession } from '../../test/support/agents.ts';
import { becomeLoneNode } from '../../test/support/lone-node.ts';
import { startServer } from '../../test/support/servers.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Session } from '../postgres/session.ts';
import { readUnsettledTables } from './publications.ts';
import { copyLocalColumns, readLocalColumns } from './local-columns.ts';

const FLAWS = {
  id: 'It is in unique index or exclusion constraint item_pkey.',
  code: 'It is in unique index or exclusion constraint item_code_key.',
  half: 'It is in unique index or exclusion constraint of_half.',
  price: 'CHECK constraint item_price_check uses it.',
  parent: 'It is in foreign key item_parent_fkey.',
  base: 'Generated column twice is computed from it.',
  twice: 'It is generated.',
  needed: 'It is NOT NULL and has no default, so that rows of other nodes could not be inserted.',
  mail: 'Its type is a domain, which the default may not be of.',
};

describe.each([14, 18])('local columns, on PostgreSQL %i', (major) => {
  let server: EmbeddedServer;
  let session: Session;
  beforeAll(async () => {
    server = await startServer({ major });
    session = await openNewDatabase(server, 'app');
    await becomeLoneNode(session, ['there'], major);
  });
  afterAll(async () => {
    await session?.close();
    await server?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    await session.script(`
      SET client_min_messages = warning;
      DROP SCHEMA IF EXISTS app CASCADE;
      DROP DOMAIN IF EXISTS mail;
      CREATE SCHEMA app;
      CREATE DOMAIN mail AS text CHECK (VALUE LIKE '%@%');
      CREATE TABLE app.item (
          id integer PRIMARY KEY, v text, "My note" text, seen timestamptz DEFAULT now(), code text UNIQUE, half integer,
          price numeric CHECK (price > 0), parent integer REFERENCES app.item, base integer,
          twice integer GENERATED ALWAYS AS (base * 2) STORED, needed integer NOT NULL, wanted integer NOT NULL DEFAULT 1, mail mail
      );
      CREATE UNIQUE INDEX of_half ON app.item ((half * 2));
      CREATE TABLE app.parts (id integer, region text, v text, note text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
      CREATE TABLE app.eu PARTITION OF app.parts FOR VALUES IN ('eu');
      DELETE FROM bdr.bdr_queued_commands`);
  });

  const keep = (table: string, columns: readonly string[] | null) =>
    session.query('SELECT bdr.table_set_local_columns($1::regclass, $2::text::name[])', [
      table,
      columns === null ? null : `{${columns.map((name) => `"${name}"`).join(',')}}`,
    ]);
  const kept = async (table: string) => {
    const [row] = await session.query<{ columns: string }>(
      'SELECT array_to_json(bdr.table_get_local_columns($1::regclass)) AS columns',
      [table],
    );
    return JSON.parse(row?.columns ?? '') as string[];
  };
  const queued = async () =>
    (
      await session.query<{ command: string }>(
        `SELECT command FROM bdr.bdr_queued_commands WHERE command_tag = 'DO' ORDER BY queued_at`,
      )
    ).map(({ command }) => command);

  test('are set by name, go to the others as a command, and follow when they are renamed', async () => {
    expect(await kept('app.item')).toEqual([]);
    await keep('app.item', null);
    await keep('app.item', ['My note', 'seen']);
    expect(await kept('app.item')).toEqual(['My note', 'seen']);
    expect(await queued()).toEqual([
      `DO 'BEGIN PERFORM bdr.table_set_local_columns(''app.item'', ''{"My note",seen}''); END'`,
    ]);
    await session.script('ALTER TABLE app.item RENAME COLUMN seen TO read_at');
    expect(await kept('app.item')).toEqual(['My note', 'read_at']);
    await session.script('ALTER TABLE app.item RENAME TO thing');
    expect(await session.query('SELECT * FROM bdr.local_columns')).toEqual([
      { nspname: 'app', relname: 'thing', columns: '{"My note",read_at}' },
    ]);
  });

  test('more may become local, none may be replicated again, and one that is dropped is none', async () => {
    await keep('app.item', ['seen']);
    await keep('app.item', ['v', 'seen']);
    for (const fewer of [['v'], ['v', 'wanted'], ['v', 'My note']]) {
      await expect(keep('app.item', fewer)).rejects.toMatchObject({
        code: '55000',
        message: 'local column "seen" of table app.item cannot be replicated again',
      });
    }
    for (const none of [[], null]) {
      await expect(keep('app.item', none)).rejects.toMatchObject({ code: '55000' });
    }
    await expect(session.query('DELETE FROM bdr.table_local_columns')).rejects.toMatchObject({
      code: '55000',
    });
    await session.script('ALTER TABLE app.item DROP COLUMN seen, ADD COLUMN seen text');
    expect(await kept('app.item'), 'a new one of its name').toEqual(['v']);
    await keep('app.item', ['v']);
  });

  test('what apply knows of tables is read anew', async () => {
    const definitions = () => session.query('SELECT bdr.internal_definitions() AS now');
    const before = await definitions();
    await keep('app.item', ['v']);
    expect(await definitions()).not.toEqual(before);
  });

  test.each(Object.entries(FLAWS))('column %s may not be one', async (name, detail) => {
    await expect(keep('app.item', [name])).rejects.toMatchObject({
      code: '42P10',
      message: `column "${name}" of table app.item may not be local`,
      detail,
    });
    expect(await kept('app.item')).toEqual([]);
  });

  test('nor may one of a partition key, or of a whole row in a constraint', async () => {
    await expect(keep('app.parts', ['region'])).rejects.toMatchObject({ code: '42P10' });
    await expect(keep('app.eu', ['region'])).rejects.toMatchObject({ code: '42P10' });
    await session.script(`
      CREATE TABLE app.strict (id integer PRIMARY KEY, a text, CHECK (strict IS NOT NULL));
      CREATE TABLE app.whole (id integer PRIMARY KEY, a text);
      CREATE TABLE app.by_expression (id integer, a text) PARTITION BY LIST ((lower(a)))`);
    for (const table of ['app.strict', 'app.by_expression']) {
      await expect(keep(table, ['a']), table).rejects.toMatchObject({ code: '42P10' });
    }
  });

  test.each([
    'ALTER TABLE app.item ADD UNIQUE (v)',
    'CREATE UNIQUE INDEX ON app.item (lower(v))',
    'CREATE UNIQUE INDEX ON app.item (base) WHERE v IS NULL',
    'ALTER TABLE app.item ADD CHECK (v <> code)',
    'ALTER TABLE app.item ALTER COLUMN v SET NOT NULL',
    'ALTER TABLE app.item ALTER COLUMN v TYPE mail',
    'ALTER TABLE app.item ADD COLUMN g text GENERATED ALWAYS AS (v || v) STORED',
    'ALTER TABLE app.item ADD FOREIGN KEY (v) REFERENCES app.other',
    'ALTER TABLE app.item DROP CONSTRAINT item_pkey CASCADE, ADD PRIMARY KEY (id, v)',
    'ALTER TABLE app.item ALTER COLUMN wanted DROP DEFAULT',
  ])('nor may it become one afterwards: %s', async (command) => {
    await session.script('CREATE TABLE app.other (v text PRIMARY KEY)');
    await keep('app.item', ['v', 'wanted']);
    await expect(session.script(command)).rejects.toMatchObject({ code: '42P10' });
    await session.script(`
      ALTER TABLE app.item ADD UNIQUE (base), ADD COLUMN more text, ALTER COLUMN v TYPE varchar(20);
      ALTER TABLE app.item ALTER COLUMN v SET DEFAULT 'x', ALTER COLUMN v SET NOT NULL;
      CREATE INDEX ON app.item (v)`);
  });

  test('of a partitioned table are local in its partitions, whenever they came, and stay so in one that goes', async () => {
    await keep('app.parts', ['note']);
    expect(await kept('app.eu')).toEqual(['note']);
    expect(await queued(), 'the table above says it for both').toHaveLength(1);
    await session.script(`
      CREATE TABLE app.us PARTITION OF app.parts FOR VALUES IN ('us') PARTITION BY RANGE (id);
      CREATE TABLE app.us1 PARTITION OF app.us FOR VALUES FROM (0) TO (10);
      CREATE TABLE app.uk (note text, gone text, v text, region text, id integer, PRIMARY KEY (id, region));
      ALTER TABLE app.uk DROP COLUMN gone;
      ALTER TABLE app.parts ATTACH PARTITION app.uk FOR VALUES IN ('uk')`);
    for (const table of ['app.us', 'app.us1', 'app.uk']) {
      expect(await kept(table), table).toEqual(['note']);
    }
    expect(await queued()).toHaveLength(1);
    await session.script('ALTER TABLE app.parts DETACH PARTITION app.uk');
    expect(await kept('app.uk')).toEqual(['note']);
    await session.script(
      `CREATE TABLE app.fr (id integer, region text, v text, note text UNIQUE, PRIMARY KEY (id, region))`,
    );
    await expect(
      session.script(`ALTER TABLE app.parts ATTACH PARTITION app.fr FOR VALUES IN ('fr')`),
    ).rejects.toMatchObject({ code: '42P10' });
  });

  /** The columns that publications list, by publication: those that have no list are left out. */
  const listed = async (table: string) => {
    if (major < 15) return {};
    const rows = await session.query<{ publication: string; columns: string }>(
      `SELECT k.publication, (SELECT json_agg(a.attname ORDER BY a.attnum) FROM pg_attribute AS a
         WHERE a.attrelid = k.relation AND a.attnum = ANY (k.columns)) AS columns
       FROM bdr.internal_published_columns($1::regclass) AS k ORDER BY 1`,
      [table],
    );
    return Object.fromEntries(
      rows.map(({ publication, columns }) => [publication, JSON.parse(columns) as string[]]),
    );
  };
  const inAll = (columns: readonly string[]) => (major < 15 ? {} : { bdr: columns });
  const plain = 'id integer PRIMARY KEY, v text, note text, region text, seen timestamptz';

  test('are left out of what is published, whatever becomes of the table and its sets', async () => {
    await session.script(`CREATE TABLE app.t (${plain})`);
    expect(await listed('app.t')).toEqual({});
    await keep('app.t', ['note']);
    expect(await listed('app.t')).toEqual(inAll(['id', 'v', 'region', 'seen']));
    const steps: [string, string[]][] = [
      ['ALTER TABLE app.t ADD COLUMN more integer', ['id', 'v', 'region', 'seen', 'more']],
      ['ALTER TABLE app.t RENAME COLUMN v TO w', ['id', 'w', 'region', 'seen', 'more']],
      ['ALTER TABLE app.t DROP COLUMN w', ['id', 'region', 'seen', 'more']],
      ['ALTER TABLE app.t DROP COLUMN region CASCADE', ['id', 'seen', 'more']],
      ['ALTER TABLE app.t ALTER more TYPE bigint', ['id', 'seen', 'more']],
      [`DO 'BEGIN ALTER TABLE app.t DROP COLUMN seen; END'`, ['id', 'more']],
      ['CREATE TYPE app.y AS ENUM (); ALTER TABLE app.t ADD y app.y', ['id', 'more', 'y']],
      ['DROP TYPE app.y CASCADE', ['id', 'more']],
      [
        'ALTER TABLE app.t RENAME TO "T"; ALTER TABLE app."T" DROP COLUMN more, ADD COLUMN z text; ALTER TABLE app."T" RENAME TO t',
        ['id', 'z'],
      ],
      ['ALTER TABLE app.t ALTER note TYPE varchar', ['id', 'z']],
      ['ALTER TABLE app.t ADD g integer GENERATED ALWAYS AS (id * 2) STORED', ['id', 'z']],
    ];
    for (const [command, columns] of steps) {
      await session.script(command);
      expect(await listed('app.t'), command).toEqual(inAll(columns));
    }
    await session.script(
      `CREATE FUNCTION app.drop_z() RETURNS void LANGUAGE sql AS 'ALTER TABLE app.t DROP COLUMN z'`,
    );
    await session.script('SELECT app.drop_z()');
    expect(await listed('app.t')).toEqual(inAll(['id']));
    await session.script('ALTER TABLE app.t REPLICA IDENTITY FULL');
    expect(await listed('app.t'), 'old rows come whole').toEqual({});
    await session.script('ALTER TABLE app.t REPLICA IDENTITY DEFAULT');
    expect(await listed('app.t')).toEqual(inAll(['id']));
    await session.script('ALTER TABLE app.t DROP COLUMN note');
    expect(await listed('app.t'), 'nothing is local any more').toEqual({});
    expect(await readUnsettledTables(session)).toEqual([]);
  });

  test.skipIf(major < 15)('together with replication sets and row filters', async () => {
    await session.script(`CREATE TABLE app.t (${plain})`);
    await keep('app.t', ['note']);
    await session.script(`
      SELECT bdr.table_set_replication_sets('app.t', '{a}');
      INSERT INTO bdr.bdr_replication_set_config VALUES ('a', true, false, true);
      SELECT bdr.connection_set_replication_sets('{a}', 'there')`);
    const columns = ['id', 'v', 'region', 'seen'];
    expect(await listed('app.t')).toEqual({
      bdr_8_1_1_delete: columns,
      bdr_8_1_1_insert: columns,
    });
    await session.script(`
      SELECT bdr.table_set_row_filter('app.t', 'a', 'id < 5');
      ALTER TABLE app.t DROP COLUMN v`);
    expect(
      await session.query(
        `SELECT p.pubname AS name, pg_get_expr(r.prqual, r.prrelid) AS filter, r.prattrs AS columns
         FROM pg_publication_rel AS r JOIN pg_publication AS p ON p.oid = r.prpubid
         WHERE r.prrelid = 'app.t'::regclass AND p.pubname LIKE 'bdr_8%' ORDER BY 1`,
      ),
    ).toEqual([
      { name: 'bdr_8_1_1_delete', filter: '(id < 5)', columns: '1 4 5' },
      { name: 'bdr_8_1_1_insert', filter: '(id < 5)', columns: '1 4 5' },
    ]);
    expect(await readUnsettledTables(session)).toEqual([]);
    await session.script(`
      DELETE FROM bdr.bdr_replication_set_config;
      SELECT bdr.connection_set_replication_sets('{default}', 'there')`);
  });

  test('lists are taken away from what a command names, and from nothing else', async () => {
    await session.script(`
      CREATE TABLE app.t (${plain});
      CREATE TABLE app.t2 (${plain})`);
    await keep('app.t', ['note']);
    await keep('app.t2', ['note']);
    await keep('app.parts', ['note']);
    const named = async (text: string) => {
      const [row] = await session.query<{ names: string }>(
        'SELECT array_to_json(bdr.internal_listed_tables_in($1)::regclass[]) AS names',
        [text],
      );
      return JSON.parse(row?.names ?? '[]') as string[];
    };
    expect(await named('ALTER TABLE app.t DROP COLUMN v')).toEqual(['app.t']);
    expect(await named('alter table app."t2" alter v type text')).toEqual(['app.t2']);
    expect(await named('ALTER TABLE app.t ADD COLUMN w text')).toEqual([]);
    expect(await named('ALTER TABLE app.t VALIDATE CONSTRAINT dropped')).toEqual([]);
    expect(await named('ALTER TABLE app.item DROP COLUMN v')).toEqual([]);
    expect(await named('ALTER TABLE app.parts DROP COLUMN v')).toEqual(['app.parts', 'app.eu']);
    expect(await named('SELECT f()\nSQL function "f" statement 1')).toHaveLength(4);
    await expect(session.query(`SELECT bdr.internal_take_lists_away('{}')`)).rejects.toMatchObject({
      code: '42501',
    });
  });

  test('are refused in tables and transactions that cannot have them', async () => {
    await expect(keep('bdr.bdr_nodes', ['node_name'])).rejects.toMatchObject({ code: '42809' });
    await expect(keep('app.item', ['none'])).rejects.toMatchObject({ code: '42703' });
    await expect(keep('app.item', ['ctid'])).rejects.toMatchObject({ code: '42703' });
    for (const numbers of ['{2,99}', '{-1}', '{2,NULL}']) {
      await expect(
        session.query(
          `INSERT INTO bdr.table_local_columns VALUES ('app.item'::regclass, $1::int2[])`,
          [numbers],
        ),
        numbers,
      ).rejects.toMatchObject({ code: '42703' });
    }
    await session.script('BEGIN ISOLATION LEVEL REPEATABLE READ');
    await expect(keep('app.item', ['v'])).rejects.toMatchObject({ code: '55000' });
    await session.script('ROLLBACK');
  });

  test('leave something that is replicated, and are not of a table that is of a type', async () => {
    await session.script(`
      CREATE TABLE app.note (a text, b text); DROP TYPE IF EXISTS app.pair; CREATE TYPE app.pair AS (id integer, v text);
      CREATE TABLE app.typed OF app.pair`);
    await expect(keep('app.note', ['a', 'b'])).rejects.toMatchObject({ code: '42P10' });
    await keep('app.note', ['a']);
    await expect(session.script('ALTER TABLE app.note DROP COLUMN b')).rejects.toMatchObject({
      code: '42P10',
    });
    await expect(keep('app.typed', ['v'])).rejects.toMatchObject({ code: '42P10' });
  });

  test('keep the default that rows of others need', async () => {
    await session.script(`
      CREATE SEQUENCE app.s; CREATE TABLE app.counted (id integer PRIMARY KEY, n integer NOT NULL DEFAULT nextval('app.s'))`);
    await keep('app.counted', ['n']);
    await expect(session.script('DROP SEQUENCE app.s CASCADE')).rejects.toMatchObject({
      code: '42P10',
    });
    await session.script(
      'ALTER TABLE app.counted ALTER n SET DEFAULT 0; DROP SEQUENCE app.s CASCADE',
    );
  });

  test('of a partitioned table hold up nobody who is about other tables, whatever its partitions are', async () => {
    await session.script(`
      CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
      CREATE UNLOGGED TABLE app.fleeting (id integer NOT NULL, region text NOT NULL, v text, note text);
      ALTER TABLE app.parts DROP CONSTRAINT parts_pkey`);
    await keep('app.parts', ['note']);
    await session.script(`
      CREATE FOREIGN TABLE app.far PARTITION OF app.parts FOR VALUES IN ('far') SERVER nowhere;
      CREATE TABLE app.other (id integer PRIMARY KEY)`);
    await using holder = await openSession(server, 'app');
    await holder.script('BEGIN; LOCK TABLE app.eu');
    await session.script(
      `SET lock_timeout = '2s'; ALTER TABLE app.other ADD COLUMN v text; RESET lock_timeout`,
    );
    await holder.script('ROLLBACK');
    expect(await kept('app.far')).toEqual([]);
    await session.script('DROP FOREIGN DATA WRAPPER nothing CASCADE');
  });

  test('lists are taken away for event triggers only', async () => {
    await keep('app.item', ['v']);
    await session.script(`
      CREATE FUNCTION app.spoof(relations oid[]) RETURNS boolean LANGUAGE plpgsql AS $f$
      DECLARE done boolean;
      BEGIN
      done := bdr.internal_take_lists_away(relations)"
PL/pgSQL function bdr.internal_before_columns_change() x" FROM (VALUES (1)) AS q;
      RETURN done; END $f$`);
    await expect(
      session.query(`SELECT app.spoof(ARRAY['app.item'::regclass::oid])`),
    ).rejects.toMatchObject({ code: '42501' });
  });

  test('are set by the owner of a table, and by nobody else', async () => {
    await session.script(`
      DROP ROLE IF EXISTS her;
      CREATE ROLE her LOGIN;
      CREATE TABLE app.hers (id integer PRIMARY KEY, v text);
      ALTER TABLE app.hers OWNER TO her;
      GRANT USAGE ON SCHEMA app TO her`);
    await using hers = await openSession(server, 'app');
    // Of a superuser's session, which may pass over the lock that no agent is there to settle.
    await hers.script('SET bdr.skip_ddl_locking = on; SET ROLE her');
    const call = (table: string) =>
      hers.query(`SELECT bdr.table_set_local_columns($1::regclass, '{v}')`, [table]);
    await expect(call('app.item')).rejects.toMatchObject({ code: '42501' });
    await expect(
      hers.query(`INSERT INTO bdr.table_local_columns SELECT 'app.item'::regclass, '{2}'`),
    ).rejects.toMatchObject({ code: '42501' });
    await call('app.hers');
    expect(await kept('app.hers')).toEqual(['v']);
    expect(
      await session.query(
        `SELECT perpetrator FROM bdr.bdr_queued_commands WHERE command_tag = 'DO'`,
      ),
    ).toEqual([{ perpetrator: 'her' }]);
    await session.script('DROP TABLE app.hers; DROP OWNED BY her; DROP ROLE her');
  });

  test('a joining node takes them over', async () => {
    await keep('app.parts', ['note']);
    await keep('app.item', ['My note']);
    await using target = await openNewDatabase(server, `target_${major}_${Date.now()}`);
    await target.script(`
      CREATE SCHEMA app;
      CREATE TABLE app.item ("My note" text, id integer PRIMARY KEY);
      CREATE TABLE app.parts (note text, id integer) PARTITION BY LIST (id);
      CREATE TABLE app.eu PARTITION OF app.parts FOR VALUES IN (1)`);
    await copyLocalColumns(session, target);
    await copyLocalColumns(session, target);
    const expected = [
      { table: { schema: 'app', name: 'eu' }, columns: ['note'], flaw: null },
      { table: { schema: 'app', name: 'item' }, columns: ['My note'], flaw: null },
      { table: { schema: 'app', name: 'parts' }, columns: ['note'], flaw: null },
    ];
    expect(await readLocalColumns(target)).toEqual(expected);
    expect(await readLocalColumns(session)).toEqual(expected);
  });

  test('an index that was built concurrently is refused, told, and holds up nothing but its table', async () => {
    await keep('app.item', ['v']);
    await expect(
      session.query('CREATE UNIQUE INDEX CONCURRENTLY of_v ON app.item (v)'),
    ).rejects.toMatchObject({ code: '42P10' });
    await expect(session.script('ALTER TABLE app.item ADD w text')).rejects.toMatchObject({
      code: '42P10',
    });
    await session.script(
      'CREATE TABLE app.other (id integer PRIMARY KEY); CREATE INDEX ON app.parts (v)',
    );
    await session.script('DROP INDEX app.of_v');
    await session.script('ALTER TABLE app.item ADD w text');
  });

  test('what was made of one without event triggers is told', async () => {
    await keep('app.item', ['v']);
    await session.script(`
      ALTER EVENT TRIGGER bdr_keep_local_columns DISABLE;
      CREATE UNIQUE INDEX of_v ON app.item (v);
      ALTER EVENT TRIGGER bdr_keep_local_columns ENABLE ALWAYS`);
    expect((await readLocalColumns(session)).map(({ flaw }) => flaw)).toEqual([
      'column "v": It is in unique index or exclusion constraint of_v.',
    ]);
  });
});
