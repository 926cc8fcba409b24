import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { pause } from '../base/wait.ts';

/** Whether the process runs. One that has ended and only waits for its parent to notice does not count. */
export function isAlive(pid: number): boolean {
  if (process.platform === 'linux') {
    const stat = linuxStat(pid);
    return stat !== undefined && stat.state !== 'Z' && stat.state !== 'X';
  }
  return signalProcess(pid, 0);
}

/** Sends a signal; false if there is no such process any more. */
export function signalProcess(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ESRCH') return false;
    if (signal === 0 && code === 'EPERM') return true;
    throw error;
  }
}

/** The direct children of a process; all processes of a PostgreSQL server are children of its postmaster. */
export function childrenOf(parent: number): number[] {
  if (process.platform === 'linux') {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((pid) => linuxStat(pid)?.parent === parent);
  }
  return ps('pid=,ppid=')
    .map((line) => line.trim().split(/\s+/).map(Number))
    .filter(([, ppid]) => ppid === parent)
    .map(([pid]) => pid as number);
}

/** The command line of a process as one text, or '' when it has ended. */
export function commandOf(pid: number): string {
  if (process.platform === 'linux') {
    return (readOrNothing(`/proc/${pid}/cmdline`) ?? '').replaceAll('\0', ' ');
  }
  return ps('pid=,command=').find((line) => line.trim().startsWith(`${pid} `)) ?? '';
}

/**
 * Ends a server as a power cut would: nothing gets to write a last word. The postmaster is held first, so that it cannot
 * start another child while its children are counted.
 */
export async function killTree(postmaster: number, deadlineMs: number): Promise<void> {
  if (process.platform === 'win32') {
    execFileSync('taskkill', ['/F', '/T', '/PID', String(postmaster)], { stdio: 'ignore' });
    return;
  }
  if (!signalProcess(postmaster, 'SIGSTOP')) return;
  const all = [postmaster, ...childrenOf(postmaster)];
  for (const pid of all) signalProcess(pid, 'SIGKILL');
  const deadline = Date.now() + deadlineMs;
  for (let left = all; left.length > 0; left = left.filter(isAlive)) {
    // Until the last one is gone the old shared memory is in use, and a new server would refuse to start.
    if (Date.now() > deadline) throw new Error(`processes ${left.join(', ')} survive SIGKILL`);
    await pause(5);
  }
}

function linuxStat(pid: number): { state: string; parent: number } | undefined {
  const text = readOrNothing(`/proc/${pid}/stat`);
  // "pid (name) state ppid …", where the name may hold anything, brackets and spaces too
  const match = text === undefined ? null : /^.*\) (\S) (\d+) /s.exec(text);
  return match ? { state: match[1] as string, parent: Number(match[2]) } : undefined;
}

function readOrNothing(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined; // it has ended
  }
}

function ps(columns: string): string[] {
  return execFileSync('ps', ['-axo', columns], { encoding: 'utf8' }).split('\n');
}
