import { spawn } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
} from 'node:fs';
import path from 'node:path';
import { BdrError } from '../base/errors.ts';
import { blockingDirectory, giveTo, spawnIdentity } from './account.ts';
import type { Account } from './account.ts';
import { cannotRun, programPath } from './binaries.ts';
import type { Binaries } from './binaries.ts';
import { replaceFile } from './extension.ts';

/**
 * The files of one server. Only `data` belongs to the account that PostgreSQL runs as; what we write ourselves, perhaps as
 * root, lies beside it, where that account cannot put a link in our way.
 */
export interface ServerFiles {
  readonly dir: string;
  readonly data: string;
  readonly log: string;
  readonly settings: string;
  readonly hba: string;
  readonly share: string;
  readonly tls: string;
}

export function serverFiles(dir: string): ServerFiles {
  const root = path.resolve(dir);
  return {
    dir: root,
    data: path.join(root, 'data'),
    log: path.join(root, 'server.log'),
    settings: path.join(root, 'server.conf'),
    hba: path.join(root, 'pg_hba.conf'),
    share: path.join(root, 'share'),
    tls: path.join(root, 'tls'),
  };
}

/** The major version of the data that lies there, or undefined where there is none yet. */
export function existingMajor(files: ServerFiles): number | undefined {
  const versionFile = path.join(files.data, 'PG_VERSION');
  return existsSync(versionFile) ? Number(readFileSync(versionFile, 'utf8')) : undefined;
}

/** Makes the directory, and sees to it that the account can pass every directory on the way. */
export function prepareDirectory(files: ServerFiles, account: Account | undefined): void {
  const firstMade = mkdirSync(files.dir, { recursive: true });
  if (!account) return;
  if (firstMade !== undefined) {
    let dir = files.dir;
    for (; dir !== firstMade; dir = path.dirname(dir)) chmodSync(dir, 0o755);
    chmodSync(firstMade, 0o755);
  } else if (readdirSync(files.dir).length === 0) {
    chmodSync(files.dir, 0o755); // a fresh mkdtemp is closed to all others
  }
  const blocked = blockingDirectory(files.dir, account);
  if (blocked === undefined) return;
  throw new BdrError('usage', {
    message: `the server's directory ${files.dir} cannot be used: the user "${account.name}" may not enter ${blocked}`,
    detail: `PostgreSQL does not run as root, so it runs as "${account.name}" here.`,
    hint: `Choose a directory elsewhere, for example below /var/tmp; or allow it: chmod o+x ${blocked}; or run this as an ordinary user.`,
  });
}

export interface InitOptions {
  readonly password: string | undefined;
  /** Leave out the wait for the disk: for servers whose loss in a power cut is no loss. */
  readonly noSync: boolean;
}

/** Makes the data of a new server, all or nothing: what an interrupted attempt left is thrown away. */
export async function initData(
  binaries: Binaries,
  files: ServerFiles,
  account: Account | undefined,
  options: InitOptions,
): Promise<void> {
  const building = path.join(files.dir, 'data.new');
  const passwordFile = path.join(files.dir, 'password.tmp');
  rmSync(building, { recursive: true, force: true });
  mkdirSync(building, { mode: 0o700 });
  giveTo(building, account);
  const args = ['-D', building, '-U', 'postgres', '-E', 'UTF8', '--locale=C', '--no-instructions'];
  if (options.noSync) args.push('--no-sync');
  if (options.password === undefined) args.push('-A', 'trust');
  else {
    replaceFile(passwordFile, `${options.password}\n`, 0o600);
    giveTo(passwordFile, account);
    args.push('-A', 'scram-sha-256', `--pwfile=${passwordFile}`);
  }
  try {
    await runInitdb(binaries, args, account);
  } finally {
    rmSync(passwordFile, { force: true });
  }
  appendFileSync(path.join(building, 'postgresql.conf'), "\ninclude '../server.conf'\n");
  renameSync(building, files.data);
}

async function runInitdb(
  binaries: Binaries,
  args: string[],
  account: Account | undefined,
): Promise<void> {
  const program = programPath(binaries, 'initdb');
  const child = spawn(program, args, {
    ...spawnIdentity(account),
    ...childPlace(),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  }
  const status = await new Promise<string>((resolve, reject) => {
    child.once('error', (error) => reject(cannotRun(program, error)));
    child.once('close', (code, signal) => resolve(signal ?? String(code)));
  });
  if (status === '0') return;
  throw new BdrError('no_embedded_server', {
    message: `initdb of PostgreSQL ${binaries.version} failed (${status})`,
    detail: output.trim(),
  });
}

/**
 * Where and with what environment the server's programs run. Nothing of ours: PGPORT, PGOPTIONS, LD_LIBRARY_PATH or a locale
 * must not change what a server is, and its account may not be able to enter our working directory.
 */
export function childPlace(extra: Readonly<Record<string, string>> = {}): {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
} {
  if (process.platform === 'win32') return {};
  return { cwd: '/', env: { PATH: '/usr/bin:/bin:/usr/sbin:/sbin', LC_ALL: 'C', ...extra } };
}
