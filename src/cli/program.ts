import { Command } from 'commander';
import { packageVersion } from '../config/paths.ts';
import { addAgentCommand } from './commands/agent.ts';
import { addConflictsCommand } from './commands/conflicts.ts';
import { addDemoCommand } from './commands/demo.ts';
import { addDoctorCommand } from './commands/doctor.ts';
import { addInstallCommand } from './commands/install.ts';
import { addStatusCommand } from './commands/status.ts';
import { addVersionCommand } from './commands/version.ts';
import { maskSecrets } from './output/errors.ts';

/** The command line. Wrong ones throw CommanderError, after the reason is written. */
export function program(): Command {
  const bdr = new Command('bdr')
    .description('Multi-master replication for stock PostgreSQL 14 to 18')
    .version(packageVersion(), '-V, --version', 'print the version')
    .option('--debug', 'show where in the program an error came from')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command]', 'print help for a command')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      outputError: (text, write) => write(maskSecrets(text.replace(/^error:/, 'bdr:'))),
    })
    .showHelpAfterError('Run it with --help to see what there is.')
    .exitOverride()
    .addHelpText(
      'after',
      `
Start here:
  bdr demo                                                   a group on this machine, to look at
  bdr doctor --dsn "host=db1 user=postgres dbname=app"       is my server ready? what is missing?

"bdr help <command>" has examples for each command.`,
    );
  addAgentCommand(bdr);
  addConflictsCommand(bdr);
  addDemoCommand(bdr);
  addDoctorCommand(bdr);
  addInstallCommand(bdr);
  addStatusCommand(bdr);
  addVersionCommand(bdr);
  return bdr;
}
