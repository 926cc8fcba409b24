import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openNewDatabase, openSession } from '../../test/support/agents.ts';
import { CONCURRENT_DEFINITIONS, DEFINITIONS, ROLES } from '../../test/support/definitions.ts';
import { startServer } from '../../test/support/servers.ts';
import { embeddedMajors } from '../embedded/binaries.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Session } from '../postgres/session.ts';
import { commandText } from './command-text.ts';

// What event triggers capture of commands that functions run, and what is cut out of that where it arrives.
const MAJORS = [Math.min(...embeddedMajors()), Math.max(...embeddedMajors())];

describe.each(MAJORS)('on PostgreSQL %i', (major) => {
  let server: EmbeddedServer;
  let session: Session;
  beforeAll(async () => {
    server = await startServer({ major });
    session = await openNewDatabase(server, 'app');
    await session.script(`
      INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid)
      SELECT sysid, timeline, dboid FROM bdr.bdr_get_local_nodeid();
      INSERT INTO bdr.bdr_nodes (node_sysid, node_timeline, node_dboid, node_status, node_name, node_seq_id)
      SELECT sysid, timeline, dboid, 'r', 'here', 1 FROM bdr.bdr_get_local_nodeid();
      SELECT bdr.internal_renew_secret(), bdr.internal_make_guard();
      SET search_path = public;
      CREATE FUNCTION run(command text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE command; END $$`);
  });
  afterAll(async () => {
    await session.close();
    await server[Symbol.asyncDispose]();
  });

  /** What other nodes would run for what `script` does. */
  async function replicated(script: string, by = session): Promise<string[]> {
    // A table without room for rows between others: they stand in their order.
    await session.script('TRUNCATE bdr.bdr_queued_commands');
    await by.script(script);
    const rows = await session.query<{
      tag: string;
      text: string;
      position: string | null;
      context: string;
    }>(`
      SELECT command_tag AS tag, command AS text, "position"::text, is_context::text AS context
      FROM bdr.bdr_queued_commands
      -- In the order in which they were written.
      ORDER BY ctid`);
    const commands: string[] = [];
    let last = '';
    for (const { tag, text, position, context } of rows) {
      if (position !== null && text !== '') last = text;
      const { texts } = await commandText({
        tag,
        text: text === '' ? last : text,
        position: position === null ? null : Number(position),
        isContext: context === 'true',
      });
      commands.push(...texts.map((one) => one.replace(/\s+/g, ' ')));
    }
    return commands;
  }

  test('commands of every kind are cut out of what is captured of them', async () => {
    await session.script(ROLES);
    for (const [, commands] of DEFINITIONS) {
      expect((await replicated(commands)).length).toBeGreaterThan(0);
    }
    for (const command of CONCURRENT_DEFINITIONS) {
      expect(await replicated(command)).toHaveLength(command.startsWith('INSERT') ? 0 : 1);
    }
  });

  test('several commands of one kind in one EXECUTE are told apart', async () => {
    expect(
      await replicated(`SELECT run('CREATE TABLE a (id integer); -- "a"
        INSERT INTO a VALUES (1); CREATE TABLE b (id integer); CREATE TABLE IF NOT EXISTS a (); CREATE TABLE c ()')`),
    ).toEqual([
      'CREATE TABLE a (id integer)',
      expect.stringContaining('CREATE TABLE b (id integer)'),
      'CREATE TABLE c ()',
    ]);
  });

  test('commands that are run in replica mode are not captured, and no others are taken for them', async () => {
    expect(
      await replicated(`
        CREATE TABLE r1 ();
        SET session_replication_role = replica;
        CREATE TABLE r2 (); CREATE EXTENSION pgcrypto; DROP EXTENSION pgcrypto;
        SET session_replication_role = origin;
        CREATE TABLE r3 ()`),
    ).toEqual(['CREATE TABLE r1 ()', 'CREATE TABLE r3 ()']);
    expect(
      await replicated(`SELECT run('
        SET LOCAL session_replication_role = replica; CREATE TABLE r4 ();
        SET LOCAL session_replication_role = origin; CREATE TABLE r5 ()')`),
    ).toEqual(['CREATE TABLE r5 ()']);
    await session.script('DROP TABLE r1, r2, r3, r4, r5');
  });

  test('what fires no event trigger is not counted, what does is', async () => {
    expect(
      await replicated(`
        ALTER TABLE ALL IN TABLESPACE pg_default SET TABLESPACE pg_default;
        COMMENT ON DATABASE app IS NULL; COMMENT ON ROLE postgres IS NULL; GRANT TEMP ON DATABASE app TO postgres;
        CREATE TABLE r6 ()`),
    ).toEqual(['CREATE TABLE r6 ()']);
    await session.script('DROP TABLE r6');
  });

  test('also when it runs again, was given up in the middle, or runs others', async () => {
    expect(
      await replicated(`
        CREATE TABLE t (n integer);
        CREATE FUNCTION alter_twice() RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
            FOR i IN 1..2 LOOP
                EXECUTE 'ALTER TABLE t ADD COLUMN x integer; ALTER TABLE t DROP COLUMN x';
            END LOOP;
            BEGIN
                EXECUTE 'CREATE TABLE d1 (); CREATE TABLE t (); CREATE TABLE d2 ()';
            EXCEPTION WHEN duplicate_table THEN
                EXECUTE 'CREATE TABLE e1 (); CREATE TABLE e2 ()';
            END;
        END $$;
        CREATE FUNCTION retry() RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
            FOR i IN 1..2 LOOP
                BEGIN
                    EXECUTE 'CREATE TABLE f1 (); CREATE TABLE f2 (); SELECT count(*) / (SELECT count(*) FROM pg_class WHERE relname = ''ready'')';
                EXCEPTION WHEN division_by_zero THEN
                    CREATE TABLE ready ();
                END;
            END LOOP;
        END $$;
        SELECT run('CREATE TABLE o1 (); SELECT alter_twice(); CREATE TABLE o2 (); SELECT retry(); CREATE TABLE o3 ()')`),
    ).toEqual([
      'CREATE TABLE t (n integer)',
      expect.stringContaining('CREATE FUNCTION alter_twice()'),
      expect.stringContaining('CREATE FUNCTION retry()'),
      'CREATE TABLE o1 ()',
      'ALTER TABLE t ADD COLUMN x integer',
      'ALTER TABLE t DROP COLUMN x',
      'ALTER TABLE t ADD COLUMN x integer',
      'ALTER TABLE t DROP COLUMN x',
      'CREATE TABLE e1 ()',
      'CREATE TABLE e2 ()',
      'CREATE TABLE o2 ()',
      'CREATE TABLE ready ()',
      'CREATE TABLE f1 ()',
      'CREATE TABLE f2 ()',
      'CREATE TABLE o3 ()',
    ]);
  });

  test('a savepoint that is rolled back takes its counting back', async () => {
    expect(
      await replicated(`BEGIN; SAVEPOINT s; SELECT run('CREATE TABLE g1 (); CREATE TABLE g2 ()'); ROLLBACK TO s;
        SELECT run('CREATE TABLE g1 (); CREATE TABLE g2 ()'); COMMIT`),
    ).toEqual(['CREATE TABLE g1 ()', 'CREATE TABLE g2 ()']);
  });

  test('what is counted cannot be taken away unnoticed', async () => {
    for (const reset of ['RESET ALL', 'SET LOCAL bdr.statement_commands = 1']) {
      await expect(
        session.script(`SELECT run('CREATE TABLE h1 (); ${reset}; CREATE TABLE h2 ()')`),
      ).rejects.toMatchObject({ code: '0A000' });
    }
  });

  test('whatever the settings of the session', async () => {
    for (const setting of ['standard_conforming_strings = off', 'quote_all_identifiers = on']) {
      // What a session has compiled it keeps.
      await using other = await openSession(server, 'app');
      await other.script(`SET ${setting}; SET search_path = public`);
      expect(await replicated(`CREATE TABLE s (id integer); DROP TABLE s`, other)).toEqual([
        'CREATE TABLE s (id integer)',
        expect.stringMatching(/^DROP TABLE IF EXISTS "?public"?\."?s"?$/),
      ]);
      await other.script(`SELECT run('CREATE TABLE s (); DROP TABLE s')`);
    }
  });

  test('DISCARD SEQUENCES takes no other command for one of its text', async () => {
    await expect(
      session.script('CREATE TABLE d1 (); DISCARD SEQUENCES; CREATE TABLE d2 ()'),
    ).rejects.toMatchObject({ code: '0A000' });
    await session.script('DISCARD SEQUENCES');
    await session.script(
      'CREATE TABLE discard (); GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO PUBLIC; DROP TABLE discard',
    );
    await session.script('DISCARD SEQUENCES');
    expect(await replicated('CREATE TABLE d1 (); DROP TABLE d1')).toHaveLength(2);
  });

  test('SELECT INTO is counted wherever it stands', async () => {
    expect(
      await replicated(`SELECT 1 AS a INTO u1 UNION SELECT 2; CREATE TABLE u2 (id integer)`),
    ).toEqual([expect.stringContaining('u1'), 'CREATE TABLE u2 (id integer)']);
    await session.script('DROP TABLE u1, u2');
  });

  test('large objects are each node’s own', async () => {
    expect(
      await replicated(`
        SELECT lo_create(4711); COMMENT ON LARGE OBJECT 4711 IS 'here';
        GRANT SELECT ON LARGE OBJECT 4711 TO PUBLIC; ALTER LARGE OBJECT 4711 OWNER TO CURRENT_USER; SELECT lo_unlink(4711)`),
    ).toEqual([]);
  });

  test('what refers to an unlogged table already may be changed', async () => {
    await session.script(`
      SET bdr.skip_ddl_replication = on;
      CREATE UNLOGGED TABLE cached_1 (id integer); CREATE MATERIALIZED VIEW mv_1 AS SELECT * FROM cached_1;
      CREATE TABLE logged_1 (id integer); CREATE RULE note_1 AS ON INSERT TO logged_1 DO ALSO INSERT INTO cached_1 VALUES (1);
      RESET bdr.skip_ddl_replication`);
    expect(
      await replicated(`
        REFRESH MATERIALIZED VIEW mv_1; COMMENT ON MATERIALIZED VIEW mv_1 IS 'kept'; ALTER TABLE logged_1 ADD COLUMN v text`),
    ).toHaveLength(3);
    await session.script('DROP TABLE cached_1, logged_1 CASCADE');
  });

  test('nothing permanent refers to an unlogged table', async () => {
    await session.script(`
      CREATE UNLOGGED TABLE cache (id serial PRIMARY KEY, v text); CREATE SEQUENCE lent_1; CREATE TABLE kept_1 (id integer PRIMARY KEY);
      CREATE TABLE whole_1 (id integer, v text) PARTITION BY LIST (id)`);
    for (const command of [
      'CREATE VIEW on_cache AS SELECT * FROM cache',
      'CREATE MATERIALIZED VIEW on_cache AS SELECT * FROM cache',
      `CREATE FUNCTION on_cache() RETURNS SETOF cache LANGUAGE sql AS 'SELECT NULL::cache'`,
      'CREATE TABLE on_cache () INHERITS (cache)',
      'CREATE TABLE on_cache (c cache)',
      'ALTER SEQUENCE lent_1 OWNED BY cache.id',
      // Before 15 a sequence cannot be unlogged.
      ...(major < 15 ? [] : [`CREATE TABLE on_cache (id integer DEFAULT nextval('cache_id_seq'))`]),
      'CREATE TABLE on_cache AS SELECT c FROM cache AS c',
      'CREATE RULE on_cache AS ON INSERT TO kept_1 DO ALSO INSERT INTO cache (v) VALUES (1)',
      'CREATE UNLOGGED TABLE part_1 (id integer, v text); ALTER TABLE whole_1 ATTACH PARTITION part_1 FOR VALUES IN (1)',
    ]) {
      await expect(session.script(command), command).rejects.toMatchObject({
        code: '0A000',
        message: expect.stringContaining('which is on this node only') as string,
      });
    }
    expect(
      await replicated(`
        CREATE INDEX ON cache (v); CREATE TABLE other_1 (id serial PRIMARY KEY, v text); CREATE VIEW on_other_1 AS SELECT * FROM other_1;
        ALTER TABLE cache ADD CHECK (id > 0); DROP TABLE cache, kept_1, whole_1; DROP SEQUENCE lent_1`),
    ).toHaveLength(4);
    await session.script('DROP TABLE other_1 CASCADE');
  });

  test('a key has no generated column, which would not be sent', async () => {
    await session.script(
      'CREATE TABLE sums (id integer NOT NULL, a integer, k integer GENERATED ALWAYS AS (a + 1) STORED NOT NULL)',
    );
    for (const command of [
      'CREATE TABLE keyed (id integer, k integer GENERATED ALWAYS AS (id + 1) STORED, PRIMARY KEY (id, k))',
      'ALTER TABLE sums ADD PRIMARY KEY (id, k)',
      'CREATE UNIQUE INDEX sums_k ON sums (k); ALTER TABLE sums REPLICA IDENTITY USING INDEX sums_k',
      `CREATE TABLE late (k integer GENERATED ALWAYS AS (1) STORED NOT NULL); ALTER TABLE late REPLICA IDENTITY FULL;
       ALTER TABLE late ADD PRIMARY KEY (k); ALTER TABLE late REPLICA IDENTITY DEFAULT`,
      `CREATE TABLE whole_2 (id integer NOT NULL, k integer GENERATED ALWAYS AS (1) STORED NOT NULL) PARTITION BY RANGE (id);
       CREATE TABLE part_2 PARTITION OF whole_2 DEFAULT; ALTER TABLE whole_2 REPLICA IDENTITY FULL; ALTER TABLE whole_2 ADD PRIMARY KEY (id, k)`,
    ]) {
      await expect(session.script(command), command).rejects.toMatchObject({
        code: '0A000',
        message: 'generated columns in a key are unsafe with BDR active',
      });
    }
    expect(
      await replicated(
        'ALTER TABLE sums ADD PRIMARY KEY (id) INCLUDE (k), ADD UNIQUE (k); DROP TABLE sums',
      ),
    ).toHaveLength(2);
  });

  test.runIf(major >= 18)('a key over a period excludes rows, too', async () => {
    await session.script('CREATE TABLE booked (id int4range, during daterange NOT NULL)');
    for (const command of [
      'CREATE TABLE priced (id int4range, during daterange, PRIMARY KEY (id, during WITHOUT OVERLAPS))',
      'ALTER TABLE booked ADD UNIQUE (id, during WITHOUT OVERLAPS)',
    ]) {
      await expect(session.script(command)).rejects.toMatchObject({
        code: '0A000',
        message: 'WITHOUT OVERLAPS constraints are unsafe with BDR active',
      });
    }
    expect(
      await replicated('ALTER TABLE booked ADD PRIMARY KEY (id, during); DROP TABLE booked'),
    ).toHaveLength(2);
  });

  test('nothing permanent is made like what is only here', async () => {
    await session.script(`
      CREATE TEMP TABLE fleeting (id integer); CREATE UNLOGGED TABLE "Odd ""one" (id integer);
      CREATE TEMP TABLE shadowed (id integer); CREATE TABLE shadowed (id integer, v text); CREATE TABLE kept_2 (id integer);
      CREATE TABLE kept_3 (v text)`);
    for (const command of [
      'CREATE TABLE like_1 (LIKE fleeting)',
      'CREATE TABLE like_1 (a integer, LIKE kept_3, LIKE\nFleeting INCLUDING ALL)',
      'CREATE TABLE like_1 (LIKE pg_temp . "fleeting")',
      'CREATE TABLE like_1 (LIKE public."Odd ""one")',
      'CREATE TABLE like_1 (LIKE shadowed)',
      `SELECT run('CREATE TABLE like_1 (LIKE fleeting)')`,
      'CREATE TEMP TABLE fleeting_2 (id integer); CREATE TABLE like_1 (LIKE fleeting_2)',
      'CREATE TABLE IF NOT EXISTS like_1 (LIKE fleeting)',
    ]) {
      await expect(session.script(command), command).rejects.toMatchObject({
        code: '0A000',
        message: expect.stringContaining('which is on this node only') as string,
      });
    }
    expect(
      await replicated(`
        CREATE TEMP TABLE fleeting_3 (LIKE fleeting); CREATE UNLOGGED TABLE fleeting_4 (LIKE fleeting);
        CREATE TABLE like_2 (LIKE public.shadowed); CREATE TABLE like_3 (LIKE kept_2, v text CHECK (v LIKE 'fleeting'), fleeting text CHECK (v LIKE fleeting));`),
    ).toHaveLength(2);
    await session.script('SET search_path = public, pg_temp');
    expect(await replicated('CREATE TABLE like_4 (LIKE shadowed)')).toHaveLength(1);
    await session.script('SET search_path = public');
    await session.script(
      'DROP TABLE fleeting, fleeting_3, fleeting_4, "Odd ""one", pg_temp.shadowed, kept_2, kept_3; DROP TABLE shadowed, like_2, like_3, like_4',
    );
  });

  test('an aggregate is dropped by the name that it has', async () => {
    await session.script(`CREATE AGGREGATE "odd()" (integer) (SFUNC = int4pl, STYPE = integer);
      CREATE AGGREGATE plain (*) (SFUNC = int8inc, STYPE = bigint, INITCOND = '0')`);
    expect(await replicated('DROP AGGREGATE "odd()" (integer); DROP AGGREGATE plain (*)')).toEqual([
      'DROP AGGREGATE IF EXISTS public."odd()"(integer)',
      'DROP AGGREGATE IF EXISTS public.plain(*)',
    ]);
  });

  test('values that each node would compute anew are refused, or sent along', async () => {
    await session.script(`
      CREATE TABLE v (id integer PRIMARY KEY); INSERT INTO v VALUES (1);
      CREATE DOMAIN random_id AS uuid DEFAULT gen_random_uuid();
      CREATE DOMAIN moment AS timestamptz DEFAULT now();
      CREATE FUNCTION seeded(seed uuid DEFAULT gen_random_uuid()) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT seed::text';
      CREATE FUNCTION timed(at timestamptz DEFAULT CURRENT_TIMESTAMP) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ''at'''`);
    for (const column of ['random_id', 'moment', 'text DEFAULT seeded()']) {
      await expect(session.script(`ALTER TABLE v ADD COLUMN c ${column}`)).rejects.toMatchObject({
        code: '0A000',
        message: expect.stringContaining('ADD COLUMN ... DEFAULT') as string,
      });
    }
    await session.script('TRUNCATE bdr.bdr_queued_commands');
    await session.script(`ALTER TABLE v ADD COLUMN c timestamptz DEFAULT 'now'`);
    const [row] = await session.query<{ sent: string; here: string }>(`
      SELECT (missing -> 0 ->> 'value')::timestamptz::text AS sent, (SELECT c::text FROM v) AS here
      FROM bdr.bdr_queued_commands`);
    expect(row?.sent).toBe(row?.here);
    await session.script(
      'DELETE FROM bdr.bdr_queued_commands; ALTER TABLE v ADD COLUMN d text DEFAULT timed()',
    );
    const [timed] = await session.query(
      `SELECT missing -> 0 ->> 'value' AS sent FROM bdr.bdr_queued_commands`,
    );
    expect(timed).toEqual({ sent: 'at' });
    await session.script('DROP TABLE v');
  });

  describe('a table that is written anew with other values', () => {
    beforeAll(() =>
      session.script(`
        CREATE TABLE w (id integer PRIMARY KEY, "V" text, at text); INSERT INTO w VALUES (1, '1', '2026-11-27');
        CREATE FUNCTION "Odd"(text) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT lower($1)';
        CREATE FUNCTION even(text) RETURNS text LANGUAGE sql STABLE AS 'SELECT lower($1)'`),
    );
    afterAll(() => session.script('DROP TABLE w; DROP FUNCTION "Odd", even'));

    const alter = (expression: string) => `ALTER TABLE w ALTER "V" TYPE text USING ${expression}`;

    test.each([
      ['random()', alter('random()::text')],
      [
        'behind another part',
        `ALTER TABLE w ALTER id TYPE bigint, ALTER COLUMN at SET DATA TYPE text USING (now())`,
      ],
      ['a word', alter('"V" || CURRENT_USER')],
      ['a system column', alter('xmin::text')],
      ['a stable function without arguments', alter('pg_backend_pid ( )::text')],
      ['a setting', alter(`current_setting('TimeZone')`)],
      ["a user's function", alter('"Odd"("V")')],
      ['within a call', alter(`concat(ARRAY['a', "V"], clock_timestamp())`)],
      ['behind strings and comments', alter(`/* ' */ E'\\'' || ';' -- (\n || gen_random_uuid()`)],
      [
        'in a DO block',
        `DO $do$ BEGIN EXECUTE 'ALTER TABLE w ALTER "V" TYPE text USING random()'; END $do$`,
      ],
      [
        'in a function that says so',
        `SELECT run('ALTER TABLE w ALTER "V" TYPE text USING random()')`,
      ],
      ['in the second of two commands', `SELECT 1; ${alter('random()::text')}`],
    ])('is refused: %s', async (_, command) => {
      await expect(session.script(command)).rejects.toMatchObject({
        code: '0A000',
        message: expect.stringContaining('TYPE ... USING') as string,
      });
    });

    test.each([
      ['a cast', alter('"V"::varchar(10)')],
      [
        'functions of its own values alone',
        alter(`coalesce(upper("V"), to_char(to_date(at, 'YYYY-MM-DD'), 'YYYY'))`),
      ],
      ["a user's function that says so", alter('even("V")')],
      ['words in strings and comments', alter(`"V" || 'random()' /* now() */`)],
      ['a default besides', `${alter('upper("V")')}, ALTER at SET DEFAULT now()`],
      ['another command besides', `${alter('upper("V")')}; UPDATE w SET at = random()`],
      ['no expression', 'ALTER TABLE w ALTER id TYPE bigint'],
      [
        'in a function that is volatile itself',
        `SELECT run('ALTER TABLE w ALTER "V" TYPE text USING upper("V")')`,
      ],
    ])('is not refused: %s', async (_, command) => {
      expect(await replicated(command)).toHaveLength(1);
    });

    test.each(['GENERATED ALWAYS AS IDENTITY', 'GENERATED BY DEFAULT AS IDENTITY'])(
      'is refused: numbers by %s',
      async (identity) => {
        const added = session.script(`ALTER TABLE w ADD n integer ${identity}`);
        await expect(added).rejects.toMatchObject({ code: '0A000' });
      },
    );
  });

  test('rows of CREATE TABLE AS are written again beside whatever temporary tables there are', async () => {
    expect(
      await replicated(`CREATE TEMP TABLE bdr_rows (n integer); CREATE TABLE as1 AS SELECT 1 AS n`),
    ).toEqual([expect.stringContaining('as1')]);
    await session.script('DROP TABLE bdr_rows, as1');
  });

  test('nobody passes for an event trigger by a text that looks like a frame of the call stack', async () => {
    for (const [call, trigger] of [
      ['internal_queue_command(current_user, tg_tag)', 'internal_capture_command'],
      ['internal_begin_command(current_user, tg_tag)', 'internal_command_started'],
    ]) {
      await session.script(`
        CREATE FUNCTION spoof(tg_tag text) RETURNS boolean LANGUAGE plpgsql AS $f$
        DECLARE queued boolean; begun boolean;
        BEGIN
        ${call?.includes('queue') ? 'queued' : 'begun'} := bdr.${call}"
PL/pgSQL function bdr.${trigger}() x" FROM (VALUES (1)) AS q;
        RETURN true; END $f$`);
      await expect(session.query(`SELECT spoof('CREATE EXTENSION')`), call).rejects.toMatchObject({
        code: '42501',
      });
      await session.script('DROP FUNCTION spoof');
    }
  });

  test('of functions in SQL the statement is known where their name is unmistakable', async () => {
    await session.script(`
      CREATE FUNCTION in_sql() RETURNS void LANGUAGE sql AS $$
          CREATE TABLE i1 (id integer); SELECT run('CREATE TABLE i2 (); CREATE TABLE i3 ()'); CREATE TABLE i4 (v text DEFAULT ';') $$;
      CREATE PROCEDURE twice(integer) LANGUAGE sql AS 'CREATE TABLE j1 ()';
      CREATE PROCEDURE twice(text) LANGUAGE sql AS 'CREATE TABLE j2 ()'`);
    expect(await replicated('SELECT in_sql()')).toEqual([
      'CREATE TABLE i1 (id integer)',
      'CREATE TABLE i2 ()',
      'CREATE TABLE i3 ()',
      `CREATE TABLE i4 (v text DEFAULT ';')`,
    ]);
    await expect(session.script('CALL twice(1)')).rejects.toMatchObject({ code: '0A000' });
    await expect(
      session.script(
        `CREATE FUNCTION made_here() RETURNS void LANGUAGE sql AS 'CREATE TABLE k ()'; SELECT made_here()`,
      ),
    ).rejects.toMatchObject({ code: '0A000' });
  });
});
