import type { Command } from 'commander';
import { BdrError } from '../../base/errors.ts';
import { copyExtensionFiles } from '../../catalog/extension-files.ts';
import { install, type InstallResult } from '../../catalog/install.ts';
import { readSqlFiles } from '../../catalog/sql-files.ts';
import { extensionDir, sqlDir } from '../../config/paths.ts';
import { openSession, readDsn } from '../open-session.ts';

export function addInstallCommand(program: Command): void {
  program
    .command('install')
    .summary('install bdr in a database, or its files on a server')
    .description(
      "Makes the objects of schema bdr in a database, over a connection: the same as CREATE EXTENSION bdr makes, for servers whose disk you cannot reach. Run it again after an upgrade of this program. With --sharedir it copies the extension's files to a server on this machine instead, for CREATE EXTENSION bdr.",
    )
    .option('--dsn <dsn>', 'the database, as a superuser')
    .option('--sharedir <dir>', 'what "pg_config --sharedir" of a server on this machine prints')
    .option('--json', 'print the outcome as JSON')
    .addHelpText(
      'after',
      `
Examples:
  bdr install --dsn "host=db1 user=postgres dbname=app"
  sudo bdr install --sharedir "$(pg_config --sharedir)"    then, in psql: CREATE EXTENSION bdr;`,
    )
    .action(async (options: { dsn?: string; sharedir?: string; json?: true }) => {
      if ((options.dsn === undefined) === (options.sharedir === undefined)) {
        throw new BdrError('usage', { message: 'give either --dsn or --sharedir' });
      }
      if (options.sharedir !== undefined) {
        const files = copyExtensionFiles(extensionDir(), options.sharedir);
        if (options.json) console.log(JSON.stringify({ files }, undefined, 2));
        else console.log(`copied:\n  ${files.join('\n  ')}\nnow, in psql: CREATE EXTENSION bdr;`);
        return;
      }
      await using session = await openSession(readDsn(options.dsn ?? ''), 'install');
      const result = await install(session, readSqlFiles(sqlDir()));
      console.log(options.json ? JSON.stringify(result, undefined, 2) : describe(result));
    });
}

function describe({ outcome, database, version, migrations, next }: InstallResult): string {
  const where = `in database "${database}"`;
  switch (outcome) {
    case 'created':
      return `bdr ${version} is installed ${where}`;
    case 'upgraded':
      return `bdr is upgraded to ${version} ${where} (migrations: ${migrations.join(', ')})`;
    case 'refreshed':
      return `bdr ${version} was installed already ${where}; its functions and views are made anew`;
    case 'extension':
      return `bdr ${version} is installed ${where} as an extension: ${
        next === null ? 'nothing to do' : `upgrade it with\n  ${next}`
      }`;
  }
}
