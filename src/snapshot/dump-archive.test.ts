import { expect, test } from 'vitest';
import { parseDump } from './dump-archive.ts';

const toc = (header: string) => `--\n-- ${header}\n--\n\n`;
const script = (body: string, strings = 'on') => `--
-- PostgreSQL database dump
--

\\restrict abc123

-- Dumped from database version 18.4
-- Dumped by pg_dump version 18.3

SET statement_timeout = 0;
SET standard_conforming_strings = ${strings};
SELECT pg_catalog.set_config('search_path', '', false);

${body}--
-- PostgreSQL database dump complete
--

\\unrestrict abc123

`;

test('a script without objects has its settings alone, without meta-commands and comments', () => {
  expect(parseDump(script(''), 'post-data')).toEqual({
    pgDumpVersion: '18.3',
    entries: [
      {
        section: 'post-data',
        type: 'SETTINGS',
        name: 'session',
        schema: null,
        owner: null,
        sql: "SET statement_timeout = 0;\nSET standard_conforming_strings = on;\nSELECT pg_catalog.set_config('search_path', '', false);",
      },
    ],
  });
});

test('objects are split, with what follows from them', () => {
  const { entries } = parseDump(
    script(
      `${toc('Name: s; Type: SCHEMA; Schema: -; Owner: me')}CREATE SCHEMA s;\n\n\nALTER SCHEMA s OWNER TO me;\n\n${toc('Name: EXTENSION x; Type: COMMENT; Schema: -; Owner: -')}COMMENT ON EXTENSION x IS 'y';\n\n\n`,
    ),
    'pre-data',
  );
  expect(entries.slice(1)).toEqual([
    {
      section: 'pre-data',
      type: 'SCHEMA',
      name: 's',
      schema: null,
      owner: 'me',
      sql: 'CREATE SCHEMA s;\n\n\nALTER SCHEMA s OWNER TO me;',
    },
    {
      section: 'pre-data',
      type: 'COMMENT',
      name: 'EXTENSION x',
      schema: null,
      owner: null,
      sql: "COMMENT ON EXTENSION x IS 'y';",
    },
  ]);
});

test('names may look like the rest of the comment', () => {
  const { entries } = parseDump(
    script(
      `${toc('Name: t; Type: VIEW; Type: TABLE; Schema: a b; Owner: me; too')}CREATE TABLE x ();\n\n`,
    ),
    'pre-data',
  );
  expect(entries[1]).toMatchObject({
    name: 't; Type: VIEW',
    type: 'TABLE',
    schema: 'a b',
    owner: 'me; too',
  });
});

test('an object that looks like several in its text stays one', () => {
  const evil = toc('Name: evil; Type: TABLE; Schema: -; Owner: me');
  const body = `CREATE FUNCTION f() AS $_$\nSET standard_conforming_strings = off;\n'\\';\n${evil}--\n-- PostgreSQL database dump complete\n--\n$_$;`;
  const { entries } = parseDump(
    script(`${toc('Name: f(); Type: FUNCTION; Schema: a; Owner: me')}${body}\n\n`),
    'pre-data',
  );
  expect(entries).toHaveLength(2);
  expect(entries[1]?.sql).toBe(body);
});

test('old-fashioned strings are read as the script says', () => {
  const body = `CREATE TABLE t (a text DEFAULT 'it\\'s\n${toc('Name: no; Type: TABLE; Schema: a; Owner: b')}');`;
  const text = `${toc('Name: t; Type: TABLE; Schema: a; Owner: me')}${body}\n\n`;
  expect(parseDump(script(text, 'off'), 'pre-data').entries[1]?.sql).toBe(body);
});

test('settings between objects belong to the object that they are for', () => {
  const { entries } = parseDump(
    script(
      `SET default_tablespace = '';\n\n${toc('Name: v; Type: VIEW; Schema: a; Owner: me')}CREATE VIEW v AS SELECT 1;\n\n\nSET default_table_access_method = heap;\n\n${toc('Name: t; Type: TABLE; Schema: a; Owner: me')}CREATE TABLE t ();\n\n`,
    ),
    'pre-data',
  );
  expect(entries.slice(1).map((entry) => entry.sql)).toEqual([
    "SET default_tablespace = '';\n\nCREATE VIEW v AS SELECT 1;",
    'SET default_table_access_method = heap;\n\nCREATE TABLE t ();',
  ]);
  expect(entries[0]?.sql).not.toContain('default_tablespace');
});

test('the end of a comment that looks like a setting stays where it is', () => {
  const body = `COMMENT ON TABLE t IS 'a\nSET default_tablespace = ''';`;
  const { entries } = parseDump(
    script(`${toc('Name: TABLE t; Type: COMMENT; Schema: a; Owner: me')}${body}\n\n`),
    'pre-data',
  );
  expect(entries[1]?.sql).toBe(body);
});

test('a dump that broke off is no dump', () => {
  const text = script('');
  expect(() => parseDump(text.slice(0, text.indexOf('complete')), 'pre-data')).toThrow(
    'no complete dump',
  );
  expect(() => parseDump('', 'pre-data')).toThrow('no complete dump');
});
