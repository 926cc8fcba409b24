import type { FindingKind } from './findings.ts';
import type { RunResult } from './run.ts';

/** So many of each kind in full. */
const MOST_SHOWN = 5;

/** The result as text: findings first, the numbers last. */
export function describeResult(result: RunResult): string {
  const shown = new Map<FindingKind, number>();
  const lines: string[] = [];
  for (const { kind, lines: finding } of result.findings) {
    const count = (shown.get(kind) ?? 0) + 1;
    shown.set(kind, count);
    if (count <= MOST_SHOWN) lines.push(...finding);
  }
  for (const [kind, count] of shown) {
    if (count > MOST_SHOWN) lines.push(`${kind}: ${count} in all`);
  }
  const { transactions, writes, unknown, refused, faults, conflicts, rows } = result;
  return [
    ...lines,
    `${transactions} transactions told, ${writes} writes, ${unknown} transactions unknown; refused: ${list(refused)}`,
    `faults: ${list(faults)}`,
    `${rows} rows on each node, ${conflicts} conflicts in the histories, settled in ${result.settleSeconds.toFixed(1)} s`,
    result.findings.length === 0 ? 'all is well' : `${result.findings.length} findings`,
  ].join('\n');
}

function list(counts: Readonly<Record<string, number>>): string {
  const all = Object.entries(counts).map(([name, count]) => `${name} ${count}`);
  return all.join(', ') || 'none';
}
