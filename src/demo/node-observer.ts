import { agentLockHolder } from '../postgres/advisory.ts';
import { readNodeDatabases } from '../postgres/databases.ts';
import type { Session } from '../postgres/session.ts';
import type { DemoNode } from './demo-node.ts';

/** A link as its subscriber shows it. */
export interface Incoming {
  readonly provider: string;
  readonly subscriber: string;
  readonly status: string;
  readonly error: string | null;
  readonly transactions: string;
  readonly rows: string;
  readonly conflicts: string;
}

/** A link as its provider shows it. */
export interface Outgoing {
  readonly provider: string;
  readonly subscriber: string;
  readonly active: string;
  readonly behind: string | null;
  readonly lag: string | null;
}

export interface NodeSight {
  readonly serverRuns: boolean;
  /** Whether an agent serves the server, be it the demo's or one that somebody started by hand. */
  readonly served: boolean;
  readonly incoming: readonly Incoming[];
  readonly outgoing: readonly Outgoing[];
}

const INCOMING = /* sql */ `
  SELECT n.node_name AS provider, bdr.bdr_get_local_node_name() AS subscriber,
         CASE WHEN bdr.bdr_apply_is_paused() THEN 'paused' ELSE l.status END AS status,
         l.status_error ->> 'message' AS error,
         l.nr_commit AS transactions,
         l.nr_insert + l.nr_update + l.nr_delete AS rows,
         l.nr_insert_conflict + l.nr_update_conflict + l.nr_delete_conflict AS conflicts
  FROM bdr.bdr_links AS l
  JOIN bdr.bdr_nodes AS n
    ON (n.node_sysid, n.node_timeline, n.node_dboid) = (l.provider_sysid, l.provider_timeline, l.provider_dboid)
`;
const OUTGOING = /* sql */ `
  SELECT bdr.bdr_get_local_node_name() AS provider, s.node_name AS subscriber, s.walsender_active AS active,
         pg_wal_lsn_diff(pg_current_wal_lsn(), s.slot_confirmed_lsn) AS behind,
         extract(epoch FROM r.replay_lag) * 1000 AS lag
  FROM bdr.bdr_node_slots AS s
  LEFT JOIN pg_stat_replication AS r ON r.pid = s.walsender_pid
`;

/** Looks at one server again and again, over sessions that it keeps. Databases that become nodes are found. */
export class NodeObserver {
  readonly #node: DemoNode;
  readonly #sessions = new Map<string, Session>();
  #last: readonly Incoming[] = [];

  constructor(node: DemoNode) {
    this.#node = node;
  }

  /** Never throws: what does not answer is shown as such, with the links that were last seen. */
  async look(): Promise<NodeSight> {
    const serverRuns = this.#node.server.running;
    try {
      if (serverRuns) return await this.#ask();
    } catch (error) {
      // Restarting, refusing, or a database being dropped: the next look tries again, over new sessions.
      this.#drop();
      const reason = error instanceof Error ? error.message : String(error);
      return this.#silent(serverRuns, reason);
    }
    this.#drop();
    return this.#silent(false, null);
  }

  close(): void {
    this.#drop();
  }

  async #ask(): Promise<NodeSight> {
    const server = await this.#session('postgres');
    const served = (await agentLockHolder(server)) !== undefined;
    const databases = (await readNodeDatabases(server)).map(({ name }) => name);
    for (const [name, session] of this.#sessions) {
      if (name === 'postgres' || databases.includes(name)) continue;
      this.#sessions.delete(name); // it is the user's again, to drop it for instance
      await session.close();
    }
    const incoming: Incoming[] = [];
    const outgoing: Outgoing[] = [];
    for (const name of databases) {
      const session = await this.#session(name);
      incoming.push(...(await session.query<Incoming>(INCOMING)));
      outgoing.push(...(await session.query<Outgoing>(OUTGOING)));
    }
    this.#last = incoming;
    return { serverRuns: true, served, incoming, outgoing };
  }

  #silent(serverRuns: boolean, error: string | null): NodeSight {
    const incoming = this.#last.map((link) => ({ ...link, status: 'no server', error }));
    return { serverRuns, served: true, incoming, outgoing: [] };
  }

  async #session(database: string): Promise<Session> {
    const open = this.#sessions.get(database);
    if (open && !open.lost.aborted) return open;
    const session = await this.#node.connect(database, { settings: { statement_timeout: '5s' } });
    this.#sessions.set(database, session);
    return session;
  }

  #drop(): void {
    for (const session of this.#sessions.values()) session.abort();
    this.#sessions.clear();
  }
}
