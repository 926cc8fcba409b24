import type { Command } from 'commander';
import { EXTENSION_VERSION, readInstallation } from '../../catalog/installation.ts';
import { packageVersion } from '../../config/paths.ts';
import { readServerBasics } from '../../postgres/server-basics.ts';
import { openSession, readDsn } from '../open-session.ts';
import { drawTable } from '../output/table.ts';

/** What `bdr version --json` prints. Null: not asked, as no --dsn was given, or not there. */
interface Versions {
  readonly program: string;
  readonly extension: string;
  readonly node: string;
  readonly platform: string;
  readonly server: {
    readonly postgres: string;
    readonly database: string;
    readonly bdr: string | null;
    readonly extensionInstalled: string | null;
    readonly extensionAvailable: string | null;
  } | null;
}

export function addVersionCommand(program: Command): void {
  program
    .command('version')
    .summary('print the versions of this program and of a server')
    .description(
      'Prints the versions of this program and of Node.js; with --dsn also those of the server and of bdr in that database.',
    )
    .option('--dsn <dsn>', 'a database')
    .option('--json', 'print as JSON')
    .addHelpText(
      'after',
      `
Examples:
  bdr version
  bdr version --json --dsn "host=db1 user=postgres dbname=app"`,
    )
    .action(async (options: { dsn?: string; json?: true }) => {
      const versions: Versions = {
        program: packageVersion(),
        extension: EXTENSION_VERSION,
        node: process.versions.node,
        platform: `${process.platform}-${process.arch}`,
        server: options.dsn === undefined ? null : await readServer(options.dsn),
      };
      if (options.json) console.log(JSON.stringify(versions, undefined, 2));
      else console.log(drawTable(rows(versions), '').join('\n'));
    });
}

async function readServer(dsn: string): Promise<Versions['server']> {
  await using session = await openSession(readDsn(dsn), 'version');
  const basics = await readServerBasics(session);
  const found = await readInstallation(session);
  return {
    postgres: basics.version,
    database: basics.database,
    bdr: found.version,
    extensionInstalled: found.extensionVersion,
    extensionAvailable: found.availableVersion,
  };
}

function rows({ program, extension, node, platform, server }: Versions): string[][] {
  return [
    ['bdr', `${program} (extension ${extension})`],
    ['Node.js', `${node} on ${platform}`],
    ...(server
      ? [
          ['PostgreSQL', server.postgres],
          [
            'database',
            server.bdr === null
              ? `${server.database}, without bdr`
              : `${server.database}, with bdr ${server.bdr}${server.extensionInstalled === null ? '' : ` (extension ${server.extensionInstalled})`}`,
          ],
        ]
      : []),
  ];
}
