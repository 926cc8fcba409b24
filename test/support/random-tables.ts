import { quoteIdent, quoteLiteral } from '../../src/base/names.ts';
import type { Random } from './sim/random.ts';

/** What random tables are made with: to be there before them. */
export const RANDOM_TYPES = `
  CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
  CREATE TYPE pair AS (a integer, b text);
  CREATE DOMAIN positive AS integer CHECK (VALUE > 0);`;

interface ValueType {
  readonly name: string;
  /** Expressions, of a kind that is easily spoilt on the way. */
  readonly values: readonly string[];
  /** Another one for each number, for types that a key may have. */
  readonly key?: (n: number) => string;
}

const texts = (...values: readonly string[]) => values.map(quoteLiteral);
const LONG = [100, 333].map(
  (n) => `(SELECT string_agg(md5(g::text), '') FROM generate_series(1, ${n}) AS g)`,
);

const TYPES: readonly ValueType[] = [
  { name: 'integer', values: ['-7', '0', '2147483647'], key: String },
  { name: 'bigint', values: ['-7', '9000000000'], key: (n) => `${n}0000000000` },
  {
    name: 'text',
    values: texts('', `o'b\\c"`, 'ünï 😀', 'tab\tnew\nline', '\\N', '{}'),
    key: (n) => quoteLiteral(`k ${n}'é"\\`),
  },
  { name: 'text', values: [`'short'`, ...LONG] },
  {
    name: 'numeric',
    values: ['1.0', '1.00', '-0.00001', `'NaN'`],
    key: (n) => `${n}.${'0'.repeat(1 + (n % 3))}`,
  },
  { name: 'uuid', values: texts('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11') },
  {
    name: 'timestamptz',
    values: texts('2026-01-01 10:00:00.123456+02', 'infinity', '0044-03-15 BC'),
    key: (n) => `timestamptz '2026-03-29 02:30:00+01' + ${n} * interval '0.1 s'`,
  },
  { name: 'date', values: texts('-infinity'), key: (n) => `date '2020-01-01' + ${n}` },
  {
    name: 'bytea',
    values: texts('\\x', '\\x00ff0a5c'),
    key: (n) => `'\\x${String(n).padStart(4, '0')}'`,
  },
  { name: 'varchar(20)', values: texts('ab  ', ''), key: (n) => `'v${n} '` },
  { name: 'char(5)', values: texts('ab', ' c'), key: (n) => `'c${n}'` },
  { name: 'inet', values: texts('10.0.0.1/8', '::1'), key: (n) => `'10.0.0.${n % 250}'` },
  { name: 'positive', values: ['1', '99'], key: (n) => String(n + 1) },
  { name: 'boolean', values: ['true', 'false'] },
  { name: 'float8', values: [`'-0'`, `'NaN'`, '1e-300'] },
  { name: 'jsonb', values: texts('{"a": 1.10}', 'null', '[1, {"b": null}]') },
  { name: 'json', values: texts('{"a" : 1,  "a":2}', '[ ]') },
  { name: 'integer[]', values: texts('{}', '{1,NULL}', '[0:1]={5,6}', '{{1,2},{3,4}}') },
  { name: 'text[]', values: texts('{}', '{"a,b","c\\"d",NULL,""}') },
  { name: 'mood', values: texts('sad', 'happy') },
  { name: 'mood[]', values: texts('{sad,ok}', '{}') },
  { name: 'pair', values: [`ROW(1, 'x,"y')::pair`, `ROW(NULL, '')::pair`] },
  { name: 'pair[]', values: [`ARRAY[ROW(1, 'x')::pair, NULL]`, `'{}'`] },
  { name: 'int4range', values: texts('[1,5)', 'empty', '(,)') },
  { name: 'interval', values: texts('1 mon -1 day 00:00:01.5') },
  { name: 'tsvector', values: texts(`'a':1A 'b'`, '') },
  { name: 'xml', values: texts('<a b="1">x &amp; y</a>') },
];
const KEY_TYPES = TYPES.flatMap(({ key, ...type }) => (key ? [{ ...type, key }] : []));
const [INTEGER] = KEY_TYPES as [(typeof KEY_TYPES)[number]];

const NAMES = ['id', 'C ol', 'q"t', 'naïve', 'order'];

/** How a table finds its rows, and what else is in their way. */
const KINDS = [
  'key',
  'keys',
  'identity',
  'no key',
  'whole rows',
  'index',
  'deferrable',
  'hash',
  'range',
  'unique',
  'trigger',
] as const;

