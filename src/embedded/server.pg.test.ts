import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { startServer } from '../../test/support/servers.ts';
import { must } from '../base/assert.ts';
import { BdrError } from '../base/errors.ts';
import { serverAccount, spawnIdentity } from './account.ts';
import { embeddedMajors, findBinaries, platformName, relocate } from './binaries.ts';
import { replicationSettings } from './conf.ts';
import { childrenOf, isAlive } from './processes.ts';
import { EmbeddedServer } from './server.ts';

const isRoot = process.getuid?.() === 0;
const majors = embeddedMajors();

test.for(majors)('PostgreSQL %i starts with what replication needs', async (major) => {
  await using server = await startServer({ major });
  expect(await value(server, 'show server_version')).toBe(server.version);
  expect(await value(server, 'show data_directory')).toBe(server.dataDir);
  expect(await value(server, 'show port')).toBe(String(server.port));
  for (const [name, wanted] of Object.entries(replicationSettings(major))) {
    const text = wanted === true ? 'on' : String(wanted);
    expect([name, await value(server, `show ${name}`)]).toEqual([name, text]);
  }
  const listens = await value(server, "select inet_server_addr() || ' ' || current_user");
  expect(listens).toBe('127.0.0.1/32 postgres');
  const slot = "select slot_name from pg_create_logical_replication_slot('s', 'pgoutput')";
  expect(await value(server, slot)).toBe('s');
});

test('a crash keeps what was committed and leaves no process behind', async () => {
  await using server = await startServer();
  await value(server, 'create table t as select 42 as a');
  const processes = [must(server.pid, 'pid'), ...childrenOf(must(server.pid, 'pid'))];
  expect(processes.length).toBeGreaterThan(4);
  await server.crash();
  expect(server.running).toBe(false);
  expect(processes.filter(isAlive)).toEqual([]);

  const { port } = server;
  await server.start();
  expect(server.port).toBe(port);
  expect(await value(server, 'select a from t')).toBe(42);
  expect(server.logTail()).toContain('not properly shut down');
});

test('a stop is in order, and start and stop may be said twice', async () => {
  await using server = await startServer();
  const pid = must(server.pid, 'pid');
  await server.stop();
  await server.stop();
  expect(isAlive(pid)).toBe(false);
  expect(server.pid).toBe(undefined);
  expect(server.logTail(1)).toContain('database system is shut down');
  await server.start();
  await server.start();
  expect(await value(server, 'select 1')).toBe(1);
});

test('a temporary server leaves nothing behind', async () => {
  const server = await startServer();
  await server[Symbol.asyncDispose]();
  expect(existsSync(server.dir)).toBe(false);
});

test('a kept directory opens again after a crash, on its old port, past a stale lock file', async () => {
  const dir = path.join(temporaryDir(), 'deep', 'er');
  const first = await startServer({ dir });
  onTestFinished(() => first.crash());
  await value(first, 'create table t as select 7 as a');
  await first.crash();

  // The number in the lock file belongs to another process by now: of the same user, so that PostgreSQL would take it for live.
  const other = spawn('sleep', ['600'], { ...spawnIdentity(serverAccount()), cwd: '/' });
  onTestFinished(() => void other.kill('SIGKILL'));
  await once(other, 'spawn');
  const lockFile = path.join(first.dataDir, 'postmaster.pid');
  const [, ...rest] = readFileSync(lockFile, 'utf8').split('\n');
  writeFileSync(lockFile, [other.pid, ...rest].join('\n'));

  await using again = await EmbeddedServer.open({ dir });
  await again.start();
  expect(again.port).toBe(first.port);
  expect(await value(again, 'select a from t')).toBe(7);

  const twin = await EmbeddedServer.open({ dir });
  const refused = await failure(twin.start());
  expect(refused.message).toContain(`already runs on ${again.dataDir}, process ${again.pid}`);
  expect(await value(again, 'select a from t')).toBe(7);
});

test('a directory of another major, or without a server, is refused', async () => {
  const dir = temporaryDir();
  expect((await failure(EmbeddedServer.open({ dir }))).code).toBe('usage');
  mkdirSync(path.join(dir, 'data'));
  writeFileSync(path.join(dir, 'data', 'PG_VERSION'), '14\n');
  const refused = await failure(EmbeddedServer.create({ dir, major: 18 }));
  expect(refused.code).toBe('version_mismatch');
  expect(refused.message).toContain('is of PostgreSQL 14, not 18');
});

test('a given port that is in use is an error, which names it', async () => {
  const busy = net.createServer().listen(0, '127.0.0.1');
  await once(busy, 'listening');
  onTestFinished(() => void busy.close());
  const { port } = busy.address() as net.AddressInfo;
  const refused = await failure(startServer({ port }));
  expect(refused.message).toContain(`port ${port}`);
  expect(refused.code).toBe('usage');
});

test('a server that does not start says why', async () => {
  const refused = await failure(startServer({ settings: { nonsense: 1 } }));
  expect(refused.code).toBe('no_embedded_server');
  expect(refused.detail).toContain('unrecognized configuration parameter "nonsense"');
});

