import { Option, type Command } from 'commander';
import { readEnvironment } from '../../config/environment.ts';
import { Agent } from '../../node/agent.ts';
import { describeError } from '../../node/describe-error.ts';
import { createLogger } from '../log.ts';

/** How long an agent whose parent is gone may take to stop. */
const ORPHAN_STOP_MS = 10_000;

export function addAgentCommand(program: Command): void {
  program
    .command('agent')
    .summary('serve the nodes of one PostgreSQL server')
    .description(
      'Runs beside one PostgreSQL server and serves every database of it that is a BDR node. Start one for each server; a second one waits and takes over when the first dies.',
    )
    .requiredOption('--dsn <dsn>', 'how to reach the server, as a superuser (any database of it)')
    .option('--log-level <level>', 'debug, info, warn or error', 'info')
    // For programs that start an agent and must not leave it behind.
    .addOption(new Option('--with-parent', 'end when standard input ends').hideHelp())
    .addHelpText(
      'after',
      `
Examples:
  bdr agent --dsn "host=127.0.0.1 port=5432 user=postgres dbname=postgres"
  bdr agent --dsn postgresql://postgres@/postgres?host=/var/run/postgresql
  PGPASSFILE=/etc/bdr/pgpass bdr agent --dsn "host=db1 user=bdrsync dbname=postgres sslmode=verify-full"`,
    )
    .action(async (options: { dsn: string; logLevel: string; withParent?: true }) => {
      const log = createLogger(options.logLevel);
      // It ends the process all the same: for who reads the log alone.
      process.on('uncaughtExceptionMonitor', (error) =>
        log.error(
          { ...describeError(error), stack: error.stack },
          'a fault in the program ends the agent',
        ),
      );
      const agent = new Agent(options.dsn, readEnvironment(), log);
      agent.start();
      await new Promise<void>((resolve) => {
        process.once('SIGTERM', resolve);
        process.once('SIGINT', resolve);
        if (!options.withParent) return;
        process.stdin.resume().once('end', resolve).once('error', resolve);
      });
      if (options.withParent) {
        // Neither a pipe that stays open nor a server that hangs keeps the process.
        process.stdin.destroy();
        setTimeout(() => process.exit(1), ORPHAN_STOP_MS).unref();
      }
      log.info({}, 'stopping');
      await agent.stop();
      log.info({}, 'stopped');
    });
}
