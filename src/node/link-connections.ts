import type { EarlySession } from '../apply/early-apply.ts';
import type { Wakeup } from '../base/wait.ts';
import type { ReplicationSession } from '../postgres/replication-session.ts';
import type { Session } from '../postgres/session.ts';
import type { AckLedger } from '../receive/ack-ledger.ts';
import type { MessageGuard } from '../receive/message-guard.ts';

/** One life of a link's connections, once they are open. */
export interface LinkConnections {
  readonly stream: ReplicationSession;
  /** Applies; has the link's origin. */
  readonly apply: Session;
  /** The name of that. */
  readonly origin: string;
  /** Opens another session as `apply`, with an origin of its own, for what is applied early. */
  readonly openEarly: () => Promise<Pick<EarlySession, 'session' | 'origin'>>;
  /** Opens another session as `apply`, without an origin: what it writes is this node's own. */
  readonly openOwn: () => Promise<Session>;
  /** Reads from the provider what its stream leaves out. */
  readonly peer: Session;
  readonly ledger: AckLedger;
  /** Knows the provider's own messages. */
  readonly guard: MessageGuard;
  readonly maxClockSkewMs: number;
  /** Raised when there is something new to acknowledge. */
  readonly feedback: Wakeup;
  readonly signal: AbortSignal;
}
