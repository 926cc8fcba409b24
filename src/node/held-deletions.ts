import type { LinkState, Moment, OwnStreamState } from '../catalog/monitoring.ts';
import type { OpenWriter } from '../catalog/open-writers.ts';

/** What keeps this node from forgetting deletions. */
export interface HeldDeletions {
  /** The node whose changes have still to come: this one where its own log is not read that far. */
  readonly by: string;
  readonly isLocal: boolean;
  /** What was deleted after that is remembered; null while nothing is known of that node. */
  readonly upTo: Moment | null;
  /** For how long; null with `upTo`. */
  readonly ms: number | null;
}

/**
 * Who holds the deletions that a node remembers: of its links and its own stream the one with the least watermark (DESIGN 4.4).
 * Undefined while none is remembered.
 */
export function whoHoldsDeletions(node: {
  readonly at: Moment;
  readonly name: string;
  readonly links: readonly (Pick<LinkState, 'watermarkAt'> & { readonly from: string })[];
  readonly ownStream: Pick<OwnStreamState, 'watermarkAt' | 'tombstones'> | null;
}): HeldDeletions | undefined {
  const { at, name, links, ownStream } = node;
  if (!ownStream || ownStream.tombstones === 0) return undefined;
  const holders = [
    { by: name, isLocal: true, upTo: ownStream.watermarkAt },
    ...links.map(({ from, watermarkAt }) => ({ by: from, isLocal: false, upTo: watermarkAt })),
  ];
  // Moments of one form are ordered as their texts are.
  const [least] = holders.toSorted((a, b) => ((a.upTo ?? '') < (b.upTo ?? '') ? -1 : 1));
  if (!least) return undefined;
  const ms = least.upTo === null ? null : Math.max(0, Date.parse(at) - Date.parse(least.upTo));
  return { ...least, ms };
}

/** A transaction by what its owner knows it by. */
export function describeWriter({ pid, gid, role, application }: OpenWriter): string {
  if (pid === null) return `prepared transaction "${gid ?? ''}" of role ${role}`;
  const who = application === null || application === '' ? '' : `, ${application}`;
  return `the transaction of pid ${pid} (role ${role}${who})`;
}
