import type { HistoryOptions } from '../apply/pending-conflicts.ts';
import type { OriginMap } from '../apply/writers.ts';
import type { Logger } from '../base/logger.ts';
import type { PgTime } from '../base/pg-time.ts';
import type { SharedTime } from '../base/shared-time.ts';
import type { LinkRecord } from '../catalog/links.ts';
import type { Node } from '../model/node.ts';
import type { Conninfo } from '../postgres/conninfo.ts';

/** What a link needs to know of the node it serves. */
export interface LinkContext {
  readonly localNode: Node;
  readonly provider: Node;
  readonly record: LinkRecord;
  readonly local: Conninfo;
  /** Read anew for each connection: a password file may have changed. Throws BdrError `invalid_dsn`. */
  readonly remote: () => Conninfo;
  readonly origins: () => OriginMap;
  readonly nodes: () => readonly Node[];
  /**
   * The least watermark of the node's other links and of its own stream: nothing that was committed up to then on any node but
   * the provider is still on its way (DESIGN 4.6). LONG_AGO while one of them is not known.
   */
  readonly groupLimit: () => PgTime;
  /** The watermark of the node's own stream alone. */
  readonly ownLimit: () => PgTime;
  /** The clock of the last heartbeat that the own stream has come to: that watermark does not pass it. */
  readonly ownHeard: () => PgTime;
  /** Changes up to then do not take it for granted what commit records of this node say: see RecordKeeper. */
  readonly recordLimit: () => PgTime;
  /** Where the link publishes its own. */
  readonly watermark: SharedTime;
  readonly applyDelayMs: number;
  /** What is kept of conflicts. */
  readonly history: HistoryOptions;
  readonly log: Logger;
  readonly random: () => number;
  /** The own stream's watermark holds back what could be grouped: its next heartbeat moves it on. */
  readonly onOwnBehind: () => void;
  /** Something arrived that changes who the nodes are or how they are reached. */
  readonly onMembershipChange: () => void;
  /**
   * A session that applies is open. Until the node was looked at again groupLimit is LONG_AGO: other links may not know yet that
   * the server has crashed since, and what they had handled may be undone.
   */
  readonly onApplySession: () => void;
  /** The provider has nothing for this node any more, perhaps because this node was parted. */
  readonly onSlotLost: () => void;
}
