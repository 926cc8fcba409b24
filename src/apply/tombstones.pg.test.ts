import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openNewDatabase } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import type { PgTime } from '../base/pg-time.ts';
import { purgeTombstones } from '../catalog/tombstones.ts';
import type { Writer } from '../conflict/version.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Relation } from '../pgoutput/transaction.ts';
import type { Session } from '../postgres/session.ts';
import { PreparedStatements } from './prepared.ts';
import type { Table } from './table.ts';
import { TableMap } from './table-map.ts';
import { keyArrays, Tombstones } from './tombstones.ts';

const [LOCAL, ONE, TWO] = [1, 2, 3].map((sequence) => ({
  id: { sysid: '7', timeline: 1, dboid: sequence },
  sequence,
})) as [Writer, Writer, Writer];
const NOON = 845_000_000_123_456 as PgTime;
const at = (micros: number) => (NOON + micros) as PgTime;

/** A type of a key, a value, another spelling of it, and another value. */
const TYPES: readonly [type: string, value: string, alike: string, other: string][] = [
  ['integer', '1', '01', '2'],
  ['text', 'a "b" \\{,}', 'a "b" \\{,}', 'A'],
  ['numeric', '1.0', '1.00', '1.01'],
  ['char(5)', 'ab', 'ab   ', 'abc'],
  ['float8', '0', '-0', '1'],
  ['timestamptz', '2026-01-01 00:00:00+00', '2026-01-01 01:00:00+01', '2026-01-02 00:00:00+00'],
  ['public.citext', 'Straße', 'sTRAßE', 'other'],
  ['public.any_case', 'Straße', 'straße', 'other'],
  ['public.strict', 'Straße', 'straße', 'other'],
  ['public.mood', 'ok', 'ok', 'sad'],
  ['bit(3)', '101', '101', '111'],
  ['bit(3)[]', '{101,NULL}', '{ 101, NULL }', '{111}'],
  ['numeric[]', '{1.0}', '{1}', '{2}'],
  ['public.two', '(1,1.0)', '(1,1.00)', '(1,2)'],
  ['int4range', '[1,2]', '[1,3)', 'empty'],
  ['money', '$1.00', '1', '2'],
];

