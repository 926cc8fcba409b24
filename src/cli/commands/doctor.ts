import type { Command } from 'commander';
import { readSqlFiles } from '../../catalog/sql-files.ts';
import { readEnvironment } from '../../config/environment.ts';
import { sqlDir } from '../../config/paths.ts';
import { examine } from '../../node/doctor.ts';
import { openSession, readDsn } from '../open-session.ts';
import { drawFindings } from '../output/doctor.ts';

export function addDoctorCommand(program: Command): void {
  program
    .command('doctor')
    .summary('check a server and a database, and say what to mend')
    .description(
      'Checks all that replication needs: settings, rights, versions, tables without keys, sequences that will collide and more; for a node also its agent, its links and whether its peers can be reached. Prints the SQL or the setting that mends each. Changes nothing. Exit code 1 if something must be mended.',
    )
    .requiredOption('--dsn <dsn>', 'the database that is, or is to be, a node; as a superuser')
    .option('--json', 'print the findings as JSON')
    .addHelpText(
      'after',
      `
Examples:
  bdr doctor --dsn "host=db1 user=postgres dbname=app"
  bdr doctor --dsn "host=db1 user=postgres dbname=app" --json | jq '.findings[] | select(.level == "error")'`,
    )
    .action(async (options: { dsn: string; json?: true }) => {
      const conninfo = readDsn(options.dsn);
      await using session = await openSession(conninfo, 'doctor');
      const findings = await examine(session, {
        conninfo,
        environment: readEnvironment(),
        latestMigration: readSqlFiles(sqlDir()).migrations.at(-1)?.number ?? 0,
      });
      const ok = !findings.some(({ level }) => level === 'error');
      if (options.json) console.log(JSON.stringify({ ok, findings }, undefined, 2));
      else console.log(drawFindings(findings).join('\n'));
      if (!ok) process.exitCode = 1;
    });
}
