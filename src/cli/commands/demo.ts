import { InvalidArgumentError, type Command } from 'commander';
import { BdrError } from '../../base/errors.ts';
import { pause } from '../../base/wait.ts';
import { readEnvironment } from '../../config/environment.ts';
import { BDR_PROGRAM } from '../../demo/agent-process.ts';
import { DEFAULT_NODES, Demo } from '../../demo/demo.ts';
import { firstWrites } from '../../demo/first-writes.ts';
import { DEMO_DATABASE, formGroup } from '../../demo/group.ts';
import { Observer } from '../../demo/observer.ts';
import { tour } from '../../demo/tour.ts';
import { DEFAULT_MAJOR } from '../../embedded/binaries.ts';
import { LiveScreen } from '../output/demo-live.ts';
import { StepPrinter } from '../output/demo-steps.ts';
import { bareText, firstWriteText, groupText, programCall } from '../output/demo-texts.ts';
import { describeFailure } from '../output/errors.ts';

interface DemoOptions {
  readonly nodes?: number;
  readonly pg?: number;
  readonly dir?: string;
  readonly port?: number;
  readonly bare?: true;
  readonly check?: true;
  readonly json?: true;
}

const LOOK_EVERY_MS = 1000;

export function addDemoCommand(program: Command): void {
  program
    .command('demo')
    .summary('run a group on this machine, to look at')
    .description(
      'Starts real PostgreSQL servers with an agent each, forms a group of them by SQL, and shows writes going both ways and what is applied, until Ctrl-C.',
    )
    .option('--nodes <number>', `how many, 2 to 8 (default: ${DEFAULT_NODES})`, integer(2, 8))
    .option('--pg <major>', `version of PostgreSQL (default: ${DEFAULT_MAJOR})`, integer(14, 99))
    .option('--dir <dir>', 'keep everything here and start it again next time')
    .option('--port <port>', 'of the first server, the others follow', integer(1, 65_528))
    .option('--bare', 'servers and agents only: form the group yourself')
    .option('--check', 'run a scripted tour instead; exit code 0 if all went well, else 1')
    .option('--json', 'print one line of JSON, when ready or after the check, and nothing else')
    .addHelpText(
      'after',
      `
Examples:
  bdr demo
  bdr demo --nodes 3 --dir ~/bdr-demo --port 6001
  bdr demo --bare
  bdr demo --check --pg 15`,
    )
    .action(async (options: DemoOptions) => {
      if (options.check && (options.bare || options.dir !== undefined)) {
        throw new BdrError('usage', {
          message: `--check goes with neither --bare nor --dir`,
          hint: 'The check makes a group of its own, in a temporary directory.',
        });
      }
      await (options.check ? check(options) : run(options));
    });
}

/** Up until a signal says so. */
async function run(options: DemoOptions): Promise<void> {
  const signal = endSignal();
  const printer = new StepPrinter({ quiet: options.json === true, signal });
  const demo = await openDemo(options, printer, signal);
  let failed = false;
  try {
    await demo.start();
    const formed = !options.bare && (await formGroup(demo, printer.run, signal));
    if (options.json) {
      console.log(JSON.stringify(describe(demo)));
      while (!signal.aborted) await pause(60_000, signal);
      return;
    }
    if (formed) {
      for await (const write of firstWrites(demo.nodes, signal)) console.log(firstWriteText(write));
    }
    console.log(options.bare ? bareText(demo) : groupText(demo, programCall(BDR_PROGRAM)));
    await watch(demo, signal);
  } catch (error) {
    if (signal.aborted) return; // what was being done is given up
    failed = true;
    throw error;
  } finally {
    if (!options.json) console.log('Stopping servers and agents.');
    await demo.stop({ keepLogs: failed });
    if (failed && demo.directory.exists) console.error(`Logs are kept in ${demo.directory.path}`);
  }
}

/** The scripted tour. */
async function check(options: DemoOptions): Promise<void> {
  const signal = endSignal();
  const startedAt = performance.now();
  const printer = new StepPrinter({ quiet: options.json === true, signal });
  const demo = await openDemo(options, printer, signal);
  let failure: { readonly text: string } | undefined;
  try {
    await tour(demo, printer.run, signal);
  } catch (error) {
    failure = { text: signal.aborted ? 'bdr: interrupted' : describeFailure(error).text };
  } finally {
    await demo.stop({ keepLogs: failure !== undefined && !signal.aborted });
  }
  const { path: dir } = demo.directory;
  const ms = Math.round(performance.now() - startedAt);
  const logs = demo.directory.exists ? dir : undefined;
  if (options.json) {
    const outcome = failure && { error: failure.text, logs };
    console.log(JSON.stringify({ ok: !failure, ms, steps: printer.results, ...outcome }));
  } else if (failure) {
    console.error(failure.text);
    if (logs !== undefined) console.error(`Logs are kept in ${logs}`);
  } else {
    console.log(`All ${printer.results.length} steps went well, in ${(ms / 1000).toFixed(1)} s.`);
  }
  process.exitCode = failure ? 1 : 0;
}

function openDemo(options: DemoOptions, printer: StepPrinter, signal: AbortSignal): Promise<Demo> {
  return Demo.open({
    dir: options.dir,
    nodes: options.nodes,
    major: options.pg,
    port: options.port,
    database: options.bare ? 'postgres' : DEMO_DATABASE,
    steps: printer.run,
    signal,
    env: readEnvironment().env,
  });
}

async function watch(demo: Demo, signal: AbortSignal): Promise<void> {
  const observer = new Observer(demo.nodes);
  const screen = new LiveScreen();
  try {
    while (!signal.aborted) {
      screen.show(await observer.look());
      await pause(LOOK_EVERY_MS, signal);
    }
  } finally {
    observer.close();
  }
}

function describe(demo: Demo): object {
  return {
    dir: demo.directory.path,
    nodes: demo.nodes.map(({ name, dsn, agent, server }) => ({
      name,
      dsn,
      agentPid: agent?.pid,
      serverPid: server.pid,
    })),
  };
}

/** Raised when the demo is to end. A second signal changes nothing: npm and the terminal may both send one. */
function endSignal(): AbortSignal {
  const end = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => end.abort());
  // Whoever reads our output has gone. Not before servers and agents are ended do we go too.
  process.stdout.removeAllListeners('error').on('error', () => end.abort());
  return end.signal;
}

function integer(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`It must be a number from ${least} to ${most}.`);
  };
}
