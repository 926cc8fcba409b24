import type { Command } from 'commander';
import { pause } from '../../base/wait.ts';
import { readStatus } from '../../node/status.ts';
import type { Conninfo } from '../../postgres/conninfo.ts';
import type { Session } from '../../postgres/session.ts';
import { notANode } from '../not-a-node.ts';
import { openSession, readDsn } from '../open-session.ts';
import { describeFailure } from '../output/errors.ts';
import { drawStatus } from '../output/status.ts';

const WATCH_INTERVAL_MS = 1000;

interface StatusOptions {
  readonly dsn: string;
  readonly watch?: true;
  readonly json?: true;
}

export function addStatusCommand(program: Command): void {
  program
    .command('status')
    .summary('show a node, its peers and how far they are')
    .description(
      'Shows the nodes of the group, what this node reads from its peers and how far behind it is, what the peers read from it, and how a join goes.',
    )
    .requiredOption('--dsn <dsn>', 'the database of a node, as a superuser')
    .option('--watch', 'show it anew each second, until Ctrl-C')
    .option('--json', 'print as JSON; with --watch one line each second')
    .addHelpText(
      'after',
      `
Examples:
  bdr status --dsn "host=db1 user=postgres dbname=app"
  bdr status --dsn "host=db1 user=postgres dbname=app" --watch
  bdr status --dsn "host=db1 user=postgres dbname=app" --json | jq '.links[] | {from, status, lagMs}'`,
    )
    .action(async (options: StatusOptions) => {
      const conninfo = readDsn(options.dsn);
      if (options.watch) return watch(conninfo, options);
      await using session = await openSession(conninfo, 'status');
      const report = await readStatus(session);
      if (options.json) console.log(JSON.stringify(report, undefined, 2));
      else if (report.active) console.log(drawStatus(report).join('\n'));
      if (!report.active) throw notANode(report);
    });
}

/** Shows the status until Ctrl-C. A server that is away is shown as that, and waited for. */
async function watch(conninfo: Conninfo, { json }: StatusOptions): Promise<void> {
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort());
  process.once('SIGTERM', () => stop.abort());
  let session: Session | undefined;
  while (!stop.signal.aborted) {
    const lines: string[] = [];
    try {
      if (!session || session.lost.aborted) {
        session = await openSession(conninfo, 'status', stop.signal);
      }
      const report = await readStatus(session);
      lines.push(...(json ? [JSON.stringify(report)] : drawStatus(report)));
    } catch (error) {
      if (stop.signal.aborted) break;
      await session?.close();
      session = undefined;
      const { text } = describeFailure(error);
      lines.push(...(json ? [JSON.stringify({ error: text })] : text.split('\n')));
    }
    draw(lines, json === undefined);
    await pause(WATCH_INTERVAL_MS, stop.signal);
  }
  await session?.close();
}

/** Over the last ones on a terminal; below them, apart by an empty line, where output goes elsewhere. */
function draw(lines: readonly string[], isText: boolean): void {
  if (!isText) console.log(lines.join('\n'));
  else if (!process.stdout.isTTY) console.log(`${lines.join('\n')}\n`);
  else {
    const cleared = lines.map((line) => `${line}\u001b[K\n`).join('');
    process.stdout.write(`\u001b[H${cleared}\u001b[J`);
  }
}
