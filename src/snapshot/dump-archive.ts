import { BdrError } from '../base/errors.ts';
import { commentLines } from './sql-comments.ts';

/** pg_dump's own halves of a schema: what must be there before the data, and what is made after it. */
export type DumpSection = 'pre-data' | 'post-data';

/** One object of a dump, with the statements that make it, name its owner and follow from it. */
export interface DumpEntry {
  readonly section: DumpSection;
  /** pg_dump's word: TABLE, FUNCTION, FK CONSTRAINT, ACL …; SETTINGS for the `SET` lines every section begins with. */
  readonly type: string;
  /** As pg_dump tells people: a constraint is named "table constraint", a function with its arguments. */
  readonly name: string;
  readonly schema: string | null;
  readonly owner: string | null;
  /** Runs as one simple query; what it needs of the session is set by the entries before it. */
  readonly sql: string;
}

export interface DumpScript {
  readonly pgDumpVersion: string;
  /** In the order in which they must run. The first is of type SETTINGS. */
  readonly entries: DumpEntry[];
}

interface Mark {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

const TOC = /^-- Name: (.*); Type: (.*?); Schema: (.*); Owner: (.*)$/;
const COMPLETE = '-- PostgreSQL database dump complete';
// pg_dump writes these between objects, before the comment of the one that needs them. The values are spelled out so
// narrowly that the end of a quoted text which looks like this cannot be meant.
const TRAILING_SET =
  /(?:^|\n)((?:\n*SET default_(?:tablespace|table_access_method) = (?:''|"[^"\n]*"|[a-z0-9_]+);)+)$/;

/**
 * Reads the plain-text output of `pg_dump --section=…`. The section comes from the caller, who asked pg_dump for it; the
 * entries are split at pg_dump's table-of-contents comments, and only at those that PostgreSQL, too, would read as comments.
 */
export function parseDump(text: string, section: DumpSection): DumpScript {
  const version = /^-- Dumped by pg_dump version (\S+)/m.exec(text)?.[1];
  // The first one is the header's.
  const strings = /^SET standard_conforming_strings = (on|off);$/m.exec(text)?.[1];
  const comments = commentLines(text, strings === 'off').map(({ start, end }) => ({
    start,
    end,
    text: text.slice(start, end),
  }));
  const complete = comments.findLast((comment) => comment.text === COMPLETE);
  if (version === undefined || !complete)
    throw new BdrError('schema_copy_failed', {
      message: 'pg_dump wrote no complete dump',
      detail: text.slice(-300),
    });

  const marks = comments.filter((comment, index) => isTocComment(comments, index, comment));
  /** Where the text before a mark ends: above the "--" line that stands over it. */
  const endBefore = (index: number) => (marks[index] ?? complete).start - 3;
  const settings = settingsOf(text.slice(0, endBefore(0)));

  const entries: DumpEntry[] = [];
  let carried = takeTrailingSets(settings);
  entries.push({
    section,
    type: 'SETTINGS',
    name: 'session',
    schema: null,
    owner: null,
    sql: carried.sql,
  });
  marks.forEach((mark, index) => {
    const lead = carried.sets;
    carried = takeTrailingSets(trimNewlines(text.slice(mark.end + 3, endBefore(index + 1))));
    if (carried.sql === '' && lead === '') return;
    const [, name = '', type = '', schema = '-', owner = '-'] = TOC.exec(mark.text) ?? [];
    entries.push({
      section,
      type,
      name,
      schema: absent(schema),
      owner: absent(owner),
      sql: lead === '' ? carried.sql : `${lead}\n\n${carried.sql}`,
    });
  });
  return { pgDumpVersion: version, entries };
}

/** The lines `--`, `-- Name: …`, `--` directly below each other. */
function isTocComment(comments: readonly Mark[], index: number, comment: Mark): boolean {
  const before = comments[index - 1];
  const after = comments[index + 1];
  return (
    TOC.test(comment.text) &&
    before?.text === '--' &&
    before.end + 1 === comment.start &&
    after?.text === '--' &&
    comment.end + 1 === after.start
  );
}

/** The header without comments, and without psql's `\restrict`, which no server understands. */
function settingsOf(header: string): string {
  const lines = header
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('--') && !/^\\restrict \w+$/.test(line));
  return lines.join('\n');
}

function takeTrailingSets(sql: string): { sql: string; sets: string } {
  const match = TRAILING_SET.exec(sql);
  if (!match) return { sql, sets: '' };
  return {
    sql: trimNewlines(sql.slice(0, match.index)),
    sets: (match[1] as string).replaceAll(/\n+/g, '\n').trim(),
  };
}

function trimNewlines(text: string): string {
  return text.replace(/^\n+/, '').replace(/\n+$/, '');
}

function absent(word: string): string | null {
  return word === '-' || word === '' ? null : word;
}