/** Of two concurrent writes of a unique row: partial, by expression, deferrable … */
const UNIQUE = [
  (name: string) => `CREATE UNIQUE INDEX ON ${name} (uq)`,
  (name: string) => `CREATE UNIQUE INDEX ON ${name} ((uq / 2))`,
  (name: string) => `CREATE UNIQUE INDEX ON ${name} (uq) WHERE uq > 5`,
  (name: string) => `ALTER TABLE ${name} ADD UNIQUE (uq) DEFERRABLE INITIALLY DEFERRED`,
];
const POLICIES = ['first_update_wins', 'update_wins', 'delete_wins'];

export interface RandomTable {
  /** Quoted, as columns are. */
  readonly name: string;
  readonly kind: (typeof KINDS)[number];
  readonly keys: readonly {
    readonly name: string;
    readonly type: string;
    readonly key: (n: number) => string;
  }[];
  readonly columns: readonly {
    readonly name: string;
    readonly type: string;
    readonly values: readonly string[];
  }[];
  readonly ddl: string;
  /** To be set on one node. */
  readonly policy: string | undefined;
}

/** A table of any kind, with columns of any types, in any order. */
export function randomTable(random: Random, name: string): RandomTable {
  const kind = random.pick(KINDS);
  const quoted = quoteIdent(name);
  const named = (at: number, prefix = '') => quoteIdent(`${prefix}${random.pick(NAMES)} ${at}`);
  const isWhole = kind === 'identity' || kind === 'range';
  const keys = Array.from({ length: kind === 'keys' ? 2 + random.below(2) : 1 }, (_, at) => {
    const { name: type, key } = isWhole ? INTEGER : random.pick(KEY_TYPES);
    return { name: named(at, 'key '), type, key };
  });
  const columns = Array.from({ length: 1 + random.below(6) }, (_, at) => {
    const { name: type, values } = random.pick(TYPES);
    return { name: named(at), type, values };
  });
  if (kind === 'unique' || kind === 'trigger') {
    columns.push({
      name: 'uq',
      type: 'integer',
      values: Array.from({ length: 40 }, (_, n) => String(n)),
    });
  }
  const lines = [
    ...keys.map(
      (key) =>
        `${key.name} ${key.type} NOT NULL${kind === 'identity' ? ' GENERATED ALWAYS AS IDENTITY' : ''}`,
    ),
    ...columns.map((column) => `${column.name} ${column.type}`),
  ]
    .map((line) => ({ line, at: random.below(1000) }))
    .toSorted((one, other) => one.at - other.at)
    .map(({ line }) => line);
  // From 18 on a table with REPLICA IDENTITY FULL takes no UPDATE with one.
  const takesGenerated = kind !== 'whole rows' && kind !== 'deferrable';
  const isGenerated = takesGenerated && random.chance(0.2);
  if (isGenerated) lines.push(`made text GENERATED ALWAYS AS ('m') STORED`);
  const list = keys.map((key) => key.name).join(', ');
  const after: string[] = [];
  if (kind === 'index') {
    const index = quoteIdent(`${name} key`);
    after.push(
      `CREATE UNIQUE INDEX ${index} ON ${quoted} (${list})`,
      `ALTER TABLE ${quoted} REPLICA IDENTITY USING INDEX ${index}`,
    );
  } else if (kind !== 'no key' && kind !== 'whole rows') {
    const checked = random.pick(['DEFERRED', 'IMMEDIATE']);
    lines.push(
      `PRIMARY KEY (${list})${kind === 'deferrable' ? ` DEFERRABLE INITIALLY ${checked}` : ''}`,
    );
  }
  if (kind === 'whole rows' || kind === 'deferrable') {
    after.push(`ALTER TABLE ${quoted} REPLICA IDENTITY FULL`);
  }
  const part = (at: number, bounds: string) =>
    `CREATE TABLE ${quoteIdent(`${name} part ${at}`)} PARTITION OF ${quoted} ${bounds}`;
  if (kind === 'hash') {
    for (let at = 0; at < 3; at++)
      after.push(part(at, `FOR VALUES WITH (MODULUS 3, REMAINDER ${at})`));
  }
  if (kind === 'range') {
    after.push(part(0, 'FOR VALUES FROM (MINVALUE) TO (10)'), part(1, 'DEFAULT'));
  }
  if (kind === 'unique') after.push(random.pick(UNIQUE)(quoted));
  if (kind === 'trigger') {
    const call = `${quoteIdent(`${name} even`)}()`;
    after.push(
      `CREATE FUNCTION ${call} RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.uq := NEW.uq / 2 * 2; RETURN NEW; END $$`,
      `CREATE TRIGGER even BEFORE INSERT OR UPDATE ON ${quoted} FOR EACH ROW EXECUTE FUNCTION ${call}`,
      `ALTER TABLE ${quoted} ENABLE ALWAYS TRIGGER even`,
    );
  }
  const partition =
    kind === 'hash' || kind === 'range' ? ` PARTITION BY ${kind.toUpperCase()} (${list})` : '';
  const takesPolicy = ['key', 'keys', 'unique'].includes(kind) && !isGenerated;
  return {
    name: quoted,
    kind,
    keys,
    columns,
    ddl: [`CREATE TABLE ${quoted} (${lines.join(', ')})${partition}`, ...after].join(';\n'),
    policy: takesPolicy && random.chance(0.4) ? random.pick(POLICIES) : undefined,
  };
}

