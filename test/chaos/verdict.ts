import {
  compareVersions,
  findCommitted,
  type CommittedTransaction,
  type Version,
} from './committed.ts';
import type { Finding } from './findings.ts';
import type { LedgerEntry } from './ledger.ts';
import type { NodeState } from './node-state.ts';
import { CONTENDED } from './tables.ts';

export interface Verdict {
  readonly committed: readonly CommittedTransaction[];
  readonly findings: readonly Finding[];
}

/** Judges what is found on the nodes, once they have applied everything, by what clients were told. */
export function judge(entries: readonly LedgerEntry[], states: readonly NodeState[]): Verdict {
  const { committed, findings } = findCommitted(entries, states);
  return {
    committed,
    findings: [
      ...findings,
      ...differences(states),
      ...wrongWinners(committed, states),
      ...lostLosers(committed, states),
      ...journalFaults(committed, states),
    ],
  };
}

/** Every node must hold the same rows. */
function differences(states: readonly NodeState[]): Finding[] {
  return CONTENDED.flatMap(({ name: table }) => {
    const keys = new Set(states.flatMap(({ tables }) => [...(tables.get(table)?.keys() ?? [])]));
    return [...keys].flatMap((key) => {
      const rows = states.map(({ name, tables }) => ({ name, row: tables.get(table)?.get(key) }));
      if (new Set(rows.map(({ row }) => row?.image)).size === 1) return [];
      const found = rows.map(({ name, row }) => `${name} ${row?.text ?? 'nothing'}`);
      return [{ kind: 'nodes differ' as const, text: found.join(', '), row: { table, key } }];
    });
  });
}

/** What a transaction left under one key, or, of a TRUNCATE, under every key. */
interface Effect {
  readonly version: Version;
  readonly entry: string;
  /** Undefined where it left no row. */
  readonly image: string | undefined;
}

/**
 * Under each key stands what the transaction with the greatest version left there: last update wins, the whole row. A deletion, the
 * old key of a row that was given another, and a TRUNCATE leave nothing. Of a table that is unique in more than its key that cannot be
 * told from the rows of one key.
 */
function wrongWinners(
  committed: readonly CommittedTransaction[],
  states: readonly NodeState[],
): Finding[] {
  return CONTENDED.filter(({ isUnique }) => !isUnique).flatMap(({ name: table }) => {
    const { byKey, truncated } = winners(table, committed);
    const found = states.flatMap(({ tables }) => [...(tables.get(table)?.keys() ?? [])]);
    return [...new Set([...byKey.keys(), ...found])].flatMap((key) => {
      const winning = greatest([...(byKey.get(key) ?? []), ...truncated]);
      return states.flatMap(({ name, tables }) => {
        const row = tables.get(table)?.get(key);
        if (winning.some(({ image }) => image === row?.image)) return [];
        const wanted = winning.map(({ entry, image }) => `${image ? '' : 'no row after '}${entry}`);
        const text = `${name} has ${row?.text ?? 'nothing'}, the last to write there was ${wanted.join(' or ') || 'nobody'}`;
        return [{ kind: 'a write is not the winner' as const, text, row: { table, key } }];
      });
    });
  });
}

/** Of a table, by key, the effects with the greatest version; and those of its TRUNCATEs. */
function winners(
  table: string,
  committed: readonly CommittedTransaction[],
): { readonly byKey: ReadonlyMap<string, Effect[]>; readonly truncated: readonly Effect[] } {
  const byKey = new Map<string, Effect[]>();
  let truncated: Effect[] = [];
  for (const { version, entry, changes } of committed) {
    const left = leftIn(table, changes);
    for (const [key, image] of left.byKey) {
      byKey.set(key, greatest([...(byKey.get(key) ?? []), { version, entry, image }]));
    }
    if (left.isTruncated)
      truncated = greatest([...truncated, { version, entry, image: undefined }]);
  }
  return { byKey, truncated };
}

/** Of equal versions, which transactions of one node within a microsecond have, all. */
function greatest(effects: readonly Effect[]): Effect[] {
  const [last] = effects.toSorted((a, b) => compareVersions(b.version, a.version));
  return last ? effects.filter(({ version }) => compareVersions(version, last.version) === 0) : [];
}

/** What a transaction left in a table when it ended: the row's image by key, undefined where there is none. */
function leftIn(
  table: string,
  changes: CommittedTransaction['changes'],
): { readonly byKey: ReadonlyMap<string, string | undefined>; readonly isTruncated: boolean } {
  const byKey = new Map<string, string | undefined>();
  let isTruncated = false;
  for (const change of changes) {
    if (change.table !== table) continue;
    if (change.kind === 'truncate') {
      byKey.clear();
      isTruncated = true;
      continue;
    }
    const { before, after } = change;
    if (before) byKey.set(before.key, undefined);
    if (after) byKey.set(after.key, after.image);
  }
  return { byKey, isTruncated };
}

/**
 * A row that a client was told is committed is there, or was overwritten by a write that had it before it, or is in a history.
 */
function lostLosers(
  committed: readonly CommittedTransaction[],
  states: readonly NodeState[],
): Finding[] {
  const accounted = new Set<string | null>();
  for (const { tables, history } of states) {
    for (const rows of tables.values()) for (const { tag } of rows.values()) accounted.add(tag);
    for (const { localTag, remoteTag } of history) accounted.add(localTag).add(remoteTag);
  }
  const writes = committed.flatMap(({ entry, isTold, changes }) =>
    changes.flatMap((change) => (change.kind === 'write' ? [{ ...change, entry, isTold }] : [])),
  );
  for (const { before } of writes) if (before) accounted.add(before.tag);
  return writes.flatMap(({ table, after, entry, isTold }) => {
    if (!isTold || !after || accounted.has(after.tag)) return [];
    const text = `${after.tag} of transaction ${entry} is in no table, no write had seen it, and no history has it`;
    return [{ kind: 'a loser is nowhere' as const, text, row: { table, key: after.key, entry } }];
  });
}

/** What was committed is in the journal of every node, each part once, and nothing else is. */
function journalFaults(
  committed: readonly CommittedTransaction[],
  states: readonly NodeState[],
): Finding[] {
  const known = new Set(committed.map(({ entry }) => entry));
  const wrong = (text: string): Finding => ({ kind: 'the journal is wrong', text });
  return states.flatMap(({ name, journal }) => [
    ...committed.flatMap(({ entry, parts }) => {
      const found = journal.get(entry);
      if (!found) return [wrong(`${entry} is missing on ${name}`)];
      if (found.parts === parts && found.differentParts === parts) return [];
      return [
        wrong(
          `${entry} has ${found.parts} parts on ${name}, ${found.differentParts} of them different, instead of ${parts}`,
        ),
      ];
    }),
    ...[...journal.keys()]
      .filter((entry) => !known.has(entry))
      .map((entry) => wrong(`${entry} is on ${name}, and was not committed by any client`)),
  ]);
}
