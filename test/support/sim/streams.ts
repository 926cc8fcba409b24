import type { Lsn } from '../../../src/base/lsn.ts';
import type { NodeStatus } from '../../../src/model/node.ts';
import type { Writer } from '../../../src/conflict/version.ts';
import type { ModelServer } from './server.ts';
import type { WalRecord } from './transaction.ts';

/** The node of that number in a run; the greater one wins at equal times. */
export function writerOfNode(index: number): Writer {
  return { id: { sysid: String(index + 1), timeline: 1, dboid: 5 }, sequence: index + 1 };
}

/** Whether a node counts: it is in the group, as far as somebody knows who has `status` for it. */
export function isKnown(status: NodeStatus | undefined): boolean {
  return status !== undefined && status !== 'k';
}

/** Whether a record is sent to peers: it is the node's own, and has something in it. */
export function isSent({ origin, changes }: WalRecord): boolean {
  return origin === 0 && changes.length > 0;
}

/** Where the last transaction ends that a node's own stream reads; `isSent`: that its peers are sent. */
export function lastSent({ wal }: ModelServer, mustBeSent: boolean): Lsn {
  for (let at = wal.length - 1; at >= 0; at--) {
    const record = wal[at] as WalRecord;
    if (mustBeSent ? isSent(record) : record.origin === 0) return (at + 1) as Lsn;
  }
  return 0 as Lsn;
}
