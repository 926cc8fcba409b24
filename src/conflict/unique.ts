import type { PgTime } from '../base/pg-time.ts';
import { sameNode } from '../model/node.ts';
import { decide, type LocalRow } from './decide.ts';
import { compareVersions, type Version, type Writer } from './version.ts';

/** A row that is here. */
type Row = Exclude<LocalRow, { kind: 'missing' }>;

/**
 * How the other nodes learn that a row has lost its place in a unique index (DESIGN 4.2, rule 10). A **kill** is spread by the node
 * that wrote the row, and all remove it; an **ask** asks that node to do so.
 */
export interface Death {
  readonly kind: 'kill' | 'ask';
  /** Of the row that is to go, as it stands here. The writer of a kill is this node. */
  readonly version: Version;
}

/**
 * Whether a row of version `remote` loses to one that has its value in a unique index: to a greater one. Not to one of the same
 * writer, whose changes arrive in its own order: he had removed or changed that one before, by what another node wrote.
 */
export function losesTo(remote: Version, rival: Row): boolean {
  return decide('insert', remote, rival, remote.time).action === 'skip';
}

/**
 * What tells the others that a row was removed here. Only who wrote a row may spread its death, or the row could come after the
 * kill, over another link, and stay. A row without record is older than anything that is still on its way: that is a deletion by
 * this node, of the time up to which it has seen everything (`seenUpTo`).
 */
export function deathOf(row: Row, local: Writer, seenUpTo: PgTime): Death | undefined {
  switch (row.kind) {
    case 'own':
      return undefined;
    case 'unrecorded':
    case 'older':
    case 'newer':
      return { kind: 'kill', version: { time: seenUpTo, writer: local } };
    case 'versioned':
      return {
        kind: sameNode(row.version.writer.id, local.id) ? 'kill' : 'ask',
        version: row.version,
      };
  }
}

/** What becomes of an ask for the row of version `asked` at a node that has `row` under that key: its death, if it is to go. */
export function answerTo(
  asked: Version,
  row: Row | undefined,
  local: Writer,
  seenUpTo: PgTime,
): Death | undefined {
  if (!row || !sameNode(asked.writer.id, local.id)) return undefined;
  const death = deathOf(row, local, seenUpTo);
  if (death?.kind !== 'kill') return undefined;
  // What is newer than the asker has seen may have given the value up.
  if (row.kind === 'versioned' && compareVersions(row.version, asked) > 0) return undefined;
  return death;
}
