import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import type { Account } from './account.ts';
import { spawnIdentity } from './account.ts';
import { childPlace } from './data-directory.ts';

// Reads a pipe whose other end we hold. It ends when we end, however that happens, even by SIGKILL.
const SCRIPT = `
trap '' HUP INT TERM
while read -r _; do :; done
kill -INT "$0" || exit 0
for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 1; kill -0 "$0" || exit 0; done
kill -QUIT "$0"
`;

/**
 * A small process that ends the server when this process is gone without having done it: a killed test run must not leave
 * servers behind. Kill it as soon as the server has ended. Not on Windows.
 */
export function watch(postmaster: number, account: Account | undefined): ChildProcess | undefined {
  if (process.platform === 'win32') return undefined;
  const dog = spawn('/bin/sh', ['-c', SCRIPT, String(postmaster)], {
    ...spawnIdentity(account),
    ...childPlace(),
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  dog.on('error', () => undefined); // no shell: then without
  dog.stdin?.on('error', () => undefined);
  dog.unref();
  (dog.stdin as unknown as { unref?: () => void } | null)?.unref?.();
  return dog;
}
