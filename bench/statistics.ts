/** What is told of several runs. */
export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly samples: readonly number[];
}

/** Of at least one sample. */
export function summarize(samples: readonly number[]): Summary {
  return {
    median: median(samples),
    min: Math.min(...samples),
    max: Math.max(...samples),
    samples,
  };
}

/** Of an even count the mean of the two in the middle. */
export function median(samples: readonly number[]): number {
  const sorted = ascending(samples);
  const middle = Math.floor(sorted.length / 2);
  const upper = at(sorted, middle);
  return sorted.length % 2 === 1 ? upper : (at(sorted, middle - 1) + upper) / 2;
}

/** The least sample that at least `percent` of all samples do not exceed: always one that was measured. */
export function percentile(samples: readonly number[], percent: number): number {
  const sorted = ascending(samples);
  const rank = Math.ceil((percent / 100) * sorted.length);
  return at(sorted, Math.max(rank, 1) - 1);
}

function ascending(samples: readonly number[]): number[] {
  return samples.toSorted((a, b) => a - b);
}

function at(sorted: readonly number[], index: number): number {
  const value = sorted[index];
  if (value === undefined) throw new RangeError('no samples');
  return value;
}