const KEYS = 25;

/** Writes to a table, as a user might, of the one that has this number; it may fail. */
export function randomWrite(random: Random, table: RandomTable, user: number): string {
  const { name, kind, keys, columns } = table;
  const isKeyless = kind === 'no key' || kind === 'whole rows';
  // Nobody could say which of two rows without a key is the other.
  const base = isKeyless ? user * 100 : 0;
  const some = () => base + random.below(KEYS);
  const many = () => [...new Set(Array.from({ length: 1 + random.below(12) }, some))];
  const keyOf = (n: number) => keys.map(({ key }, at) => key(at === 0 ? n : n % 3));
  const is = (n: number) =>
    keyOf(n)
      .map((value, at) => `${keys[at]?.name} = ${value}`)
      .join(' AND ');
  const among = (list: readonly number[]) => list.map((n) => `(${is(n)})`).join(' OR ');
  const value = ({ values }: RandomTable['columns'][number]) =>
    random.chance(0.2) ? 'NULL' : random.pick(values);
  const written = columns.filter(() => random.chance(0.8));
  const insert = (list: readonly number[]) =>
    `INSERT INTO ${name} (${[...keys, ...written].map((column) => column.name).join(', ')})` +
    `${kind === 'identity' ? ' OVERRIDING SYSTEM VALUE' : ''}` +
    ` VALUES ${list.map((n) => `(${[...keyOf(n), ...written.map(value)].join(', ')})`).join(', ')}`;
  const arbitrates = !isKeyless && kind !== 'deferrable' && kind !== 'index';
  const onConflict = (action: string) =>
    arbitrates ? ` ON CONFLICT (${keys.map((key) => key.name).join(', ')}) DO ${action}` : '';
  const set = () =>
    columns
      .filter((_, at) => at === 0 || random.chance(0.4))
      .map((column) => `${column.name} = ${value(column)}`)
      .join(', ');
  const n = some();
  if (kind === 'no key') {
    return random.chance(0.05) ? `TRUNCATE ${name}` : insert(many());
  }
  switch (random.below(12)) {
    case 0:
    case 1:
      return insert([n]) + onConflict('NOTHING');
    case 2:
    case 3:
      return insert(many()) + onConflict('NOTHING');
    case 4:
      return insert(many()) + onConflict(`UPDATE SET ${set()}`);
    case 5:
    case 6:
      return `UPDATE ${name} SET ${set()} WHERE ${is(n)}`;
    case 7:
      return `UPDATE ${name} SET ${set()} WHERE ${among(many())}`;
    case 8: {
      if (kind === 'identity') return `DELETE FROM ${name} WHERE ${is(n)}`;
      const [first, ...others] = keys;
      const moved = `${first?.name} = ${first?.key(some())}`;
      return `UPDATE ${name} SET ${others.length > 0 || random.chance(0.6) ? moved : `${moved}, ${set()}`} WHERE ${is(n)}`;
    }
    case 9:
      return `DELETE FROM ${name} WHERE ${is(n)}; ${insert([n])}`;
    case 10:
      return !isKeyless && random.chance(0.1) ? `TRUNCATE ${name}` : insert([n]);
    default:
      return `DELETE FROM ${name} WHERE ${among(many())}`;
  }
}