describe('Tombstones', () => {
  let server: EmbeddedServer;
  let session: Session;
  let tombstones: Tombstones;
  let tables: TableMap;

  beforeAll(async () => {
    server = await startServer();
    session = await openNewDatabase(server, 'app');
    await session.script(`
      CREATE EXTENSION citext SCHEMA public;
      CREATE COLLATION public.any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
      CREATE DOMAIN public.any_case AS text COLLATE public.any_case;
      CREATE DOMAIN public.strict AS public.any_case NOT NULL;
      CREATE TYPE public.mood AS ENUM ('sad', 'ok');
      CREATE TYPE public.two AS (a integer, b numeric);
      CREATE TABLE public.pair (z numeric, v text, a text COLLATE public.any_case, PRIMARY KEY (z, a));
      CREATE TABLE public.keyless (v text);
    `);
    for (const [index, [type]] of TYPES.entries()) {
      await session.script(`CREATE TABLE public.t${index} (k ${type} PRIMARY KEY, v text)`);
    }
    tables = new TableMap(session);
    tombstones = new Tombstones(new PreparedStatements(session), () => ({
      local: LOCAL,
      providers: new Map([
        [1, ONE],
        [2, TWO],
      ]),
      copies: new Set(),
    }));
  });
  afterAll(async () => {
    await session?.close();
    await server?.[Symbol.asyncDispose]();
  });
  beforeEach(() => session.script('TRUNCATE bdr.tombstone'));

  const tableOf = (name: string, columns: readonly string[]): Promise<Table> => {
    const relation: Relation = {
      id: 1,
      schema: 'public',
      name,
      replicaIdentity: 'default',
      // A star is part of the key.
      columns: columns.map((column) => ({
        name: column.replace('*', ''),
        typeOid: 25,
        typmod: -1,
        isKey: column.includes('*'),
      })),
    };
    return tables.find(relation);
  };
  const keys = (table: Table, time: PgTime, ...list: (readonly string[])[]) =>
    keyArrays(
      table,
      list.map((key) => ({ time, key })),
    );

  test('two spellings of one key are one key, whatever its type', async () => {
    for (const [index, [type, value, alike, other]] of TYPES.entries()) {
      const table = await tableOf(`t${index}`, ['*k', 'v']);
      await tombstones.add(table, keys(table, at(0), [value]), ONE.id);
      const asked = keys(table, at(0), [other], [alike], [value]);
      expect(await tombstones.contested(table, () => asked, TWO.id), type).toEqual([1, 2]);
      expect(await tombstones.find(table, [alike]), type).toEqual({ time: at(0), writer: ONE });
      expect(await tombstones.find(table, [other]), type).toBeUndefined();
    }
  });

  test('a key of several columns is kept in the order of their names, which all nodes know', async () => {
    const table = await tableOf('pair', ['*z', 'v', '*a']);
    await tombstones.add(table, keys(table, at(0), ['1.0', 'Abc']), ONE.id);
    const turned = await tableOf('pair', ['*a', '*z']);
    expect(await tombstones.find(turned, ['aBC', '1.00'])).toEqual({ time: at(0), writer: ONE });
    expect(await tombstones.find(turned, ['1.0', 'abc'.toUpperCase()].reverse())).toBeDefined();
    expect(await tombstones.find(turned, ['abd', '1.00'])).toBeUndefined();
    expect(await session.query('SELECT row_key FROM bdr.tombstone')).toEqual([
      { row_key: '{Abc,1.0}' },
    ]);
  });

  test('the greatest of a key counts, and the table’s own', async () => {
    const table = await tableOf('t0', ['*k', 'v']);
    await tombstones.add(table, keys(table, at(5), ['1']), ONE.id);
    await tombstones.add(table, keys(table, at(3), ['1']), TWO.id);
    expect(await tombstones.find(table, ['1'])).toEqual({ time: at(5), writer: ONE });
    await tombstones.add(table, keys(table, at(5), ['1']), TWO.id);
    expect(await tombstones.find(table, ['1'])).toEqual({ time: at(5), writer: TWO });
    await tombstones.addTable(table, at(7), ONE.id);
    for (const key of ['1', '2']) {
      expect(await tombstones.find(table, [key])).toEqual({ time: at(7), writer: ONE });
    }
  });

  test('contested is what another writer deleted at that time or later', async () => {
    const table = await tableOf('t0', ['*k', 'v']);
    const asked = keys(table, at(5), ['1'], ['2'], ['3'], ['4']);
    expect(await tombstones.contested(table, () => asked, TWO.id)).toEqual([]);
    await tombstones.add(table, keys(table, at(4), ['1']), ONE.id);
    await tombstones.add(table, keys(table, at(5), ['2']), ONE.id);
    await tombstones.add(table, keys(table, at(6), ['3']), TWO.id);
    await tombstones.add(table, keys(table, at(6), ['4']), ONE.id);
    expect(await tombstones.contested(table, () => asked, TWO.id)).toEqual([1, 3]);
    await tombstones.addTable(table, at(5), ONE.id);
    expect(await tombstones.contested(table, () => asked, TWO.id)).toEqual([0, 1, 2, 3]);
    expect(await tombstones.contested(table, () => asked, ONE.id)).toEqual([2]);
  });

  test('a table without a key knows only that it was truncated', async () => {
    const table = await tableOf('keyless', ['v']);
    expect(Tombstones.byKey(table)).toBe(false);
    expect(await tombstones.find(table, [])).toBeUndefined();
    await tombstones.addTable(table, at(0), ONE.id);
    expect(await tombstones.find(table, [])).toEqual({ time: at(0), writer: ONE });
  });

  test('keys and times may come in binary', async () => {
    const table = await tableOf('t0', ['*k', 'v']);
    const array = (oid: number, elements: readonly Buffer[]) => {
      const head = Buffer.alloc(20);
      head.writeInt32BE(1, 0);
      head.writeInt32BE(oid, 8);
      head.writeInt32BE(elements.length, 12);
      head.writeInt32BE(1, 16);
      const parts = elements.flatMap((element) => {
        const length = Buffer.alloc(4);
        length.writeInt32BE(element.length);
        return [length, element];
      });
      return Buffer.concat([head, ...parts]);
    };
    const time = Buffer.alloc(8);
    time.writeBigInt64BE(BigInt(at(5)));
    const binary = { times: array(1184, [time]), columns: [array(25, [Buffer.from('17')])] };
    await tombstones.add(table, binary, ONE.id);
    expect(await tombstones.find(table, ['17'])).toEqual({ time: at(5), writer: ONE });
    expect(await tombstones.contested(table, () => binary, TWO.id)).toEqual([0]);
  });

  test('what everybody has passed is forgotten, but not while a node copies', async () => {
    const table = await tableOf('t0', ['*k', 'v']);
    await tombstones.add(table, keys(table, at(1), ['1']), ONE.id);
    await tombstones.add(table, keys(table, at(3), ['1']), ONE.id);
    await session.script(
      `INSERT INTO bdr.bdr_nodes (node_sysid, node_timeline, node_dboid, node_status, node_name) VALUES ('9', 1, 1, 'i', 'new')`,
    );
    expect(await purgeTombstones(session, at(2), at(2))).toBe(0);
    await session.script(`UPDATE bdr.bdr_nodes SET node_status = 'c'`);
    expect(await purgeTombstones(session, at(2), at(2))).toBe(1);
    expect(await tombstones.find(table, ['1'])).toEqual({ time: at(3), writer: ONE });
  });

  test('in a table with a conflict policy all peers must know of it, and nothing be noted that is held against it', async () => {
    await session.script('DELETE FROM bdr.tombstone');
    const table = await tableOf('t0', ['*k', 'v']);
    await tombstones.add(table, keys(table, at(1), ['1']), ONE.id);
    const { schema, name } = table.local.name;
    await session.script(`
      INSERT INTO bdr.conflict_policy VALUES ('${schema}', '${name}', 'update_wins', NULL, 'd');
      INSERT INTO bdr.lost_write (relation, row_key, node_sysid, node_timeline, node_dboid,
                                  remote_change, remote_txid, remote_time, remote_lsn, remote_seen)
      VALUES (1, '{1}', '7', 1, 1, 'update', '1', 'now', '0/0', 'now')`);
    expect(await purgeTombstones(session, at(2), at(2))).toBe(0);
    await session.script('DELETE FROM bdr.lost_write');
    expect(await purgeTombstones(session, at(2), at(0))).toBe(0);
    expect(await purgeTombstones(session, at(2), at(2))).toBe(1);
  });
});
