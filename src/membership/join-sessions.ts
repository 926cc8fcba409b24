import { BdrError } from '../base/errors.ts';
import type { Node } from '../model/node.ts';
import { Session } from '../postgres/session.ts';
import type { Endpoints } from './endpoints.ts';

/** Opens a join's sessions on other nodes. All of them end when the join is aborted, whatever they wait for. */
export class JoinSessions {
  readonly #endpoints: Endpoints;
  readonly #name: string;
  readonly #signal: AbortSignal;

  /** `name` is that of the joining node. */
  constructor(endpoints: Endpoints, name: string, signal: AbortSignal) {
    this.#endpoints = endpoints;
    this.#name = name;
    this.#signal = signal;
  }

  async open(dsn: string): Promise<Session> {
    const session = await Session.connect(this.#endpoints.conninfo(dsn), {
      applicationName: `${this.#name}:join`,
      signal: this.#signal,
    });
    session.abortOn(this.#signal);
    return session;
  }

  /** A session on a member; its error says which one cannot be reached, and what to do if it will not come back. */
  async openPeer(peer: Node): Promise<Session> {
    if (peer.dsn === null) {
      throw new BdrError('invalid_membership', {
        message: `node ${peer.name} has no row in bdr.bdr_connections`,
      });
    }
    try {
      return await this.open(peer.dsn);
    } catch (error) {
      if (!(error instanceof BdrError)) throw error;
      throw new BdrError(error.code, {
        message: `node ${peer.name}: ${error.message}`,
        detail:
          error.detail ??
          'A node that joins must reach every member, because it is going to replicate with each.',
        hint: `${error.hint ?? ''} If that node will not come back, part it on a member: SELECT bdr.bdr_part_by_node_names('{${peer.name}}').`.trim(),
        sqlstate: error.sqlstate,
        cause: error,
      });
    }
  }
}
