// The tables of a run. They begin empty, so that every row in them was written by a client that the ledger knows.

/** A table whose rows are written by all clients of all nodes. Its column `tag` holds a value that is written once in a run. */
export interface ContendedTable {
  readonly name: string;
  readonly columns: readonly string[];
  /** Its key as one text, from the columns of `row`. */
  readonly key: (row: string) => string;
  /** The same from a tuple of the conflict history, whose values are JSON. */
  readonly keyInHistory: (tuple: string) => string;
  /** Unique in more than its key: the last row that was written under a key may have lost, or been written once more by an agent. */
  readonly isUnique?: true;
}

const plainKey = (row: string) => `${row}.id::text`;
const plainKeyInHistory = (tuple: string) => `${tuple} ->> 'id'`;

export const HOT: ContendedTable = {
  name: 'hot',
  columns: ['id', 'tag', 'note'],
  key: plainKey,
  keyInHistory: plainKeyInHistory,
};

/** Has a value that is stored apart, and is not sent when an UPDATE leaves it alone. */
export const WIDE: ContendedTable = {
  name: 'wide',
  columns: ['id', 'tag', 'big'],
  key: plainKey,
  keyInHistory: plainKeyInHistory,
};

export const PAIR: ContendedTable = {
  name: 'pair',
  columns: ['a', 'b', 'tag'],
  key: (row) => `${row}.a || '/' || ${row}.b`,
  keyInHistory: (tuple) => `(${tuple} ->> 'a') || '/' || (${tuple} ->> 'b')`,
};

/** Truncated now and then. */
export const CLEARED: ContendedTable = {
  name: 'cleared',
  columns: ['id', 'tag'],
  key: plainKey,
  keyInHistory: plainKeyInHistory,
};

/** Has two unique indexes besides its key. */
export const SEAT: ContendedTable = {
  name: 'seat',
  columns: ['id', 'tag', 'place', 'code'],
  key: plainKey,
  keyInHistory: plainKeyInHistory,
  isUnique: true,
};

export const CONTENDED: readonly ContendedTable[] = [HOT, WIDE, PAIR, CLEARED, SEAT];

/** Every transaction leaves an entry here; it has no key, so that what is applied twice shows. */
export const JOURNAL = 'journal';

export const SCHEMA = /* sql */ `
  CREATE TABLE public.hot (id integer PRIMARY KEY, tag text NOT NULL, note text);
  CREATE TABLE public.wide (id integer PRIMARY KEY, tag text NOT NULL, big text NOT NULL);
  ALTER TABLE public.wide ALTER big SET STORAGE EXTERNAL;
  CREATE TABLE public.pair (a integer, b text, tag text NOT NULL, PRIMARY KEY (a, b));
  CREATE TABLE public.cleared (id integer PRIMARY KEY, tag text NOT NULL);
  CREATE TABLE public.seat (id integer PRIMARY KEY, tag text NOT NULL, place integer UNIQUE, code text NOT NULL);
  CREATE UNIQUE INDEX seat_code ON public.seat (lower(code)) WHERE place > 3;
  CREATE TABLE public.journal (entry text NOT NULL, part integer NOT NULL, filler text NOT NULL);
`;

/** All of a row as one short text, by which two rows are the same or not. */
export function imageOf(table: ContendedTable, row: string): string {
  return `md5(ROW(${table.columns.map((column) => `${row}.${column}`).join(', ')})::text)`;
}

/** What a statement on the table returns: the row that it overwrote and the row that it wrote, as `WrittenRow`. */
export function returning(table: ContendedTable): string {
  return `RETURNING ${table.key('old')} AS old_key, old.tag AS old_tag,
      ${table.key('new')} AS new_key, new.tag AS new_tag, ${imageOf(table, 'new')} AS image`;
}

/** A row of `returning`; the old half is null where a row was inserted, the new one where it was deleted. */
export interface WrittenRow {
  readonly old_key: string | null;
  readonly old_tag: string | null;
  readonly new_key: string | null;
  readonly new_tag: string | null;
  readonly image: string | null;
}
