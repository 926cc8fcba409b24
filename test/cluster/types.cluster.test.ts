import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, concurrently, type TestNode } from '../support/cluster.ts';

/** Two literals of each built-in type, of a kind that is easily spoilt on the way. */
const SAMPLES: Readonly<Record<string, readonly [string, string]>> = {
  aclitem: ['postgres=r*w/postgres', '=r/postgres'],
  bit: ['1', '0'],
  bool: ['t', 'f'],
  box: ['(3,4),(1,2)', '(-0.1,1e10),(-7,-8)'],
  bpchar: ['ab  ', 'é '],
  bytea: ['\\x00ff275c', '\\x'],
  char: ['a', '\\377'],
  cid: ['0', '4294967295'],
  cidr: ['10.1.0.0/16', '2001:db8::/32'],
  circle: ['<(1,-2),3.5>', '<(0,0),0>'],
  date: ['4713-01-01 BC', 'infinity'],
  datemultirange: ['{[2026-01-01,2026-02-01),[2027-01-01,)}', '{}'],
  daterange: ['[2026-01-01,infinity)', 'empty'],
  float4: ['NaN', '3.4028235e38'],
  float8: ['-0', '4.9406564584124654e-324'],
  inet: ['10.1.2.3/8', 'fe80::1'],
  int2: ['-32768', '32767'],
  int2vector: ['1 -2 3', ''],
  int4: ['-2147483648', '2147483647'],
  int4multirange: ['{[1,3),[5,6)}', '{(,)}'],
  int4range: ['[1,5)', '(,)'],
  int8: ['-9223372036854775808', '9223372036854775807'],
  int8multirange: ['{[-9223372036854775808,0)}', '{}'],
  int8range: ['[1,9223372036854775807)', 'empty'],
  interval: ['-178000000 years', '1 year -2 mons +3 days -04:05:06.789012'],
  json: ['{"b" : 1, "a":[ null,"\\u00e9\\"" ],  "b":2}', '"x"'],
  jsonb: ['{"a": [null, 1.10, "\\u00e9\\""], "b": {}}', 'null'],
  jsonpath: ['$."a b"[*] ? (@ > 1)', 'strict $'],
  line: ['{1,-1,0.1}', '{0,1,0}'],
  lseg: ['[(0,0),(1,1.5)]', '[(-1e-10,0),(0,0)]'],
  macaddr: ['08:00:2b:01:02:03', 'ff:ff:ff:ff:ff:ff'],
  macaddr8: ['08:00:2b:01:02:03:04:05', '00:00:00:00:00:00:00:00'],
  money: ['-92233720368547758.08', '0.01'],
  name: ['a "quoted" name', 'é'],
  numeric: ['NaN', '-0.000000000000000000000000000000000000012345678900'],
  nummultirange: ['{[1.10,2.0],(3,)}', '{}'],
  numrange: ['(1.10,2.00]', '[-Infinity,Infinity]'],
  oid: ['0', '4294967295'],
  oidvector: ['1 2 4294967295', ''],
  path: ['[(0,0),(1,1),(2,0)]', '((0,0),(1,1))'],
  pg_lsn: ['16/B374D848', 'FFFFFFFF/FFFFFFFF'],
  pg_snapshot: ['10:20:10,14,15', '1:1:'],
  point: ['(1,-0)', '(Infinity,NaN)'],
  polygon: ['((0,0),(1,1),(2,0))', '((1,1))'],
  refcursor: ['a cursor', ''],
  regclass: ['pg_catalog.pg_class', '-'],
  regcollation: ['pg_catalog."C"', '-'],
  regconfig: ['pg_catalog.english', 'pg_catalog.simple'],
  regdictionary: ['pg_catalog.english_stem', 'pg_catalog.simple'],
  regnamespace: ['pg_catalog', 'public'],
  regoper: ['pg_catalog.||/', '0'],
  regoperator: ['pg_catalog.+(integer,integer)', '0'],
  regproc: ['pg_catalog.now', '-'],
  regprocedure: ['pg_catalog.lower(text)', '-'],
  regrole: ['postgres', 'pg_monitor'],
  regtype: ['integer', 'timestamp with time zone'],
  text: ['quote \' " \\ tab\t newline\n', 'ünï 😀 \u2028 null'],
  tid: ['(4294967295,65535)', '(0,1)'],
  time: ['24:00:00', '00:00:00.000001'],
  timestamp: ['4713-01-01 00:00:00 BC', '294276-12-31 23:59:59.999999'],
  timestamptz: ['-infinity', '2026-03-29 02:30:00.123456+01'],
  timetz: ['23:59:59.999999+15:59', '00:00:00-15:59'],
  tsmultirange: ['{["2026-01-01 00:00:00","2026-01-02 00:00:00")}', '{}'],
  tsquery: ["'fat' & ( 'rat' | !'c''at':*AB )", "'a' <2> 'b'"],
  tsrange: ['["2026-01-01 00:00:00.000001",)', 'empty'],
  tstzmultirange: ['{[-infinity,"2026-01-02 00:00:00+00")}', '{}'],
  tstzrange: ['["2026-01-01 00:00:00+02",infinity]', '(,)'],
  tsvector: ["'a':1A,3 'it''s':2B", ''],
  txid_snapshot: ['10:20:10,14,15', '1:1:'],
  uuid: ['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '00000000-0000-0000-0000-000000000000'],
  varbit: ['10110', ''],
  varchar: ['ab  ', ''],
  xid: ['0', '4294967295'],
  xid8: ['18446744073709551615', '1'],
  xml: ['<a b="1">x &amp; y</a>', 'content <b/> of two <c/>'],
};

/** Types of the server's own catalogs: their input functions refuse every value, so no user's column can hold one. */
const WITHOUT_INPUT = [
  'gtsvector',
  'pg_brin_bloom_summary',
  'pg_brin_minmax_multi_summary',
  'pg_dependencies',
  'pg_mcv_list',
  'pg_ndistinct',
  'pg_node_tree',
];

const USER_TYPES = `
  CREATE EXTENSION hstore; CREATE EXTENSION citext;
  CREATE SCHEMA "Odd ""types";
  CREATE TYPE "Odd ""types"."Mood" AS ENUM ('sad', 'it''s "ok"', 'née, heureux');
  CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
  CREATE DOMAIN short AS varchar(5) NOT NULL;
  CREATE DOMAIN even_shorter AS short CHECK (length(VALUE) < 4);
  CREATE DOMAIN tags AS text[] CHECK (cardinality(VALUE) < 5);
  CREATE TYPE inner_pair AS (a positive, b "Odd ""types"."Mood");
  CREATE TYPE outer_pair AS (x inner_pair[], y text, z numeric(10,3), "ü ü" timestamptz);
  CREATE TYPE float_range AS RANGE (subtype = float8, subtype_diff = float8mi);
  CREATE TABLE user_types (
      id integer PRIMARY KEY, mood "Odd ""types"."Mood", moods "Odd ""types"."Mood"[], p positive, s even_shorter, tags tags,
      pair outer_pair, pairs outer_pair[], fr float_range, fm float_multirange, h hstore, hs hstore[], c citext,
      v varchar(5), b bit(3), n numeric(6,2), ch char(4), ts timestamptz(0), iv interval second(2), grid integer[][]
  );
  CREATE TABLE extremes (id integer PRIMARY KEY, n numeric, f8 float8, f4 float4, t text, j jsonb, b bytea);
  CREATE TABLE key_uuid (k uuid PRIMARY KEY, v text);
  CREATE TABLE key_text (k text PRIMARY KEY, v text);
  CREATE TABLE key_composite (a integer, b text, c date, v text, PRIMARY KEY (c, a, b));
  CREATE TABLE key_domain (k even_shorter PRIMARY KEY, v text);
  CREATE TABLE key_enum (k "Odd ""types"."Mood" PRIMARY KEY, v text);
  CREATE DOMAIN mild AS "Odd ""types"."Mood" CHECK (VALUE <> 'sad');
  CREATE DOMAIN milder AS mild;
  CREATE TABLE key_enum_domain (k milder PRIMARY KEY, v text);
  CREATE TABLE unique_enum_domain (id integer PRIMARY KEY, mood milder UNIQUE);
  CREATE TABLE key_citext (k citext PRIMARY KEY, v text);
  CREATE TABLE key_timestamptz (k timestamptz PRIMARY KEY, v text);
  CREATE TABLE key_numeric (k numeric PRIMARY KEY, v text);
  CREATE TABLE key_char (k char(5) PRIMARY KEY, v text);
  CREATE TABLE key_float (k float8 PRIMARY KEY, v text);
  CREATE TABLE key_array (k integer[] PRIMARY KEY, v text);
  CREATE TABLE key_row (k inner_pair PRIMARY KEY, v text);
  CREATE TABLE key_range (k int4range PRIMARY KEY, v text);
  CREATE TABLE key_bytea (k bytea PRIMARY KEY, v text);
  CREATE TABLE key_long (k text COLLATE "C" PRIMARY KEY, big text, v text);
`;

describe('values of every type', () => {
  let cluster: Cluster;
  let one: TestNode;
  let two: TestNode;
  /** The built-in types that this server's columns may have. */
  let types: string[];

  beforeAll(async () => {
    cluster = await Cluster.start(2, USER_TYPES);
    [one, two] = [cluster.node(1), cluster.node(2)];
    types = (
      await one.sql(`
        SELECT t.typname FROM pg_type AS t
        WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype IN ('b', 'r', 'm')
          AND NOT EXISTS (SELECT FROM pg_type AS e WHERE e.typarray = t.oid)
        ORDER BY t.typname
      `)
    ).map(([name]) => String(name));
    const columns = types
      .filter((name) => name in SAMPLES)
      .map((name) => `"${name}" pg_catalog."${name}", "${name}[]" pg_catalog."${name}"[]`);
    const table = `CREATE TABLE every_type (id integer PRIMARY KEY, ${columns.join(', ')})`;
    for (const node of cluster.nodes) await node.sql(table);
  });
  afterAll(() => cluster[Symbol.asyncDispose]());

  test('there is a sample of every built-in type, or its input refuses all values', async () => {
    expect(
      types.filter((name) => !(name in SAMPLES) && !WITHOUT_INPUT.includes(name)),
      'types without a sample',
    ).toEqual([]);
    for (const name of WITHOUT_INPUT.filter((known) => types.includes(known))) {
      await expect(one.sql(`SELECT ''::pg_catalog."${name}"`), name).rejects.toMatchObject({
        code: '0A000',
      });
    }
  });

  test('every built-in type, its arrays and nulls pass in inserts, updates and deletes, both ways', async () => {
    const known = types.filter((name) => name in SAMPLES);
    const row = (which: 0 | 1) => {
      const values = known.flatMap((name) => {
        const literal = (text: string | undefined) => `${quote(text ?? '')}::pg_catalog."${name}"`;
        const samples = SAMPLES[name];
        return [
          literal(samples?.[which]),
          `ARRAY[${literal(samples?.[which])}, NULL, ${literal(samples?.[1 - which])}]`,
        ];
      });
      return values;
    };
    const columns = known.flatMap((name) => [`"${name}"`, `"${name}[]"`]);
    const insert = (id: number, which: 0 | 1) =>
      `INSERT INTO every_type (id, ${columns.join(', ')}) VALUES (${id}, ${row(which).join(', ')})`;
    await one.sql(`${insert(1, 0)}; INSERT INTO every_type (id) VALUES (2), (3)`);
    await two.sql(`${insert(4, 1)}; INSERT INTO every_type (id) VALUES (5), (6)`);
    expect(await cluster.equal('every_type')).toHaveLength(6);
    // Each is changed by the node that did not write it.
    await two.sql(
      `UPDATE every_type SET (${columns.join(', ')}) = ROW(${row(1).join(', ')}) WHERE id IN (1, 2); DELETE FROM every_type WHERE id = 3`,
    );
    const nulls = columns.map((column) => `${column} = NULL`).join(', ');
    await one.sql(
      `UPDATE every_type SET ${nulls} WHERE id = 4; UPDATE every_type SET (${columns.join(', ')}) = ROW(${row(0).join(', ')}) WHERE id = 5;
       DELETE FROM every_type WHERE id = 6`,
    );
    expect(await cluster.equal('every_type')).toHaveLength(4);
    // What arrived is what was written, not merely the same on both.
    const [written] = await one.sql(`SELECT t::text FROM every_type AS t WHERE id = 5`);
    const [literal] = await one.sql(`SELECT ROW(5, ${row(0).join(', ')})::text`);
    expect(written).toEqual(literal);
    const [remote] = await two.sql(`SELECT t::text FROM every_type AS t WHERE id = 5`);
    expect(remote).toEqual(literal);
  });

  test('enums, domains, composites, ranges and types of extensions pass', async () => {
    const values = (
      n: number,
    ) => `(${n}, 'it''s "ok"', '{sad,"née, heureux",NULL}', ${n}, 'abc', '{"a b",NULL,"\\"q\\""}',
      ROW(ARRAY[ROW(1, 'sad')::inner_pair, NULL], E'line\\n"(,)', 1.5, '2026-01-01 00:00:00+00'),
      ARRAY[ROW(NULL, NULL, 0.001, NULL)::outer_pair, NULL], '[1.5,NaN)', '{[1,2),(3,)}',
      'a=>1, "b c"=>NULL, "=>"=>","', ARRAY['x=>y'::hstore], 'CaSe', 'abc  ', '101', 1234.5, 'ab', '2026-01-01 00:00:00.6+00',
      '12.345 seconds', '[2:3][0:1]={{1,2},{3,NULL}}')`;
    await one.sql(`INSERT INTO user_types VALUES ${values(1)}, ${values(2)}`);
    await two.sql(
      `INSERT INTO user_types VALUES ${values(3)}; INSERT INTO user_types (id, s) VALUES (4, '')`,
    );
    expect(await cluster.equal('user_types')).toHaveLength(4);
    await two.sql(
      `UPDATE user_types SET pair.x[1].b = 'née, heureux', moods[2] = 'sad', h = h - 'a'::text, c = 'cAsE', grid[2][0] = 9 WHERE id = 1;
       DELETE FROM user_types WHERE id = 2`,
    );
    await one.sql(
      `UPDATE user_types SET pairs = '{}', tags = '{}', fm = '{}', h = '' WHERE id = 3; UPDATE user_types SET p = 7 WHERE id = 4`,
    );
    expect(await cluster.equal('user_types')).toHaveLength(3);
  });

  test('the extremes of numbers and very long values pass', async () => {
    await one.sql(`
      INSERT INTO extremes (id, n, f8, f4) VALUES
        (1, 'NaN', 'NaN', 'NaN'), (2, 'Infinity', 'Infinity', 'Infinity'), (3, '-Infinity', '-Infinity', '-Infinity'),
        (4, 0.00, '-0', '-0'), (5, 1e131071, 1.7976931348623157e308, 1e-45), (6, 1.10, 2.2250738585072014e-308, 0.1),
        (7, ('0.' || repeat('9', 16383))::numeric, 0.1, 16777216)
    `);
    await two.sql(`
      INSERT INTO extremes (id, t, b, j)
      SELECT 8, repeat('é"\\' || chr(10), 200000), decode(repeat('00ff5c27', 200000), 'hex'),
             jsonb_build_object('long', repeat('x', 500000), 'n', 1e100)
    `);
    expect(await cluster.equal('extremes')).toHaveLength(8);
    await one.sql(
      `UPDATE extremes SET t = t || 'end' WHERE id = 8; UPDATE extremes SET f8 = -f8, n = -n, f4 = -f4 WHERE id < 8`,
    );
    expect(await cluster.equal('extremes')).toHaveLength(8);
  });

  /** Two keys, and another spelling of the first that the key's type takes for equal, where there is one. */
  const KEYS: readonly [table: string, a: string, b: string, alike?: string][] = [
    [
      'key_uuid',
      `'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'`,
      `'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12'`,
    ],
    ['key_text', `E'it''s "a"\\n😀\\\\'`, `''`],
    ['key_domain', `'abc'`, `'ab '`],
    ['key_enum', `'it''s "ok"'`, `'née, heureux'`],
    ['key_citext', `'Straße'`, `'Other'`, `'sTRAßE'`],
    ['key_timestamptz', `'2026-01-01 00:00:00.000001+00'`, `'infinity'`],
    ['key_numeric', '1.0', `'NaN'`, '1.00'],
    ['key_char', `'ab'`, `'c'`, `'ab   '`],
    ['key_float', `'0'`, `'NaN'`, `'-0'`],
    ['key_array', `'{1,NULL,2}'`, `'{}'`],
    ['key_row', `'(1,"it''s ""ok""")'::inner_pair`, `'(2,)'::inner_pair`],
    ['key_range', `'[1,2]'`, `'empty'`],
    ['key_bytea', `'\\x00ff'`, `'\\x'`],
  ];

  test('keys of every kind find their rows', async () => {
    for (const [table, a, b] of KEYS) {
      await one.sql(`INSERT INTO ${table} VALUES (${a}, 'one'), (${b}, 'one')`);
    }
    await one.sql(
      `INSERT INTO key_composite VALUES (1, 'x', '2026-01-01', 'one'), (1, 'y', '2026-01-01', 'one')`,
    );
    await cluster.settled();
    for (const [table, a, b] of KEYS) {
      await two.sql(
        `UPDATE ${table} SET v = 'two' WHERE k = ${a}; DELETE FROM ${table} WHERE k = ${b}`,
      );
    }
    await two.sql(
      `UPDATE key_composite SET v = 'two' WHERE b = 'x'; DELETE FROM key_composite WHERE b = 'y'`,
    );
    await cluster.settled();
    for (const [table] of KEYS) {
      expect(await cluster.same(table), table).toHaveLength(1);
      expect(await one.sql(`SELECT v FROM ${table}`), table).toEqual([['two']]);
    }
    expect(await cluster.equal('key_composite')).toEqual(['(1,x,2026-01-01,two)']);
  });

  // The operators of enums take no domain over one, not even twice the same.
  test('many rows, and rivals, are found by a domain over an enum', async () => {
    await one.sql(
      `INSERT INTO key_enum_domain VALUES ('it''s "ok"', 'one'), ('née, heureux', 'one')`,
    );
    await cluster.settled();
    await two.sql(`UPDATE key_enum_domain SET v = 'two'`);
    await cluster.equal('key_enum_domain');
    await two.sql('DELETE FROM key_enum_domain');
    await cluster.settled();
    await one.sql(
      `BEGIN; INSERT INTO key_enum_domain VALUES ('it''s "ok"', 'one'), ('née, heureux', 'one');
       ${`UPDATE key_enum_domain SET v = v || '.';`.repeat(15)} COMMIT`,
    );
    await cluster.settled();
    await two.sql(
      `BEGIN; ${`UPDATE key_enum_domain SET v = v || ',';`.repeat(15)}
       DELETE FROM key_enum_domain WHERE k::text = 'née, heureux'; COMMIT`,
    );
    expect(await cluster.equal('key_enum_domain')).toHaveLength(1);
    await concurrently(cluster.nodes, async () => {
      await one.sql(`INSERT INTO unique_enum_domain VALUES (1, 'née, heureux')`);
      await two.sql(`INSERT INTO unique_enum_domain VALUES (2, 'née, heureux')`);
    });
    expect(await cluster.equal('unique_enum_domain')).toEqual(['(2,"née, heureux")']);
  });

  test('a key that is only spelt anew keeps its row', async () => {
    const alike = KEYS.filter(([, , , spelling]) => spelling !== undefined);
    for (const [table, a, , spelling] of alike) {
      await one.sql(`UPDATE ${table} SET k = ${spelling}, v = 'spelt' WHERE k = ${a}`);
    }
    await cluster.settled();
    for (const [table] of alike) expect(await cluster.same(table), table).toHaveLength(1);
    expect(await cluster.equal('key_numeric')).toEqual(['(1.00,spelt)']);
  });

  test('one key spelt differently on two nodes is one row, the later spelling', async () => {
    for (const [table] of KEYS) await one.sql(`DELETE FROM ${table}`);
    await cluster.settled();
    const alike = KEYS.filter(([, , , spelling]) => spelling !== undefined);
    await concurrently(cluster.nodes, async () => {
      for (const [table, a] of alike) await one.sql(`INSERT INTO ${table} VALUES (${a}, 'first')`);
      for (const [table, , , spelling] of alike) {
        await two.sql(`INSERT INTO ${table} VALUES (${spelling}, 'later')`);
      }
    });
    await cluster.settled();
    for (const [table] of alike) {
      const rows = await cluster.same(table);
      expect(rows, table).toHaveLength(1);
      expect(rows[0], table).toContain('later');
    }
    expect(await cluster.equal('key_numeric')).toEqual(['(1.00,later)']);
    expect(await cluster.equal('key_citext')).toEqual(['(sTRAßE,later)']);
  });

  test('a key that is long enough to be stored out of line finds its row', async () => {
    await one.sql(`
      ALTER TABLE key_long ALTER k SET STORAGE EXTERNAL;
      INSERT INTO key_long SELECT string_agg(md5(g::text), '') , repeat(md5('x'), 1000), 'one' FROM generate_series(1, 80) AS g
    `);
    await cluster.settled();
    // A provider that did not write the row here sends neither the key nor the big value again.
    await two.sql(`UPDATE key_long SET v = 'two'`);
    await cluster.equal('key_long');
    await one.sql(`UPDATE key_long SET v = 'three'`);
    await cluster.equal('key_long');
    expect(await one.sql(`SELECT v, length(k), length(big) FROM key_long`)).toEqual([
      ['three', 2560, 32000],
    ]);
    await two.sql(`DELETE FROM key_long`);
    expect(await cluster.equal('key_long')).toEqual([]);
  });
});

function quote(text: string): string {
  return `E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`;
}
