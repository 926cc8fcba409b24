import { chownSync, readFileSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { BdrError } from '../base/errors.ts';

/** A system user that PostgreSQL runs as. */
export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/**
 * The user to run PostgreSQL as, or undefined for the current one. PostgreSQL refuses to run as root, and initdb looks its
 * user up, so root needs one with an entry: `postgres`, which many systems have for this, else `nobody`.
 */
export function serverAccount(passwdFile = '/etc/passwd'): Account | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const account = chooseAccount(readFileSync(passwdFile, 'utf8'));
  if (account) return account;
  throw new BdrError('no_embedded_server', {
    message: 'PostgreSQL does not run as root, and this system has no other user for it',
    detail: `${passwdFile} names neither "postgres" nor "nobody".`,
    hint: 'Run this as an ordinary user, or make a user named postgres.',
  });
}

/** Picks the account out of the text of /etc/passwd. */
export function chooseAccount(passwd: string): Account | undefined {
  for (const wanted of ['postgres', 'nobody']) {
    for (const line of passwd.split('\n')) {
      const [name, , uid, gid] = line.split(':');
      if (name !== wanted || !/^\d+$/.test(uid ?? '') || !/^\d+$/.test(gid ?? '')) continue;
      if (Number(uid) !== 0) return { name, uid: Number(uid), gid: Number(gid) };
    }
  }
  return undefined;
}

/** What `spawn` needs to run a program as the account. */
export function spawnIdentity(account: Account | undefined): { uid?: number; gid?: number } {
  return account ? { uid: account.uid, gid: account.gid } : {};
}

/** Gives a file to the account; nothing to do where there is none. */
export function giveTo(file: string, account: Account | undefined): void {
  if (account) chownSync(file, account.uid, account.gid);
}

export interface Permissions {
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
}

/** Whether the account has all of `bits` (4 read, 2 write, 1 execute or traverse) by the mode. ACLs are not looked at. */
export function allows({ uid, gid, mode }: Permissions, account: Account, bits: number): boolean {
  const shift = uid === account.uid ? 6 : gid === account.gid ? 3 : 0;
  return ((mode >> shift) & bits) === bits;
}

/**
 * The outermost directory on the way to `target`, itself included when it is a directory, that the account cannot pass.
 * Links are followed first: what counts is where they lead.
 */
export function blockingDirectory(target: string, account: Account): string | undefined {
  const real = realpathSync(target);
  const steps = [real];
  while (path.dirname(steps[0] as string) !== steps[0]) {
    steps.unshift(path.dirname(steps[0] as string));
  }
  return steps.find((step) => {
    const stats = statSync(step);
    return stats.isDirectory() && !allows(stats, account, 1);
  });
}
