import type { LinkRecord, LinkReport } from '../catalog/links.ts';
import type { Node } from '../model/node.ts';
import type { ConninfoEnvironment } from '../postgres/conninfo.ts';
import type { GroupView } from './group-view.ts';
import type { LogLine } from './thread-log.ts';

/** What a link's thread is started with. Holds secrets, in the DSNs and the environment. */
export interface LinkThreadInput {
  readonly localNode: Node;
  readonly provider: Node;
  readonly record: LinkRecord;
  /** How to reach the node itself; the provider by its own DSN. */
  readonly localDsn: string;
  readonly environment: ConninfoEnvironment;
  /** An Edition. */
  readonly edition: SharedArrayBuffer;
  /** A SharedTime, which the thread writes. */
  readonly watermark: SharedArrayBuffer;
  /** A SharedTime, which the thread reads: LinkContext.recordLimit. */
  readonly recordLimit: SharedArrayBuffer;
  readonly group: GroupView;
  /** SharedHistoryOptions, which the thread reads. */
  readonly history: SharedArrayBuffer;
}

/** To the thread. Each is answered, in order. */
export type ToLinkThread =
  | { readonly kind: 'group'; readonly group: GroupView }
  /** To tell what has happened since the last report. */
  | { readonly kind: 'report' }
  /** To end the link, tell what has happened, and end. */
  | { readonly kind: 'stop' };

/** From the thread. */
export type FromLinkThread =
  | { readonly kind: 'answer'; readonly report: LinkReport | null }
  | { readonly kind: 'log'; readonly line: LogLine }
  /** The thread has outdated the edition: the group is to be looked at. */
  | { readonly kind: 'outdated' }
  /** LinkContext.onOwnBehind. */
  | { readonly kind: 'own behind' }
  | { readonly kind: 'slot lost' };
