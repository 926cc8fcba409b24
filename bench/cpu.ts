import { readFileSync } from 'node:fs';

/** Linux counts processor time in these for every program, whatever its kernel ticks at. */
const TICKS_PER_SECOND = 100;

/** Processor seconds, user's and system's, that a process has taken so far; undefined where /proc does not tell. */
export function cpuSeconds(pid: number | undefined): number | undefined {
  const stat = pid === undefined ? undefined : readProc(pid, 'stat');
  return stat === undefined ? undefined : parseCpuSeconds(stat);
}

/** Of several processes together; undefined if none is known. */
export function totalCpuSeconds(pids: readonly number[]): number | undefined {
  const known = pids.map(cpuSeconds).filter((value) => value !== undefined);
  return known.length > 0 ? known.reduce((sum, value) => sum + value, 0) : undefined;
}

/** The most memory that a process has had resident so far, in MB of 1024 · 1024 bytes. */
export function peakMegabytes(pid: number | undefined): number | undefined {
  const status = pid === undefined ? undefined : readProc(pid, 'status');
  const match = status === undefined ? null : /^VmHWM:\s+(\d+) kB$/m.exec(status);
  return match ? Number(match[1]) / 1024 : undefined;
}

/** From the text of /proc/<pid>/stat. */
export function parseCpuSeconds(stat: string): number | undefined {
  // "pid (name) state …", where the name may hold anything, brackets and spaces too; utime and stime are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(fields[11]) + Number(fields[12]);
  return Number.isNaN(ticks) ? undefined : ticks / TICKS_PER_SECOND;
}

function readProc(pid: number, file: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return undefined; // another system than Linux, or the process has ended
  }
}
