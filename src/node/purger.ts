import type { Logger } from '../base/logger.ts';
import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { forgetLostValuesOfParted } from '../catalog/lost-values.ts';
import { forgetLostWritesToParted } from '../catalog/lost-writes.ts';
import { forgetSettledAsks } from '../catalog/open-asks.ts';
import { purgeQueuedCommands } from '../catalog/queued-commands.ts';
import { purgeRowVersions } from '../catalog/row-versions.ts';
import { purgeTombstones, vacuumTombstones } from '../catalog/tombstones.ts';
import type { Conninfo } from '../postgres/conninfo.ts';
import type { Session } from '../postgres/session.ts';
import { DeletionsLimit } from './deletions-limit.ts';

const INTERVAL_MS = 5000;
/** Commands that changed definitions are kept for people to look at. */
const COMMANDS_KEPT_MS = 30 * 24 * 60 * 60 * 1000;

/** How far a node and its peers know what there is; each LONG_AGO while it is not known. */
export interface Horizons {
  /** Up to here everything of every peer is applied here: infinity without any. */
  readonly ofPeers: PgTime;
  /** Up to here everything of this node's users has been seen in its own log. */
  readonly own: PgTime;
  /** Up to here all peers have applied what this node wrote: infinity without any. */
  readonly there: PgTime;
  /** settledUpTo() of all peers: infinity without any. */
  readonly settled: PgTime;
}

/** Forgets versions, deletions and notes that nobody needs any more, in the session of the node's service. */
export class Purger {
  readonly #deletionsLimit: DeletionsLimit;
  #purgedAt = -Infinity;

  constructor(local: Conninfo, log: Logger) {
    this.#deletionsLimit = new DeletionsLimit(local, log);
  }

  /** Call it about once a second. `isReady`: the node is a member whom others count on, and may part a peer that is away. */
  async look(
    session: Session,
    isReady: boolean,
    horizons: () => Horizons,
    signal: AbortSignal,
  ): Promise<void> {
    if (performance.now() - this.#purgedAt < INTERVAL_MS) return;
    this.#purgedAt = performance.now();
    const { ofPeers, own, there, settled } = horizons();
    const ofRows = Math.min(ofPeers, settled) as PgTime;
    if (ofRows > LONG_AGO && ofRows < Infinity) await purgeRowVersions(session, ofRows);
    await forgetLostValuesOfParted(session);
    await forgetLostWritesToParted(session);
    await purgeQueuedCommands(session, COMMANDS_KEPT_MS);
    if (isReady) await this.#deletionsLimit.look(session, signal);
    const ofAll = Math.min(ofPeers, own) as PgTime;
    if (ofAll === LONG_AGO) return;
    const knownToAll = Math.min(ofAll, there) as PgTime;
    await forgetSettledAsks(session, knownToAll);
    await vacuumTombstones(session, await purgeTombstones(session, ofAll, knownToAll));
  }
}
