import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

/** One file of SQL. */
export interface SqlFile {
  readonly name: string;
  readonly text: string;
}

/** A numbered file that runs once in each database. */
export interface Migration extends SqlFile {
  readonly number: number;
}

/** The SQL of schema bdr, in the order in which it runs. */
export interface SqlFiles {
  readonly migrations: readonly Migration[];
  /** Only CREATE OR REPLACE and the like: run again whenever they may have changed. */
  readonly routines: readonly SqlFile[];
}

/** Reads the files of `sql/`; scripts/build.mjs makes the extension's script of the same ones in the same order. */
export function readSqlFiles(dir: string): SqlFiles {
  const read = (folder: string, name: string): SqlFile => ({
    name: `${folder}/${name}`,
    text: readFileSync(path.join(dir, folder, name), 'utf8'),
  });
  const order = JSON.parse(
    readFileSync(path.join(dir, 'routines', 'order.json'), 'utf8'),
  ) as string[];
  return {
    migrations: readdirSync(path.join(dir, 'migrations'))
      .filter((name) => name.endsWith('.sql'))
      .toSorted()
      .map((name) => ({ ...read('migrations', name), number: Number.parseInt(name, 10) })),
    routines: order.map((name) => read('routines', name)),
  };
}