test.for(majors.filter((major) => major === 14 || major === 18))(
  'CREATE EXTENSION on %i finds the files, and newer ones after a restart',
  async (major) => {
    const name = `pg_bdr_dummy_${process.pid}`;
    const extensionDir = temporaryDir();
    const script = (answer: number) =>
      writeFileSync(
        path.join(extensionDir, `${name}--1.0.sql`),
        `create function ${name}() returns int language sql as 'select ${answer}';`,
      );
    writeFileSync(path.join(extensionDir, `${name}.control`), "default_version = '1.0'\n");
    script(1);
    onTestFinished(() => {
      for (const file of [`${name}.control`, `${name}--1.0.sql`]) {
        rmSync(path.join(findBinaries(major).shareDir, 'extension', file), { force: true });
      }
    });
    await using server = await startServer({ major, extensionDir });
    await value(server, `create extension ${name}`);
    expect(await value(server, `select ${name}()`)).toBe(1);

    await server.stop();
    script(2);
    await server.start();
    await value(server, `drop extension ${name}`);
    await value(server, `create extension ${name}`);
    expect(await value(server, `select ${name}()`)).toBe(2);
  },
);

test('a password is asked for where one was given', async () => {
  const password = "it's \\ secret";
  await using server = await startServer({ password });
  expect(server.dsn()).toContain(String.raw`password='it\'s \\ secret'`);
  expect(await value(server, 'select 1', { password })).toBe(1);
  await expect(value(server, 'select 1', { password: 'wrong' })).rejects.toThrow(/password/);
});

test.skipIf(!hasOpenssl())('TLS and a pg_hba.conf of our own are taken', async () => {
  const dir = temporaryDir();
  const certFile = path.join(dir, 'cert.pem');
  const keyFile = path.join(dir, 'key.pem');
  const subject = [
    '-x509',
    '-nodes',
    '-days',
    '2',
    '-newkey',
    'rsa:2048',
    '-subj',
    '/CN=localhost',
  ];
  execFileSync('openssl', ['req', ...subject, '-out', certFile, '-keyout', keyFile], {
    stdio: 'ignore',
  });
  const hba = 'hostssl all all 127.0.0.1/32 trust\n';
  await using server = await startServer({ tls: { certFile, keyFile }, hba });
  const ssl = { rejectUnauthorized: true, ca: readFileSync(certFile), servername: 'localhost' };
  const query = 'select ssl from pg_stat_ssl where pid = pg_backend_pid()';
  expect(await value(server, query, { host: '127.0.0.1', ssl })).toBe(true);
  await expect(value(server, query)).rejects.toThrow(/no pg_hba.conf entry/);
});

test.skipIf(!isRoot)('root: a checkout that nobody else may enter runs from a copy', async () => {
  const dir = temporaryDir();
  const installed = findBinaries();
  const nativeDir = path.join(dir, 'native');
  cpSync(installed.nativeDir, nativeDir, { recursive: true, verbatimSymlinks: true });
  chmodSync(dir, 0o700);
  const packageVersion = `test-${process.pid}`;
  const cache = path.join(os.tmpdir(), `pg-bdr-binaries-${packageVersion}-${platformName()}`);
  onTestFinished(() => rmSync(cache, { recursive: true, force: true }));
  const binaries = { ...relocate(installed, nativeDir), packageVersion };

  await using server = await startServer({ binaries });
  expect(await value(server, 'select 1')).toBe(1);
  expect(existsSync(path.join(cache, 'bin', 'postgres'))).toBe(true);
  expect(statSync(cache).uid).toBe(0);
});

test.skipIf(!isRoot)('root: a directory that the server may not enter is named', async () => {
  const dir = temporaryDir();
  chmodSync(dir, 0o700);
  writeFileSync(path.join(dir, 'of-root'), '');
  const refused = await failure(EmbeddedServer.create({ dir: path.join(dir, 'node1') }));
  expect(refused.code).toBe('usage');
  expect(refused.message).toMatch(new RegExp(`may not enter ${dir}$`));
  expect(refused.hint).toContain(`chmod o+x ${dir}`);
});

function temporaryDir(): string {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'pg-bdr-server-'));
  chmodSync(dir, 0o755);
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function hasOpenssl(): boolean {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

async function failure(promise: Promise<unknown>): Promise<BdrError> {
  const outcome = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (outcome instanceof BdrError) return outcome;
  throw new Error('no BdrError', { cause: outcome });
}

/** The first column of the first row. */
async function value(
  server: EmbeddedServer,
  sql: string,
  config: pg.ClientConfig = {},
): Promise<unknown> {
  const client = new pg.Client({
    host: '127.0.0.1',
    port: server.port,
    user: 'postgres',
    database: 'postgres',
    ...config,
  });
  await client.connect();
  try {
    const { rows } = await client.query<unknown[]>({ text: sql, rowMode: 'array' });
    return rows[0]?.[0];
  } finally {
    await client.end();
  }
}
