/** `820 ms`, `3.4 s`, `12 min`, `5 h`, `3 d` */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const steps = [
    [60, 's'],
    [60, 'min'],
    [24, 'h'],
  ] as const;
  let value = ms / 1000;
  for (const [limit, unit] of steps) {
    if (value < limit) return `${short(value)} ${unit}`;
    value /= limit;
  }
  return `${short(value)} d`;
}

/** `0 B`, `17 kB`, `2.1 GB`, in steps of 1024 as pg_size_pretty() counts. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  for (const unit of ['B', 'kB', 'MB', 'GB']) {
    if (value < 1024) return `${short(value)} ${unit}`;
    value /= 1024;
  }
  return `${short(value)} TB`;
}

/** One decimal below ten, where it is not zero. */
function short(value: number): string {
  return value < 9.95 ? String(Math.round(value * 10) / 10) : String(Math.round(value));
}
