import { compareVersions, type CommittedTransaction } from './committed.ts';
import type { Finding } from './findings.ts';
import type { NodeState } from './node-state.ts';

const MOST_WRITES = 12;
/** Of those, before the one that it is about. */
const WRITES_BEFORE = 4;
const MOST_CONFLICTS = 8;

/** A finding in lines: what was written under its key at last, or about that time, and what the histories say of it. */
export function explain(
  finding: Finding,
  committed: readonly CommittedTransaction[],
  states: readonly NodeState[],
): string[] {
  const { row } = finding;
  if (!row) return [`${finding.kind}: ${finding.text}`];
  const writes = committed
    .toSorted((a, b) => compareVersions(a.version, b.version))
    .flatMap((transaction) =>
      transaction.changes.flatMap((change) => {
        if (change.table !== row.table) return [];
        const { entry } = transaction;
        if (change.kind === 'truncate') {
          return [{ entry, text: line(transaction, 'TRUNCATE', states) }];
        }
        const { before, after } = change;
        if (before?.key !== row.key && after?.key !== row.key) return [];
        return [{ entry, text: line(transaction, `${of(before)} → ${of(after)}`, states) }];
      }),
    );
  const about = row.entry === undefined ? -1 : writes.findIndex(({ entry }) => entry === row.entry);
  const from = Math.max(0, about < 0 ? writes.length - MOST_WRITES : about - WRITES_BEFORE);
  const shown = writes.slice(from, from + MOST_WRITES);
  const conflicts = states.flatMap(({ name, history }) =>
    history
      .filter(({ table, key }) => table === row.table && key === row.key)
      .slice(-MOST_CONFLICTS)
      .map(({ text }) => `${name}: ${text}`),
  );
  return [
    `${finding.kind}: table ${row.table}, key ${row.key}: ${finding.text}`,
    `  written ${about < 0 ? 'last' : 'then'}, by commit time:`,
    ...shown.map(({ text }) => `    ${text}`),
    '  in the histories:',
    ...(conflicts.length > 0 ? conflicts : ['nothing']).map((text) => `    ${text}`),
  ];
}

function line(
  { version, node, entry, isTold }: CommittedTransaction,
  what: string,
  states: readonly NodeState[],
): string {
  const at = new Date(Number(version.committedAt / 1000n)).toISOString().slice(11, -1);
  const micros = String(version.committedAt % 1000n).padStart(3, '0');
  return `${at}${micros} ${states[node]?.name} ${entry}${isTold ? '' : ' (not told)'}: ${what}`;
}

function of(row: { readonly key: string; readonly tag: string } | null): string {
  return row ? `${row.key} ${row.tag}` : 'nothing';
}
