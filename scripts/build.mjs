// Builds dist/: the compiled sources and, from sql/, the files of extension bdr.
//   node scripts/build.mjs [--if-stale]
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(root, 'dist');
const stamp = join(dist, '.built');
// Built beside and moved into place: a build that fails leaves the last good one alone.
const fresh = join(root, `dist.${process.pid}`);

function newest(path) {
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return Math.max(stat.mtimeMs, ...readdirSync(path).map((entry) => newest(join(path, entry))));
}

const inputs = [
  'src',
  'sql',
  'tsconfig.json',
  'tsconfig.build.json',
  'package.json',
  'scripts/build.mjs',
];
if (process.argv.includes('--if-stale') && existsSync(stamp)) {
  const built = statSync(stamp).mtimeMs;
  if (inputs.every((input) => newest(join(root, input)) <= built)) process.exit(0);
}

process.on('exit', () => rmSync(fresh, { recursive: true, force: true }));
const tsc = spawnSync(
  process.execPath,
  [join(root, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.build.json', '--outDir', fresh],
  {
    cwd: root,
    stdio: 'inherit',
  },
);
if (tsc.status !== 0) process.exit(tsc.status ?? 1);

// The SQL is shipped as files. The extension's script is the migrations followed by the routines, each wrapped by nothing: one
// content, whichever way it is installed (src/catalog/install.ts does the same over a connection).
const sql = join(root, 'sql');
const migrations = readdirSync(join(sql, 'migrations'))
  .filter((name) => name.endsWith('.sql'))
  .sort();
const routines = JSON.parse(readFileSync(join(sql, 'routines/order.json'), 'utf8'));
const script = [
  '\\echo Use "CREATE EXTENSION bdr" to load this file. \\quit',
  ...migrations.map((name) => readFileSync(join(sql, 'migrations', name), 'utf8')),
  ...migrations.map(
    (name) => `INSERT INTO bdr.bdr_schema_migrations (migration) VALUES (${parseInt(name, 10)});`,
  ),
  ...routines.map((name) => readFileSync(join(sql, 'routines', name), 'utf8')),
].join('\n');
const extension = join(fresh, 'extension');
mkdirSync(extension, { recursive: true });
writeFileSync(join(extension, 'bdr--1.0.sql'), script);
writeFileSync(
  join(extension, 'bdr.control'),
  [
    "comment = 'multi-master replication between stock PostgreSQL servers'",
    "default_version = '1.0'",
    'relocatable = false',
    'superuser = true',
    'schema = pg_catalog',
    '',
  ].join('\n'),
);
cpSync(sql, join(fresh, 'sql'), { recursive: true });
writeFileSync(join(fresh, '.built'), new Date().toISOString());
rmSync(dist, { recursive: true, force: true });
renameSync(fresh, dist);
