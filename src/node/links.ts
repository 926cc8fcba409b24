import { backoffMs } from '../base/backoff.ts';
import { BdrError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { parseLsn, type Lsn } from '../base/lsn.ts';
import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import {
  createLink,
  deleteLink,
  noteLinkFailure,
  readLinks,
  reportLink,
  type LinkRecord,
  type LinkReport,
  type SkipRequest,
} from '../catalog/links.ts';
import type { LocalNode } from '../catalog/nodes.ts';
import { notePartedPosition } from '../catalog/parted-positions.ts';
import { publishTo } from '../catalog/publications.ts';
import type { Endpoints } from '../membership/endpoints.ts';
import { releaseParted } from '../membership/part.ts';
import { slotName } from '../model/link.ts';
import { nodeKey, sameNode, type Node, type NodeId } from '../model/node.ts';
import { Session } from '../postgres/session.ts';
import { ensureSlot } from '../postgres/slots.ts';
import { describeError } from './describe-error.ts';
import type { GroupFacts } from './group-facts.ts';
import { LinkThread, type LinkThreadContext } from './link-thread.ts';

/** Between two tries to establish a link. */
const RETRY = { firstMs: 500, mostMs: 15_000 };

export interface LinksOptions {
  readonly endpoints: Endpoints;
  readonly group: GroupFacts;
  readonly log: Logger;
  readonly random: () => number;
  readonly signal: AbortSignal;
  /** A link can be begun that could not before: the node is to be looked at again. */
  readonly onStartable: () => void;
  /** What all links have in common. */
  readonly common: () => Pick<
    LinkThreadContext,
    'recordLimit' | 'history' | 'onOutdated' | 'onOwnBehind' | 'onSlotLost'
  >;
}

interface RunningLink {
  readonly service: LinkThread;
  readonly provider: Node;
  readonly dsn: string;
  readonly skipRequest: SkipRequest | null;
}

/** The links of a node: makes those that run what the catalog says. */
export class Links {
  readonly #options: LinksOptions;
  /** By nodeKey() of their providers. */
  readonly #running = new Map<string, RunningLink>();
  readonly #establishing = new Map<string, { failures: number; notBefore: number }>();
  /** What links have reported last, by nodeKey() of their providers. */
  readonly #reports = new Map<string, LinkReport>();

  constructor(options: LinksOptions) {
    this.#options = options;
  }

  /** Begins, ends and begins anew what has to be. */
  async reconcile(session: Session, me: Node, local: LocalNode): Promise<void> {
    const { nodes } = this.#options.group;
    const records = await readLinks(session);
    const recordOf = (node: Node) => records.find(({ provider }) => sameNode(provider, node.id));
    for (const node of nodes) {
      if (sameNode(node.id, me.id) || node.status === 'b') continue;
      const key = nodeKey(node.id);
      const record = recordOf(node);
      const running = this.#running.get(key);
      if (node.status === 'k') {
        await this.#stopOne(key, session);
        const link = { provider: node.id, subscriber: me.id };
        if (record) {
          await session.transaction(async () => {
            await notePartedPosition(session, link, node, running !== undefined);
            await deleteLink(session, node.id);
          });
        }
        await releaseParted(session, { provider: me.id, subscriber: node.id });
        continue;
      }
      if (record && record.start !== null && record.providerJoinedAt !== node.joinedAt) {
        // The provider was removed and has joined again: what is known of its former life does not hold.
        await this.#stopOne(key, session);
        await deleteLink(session, node.id);
        continue;
      }
      if (node.dsn === null) continue;
      const changed =
        running &&
        (running.dsn !== node.dsn ||
          running.provider.applyDelayMs !== node.applyDelayMs ||
          askedOtherwise(running, record?.skipRequest ?? null));
      if (changed) await this.#stopOne(key, session);
      else if (running) continue;
      if (record && record.start !== null) this.#start(me, node, node.dsn, record);
      else await this.#establish(session, me, node, local);
    }
    // Nodes that were parted and whose name was given to another, all while this node did not look.
    for (const { provider } of records) {
      if (nodes.some(({ id }) => sameNode(id, provider))) continue;
      await this.#stopOne(nodeKey(provider), session);
      if (await releaseParted(session, { provider: me.id, subscriber: provider }))
        await deleteLink(session, provider);
    }
  }

  /**
   * Tells the links what is known of the group now. Returns when all of them go by it: no link is started before, so that rows of a
   * new origin are never taken for the node's own.
   */
  async tell(me: NodeId): Promise<void> {
    const telling = [...this.#running.values()].map(({ service, provider }) =>
      service.tell(this.#options.group.viewFor(provider.id, me)),
    );
    await Promise.all(telling);
  }

  /** Writes down what has happened: of links that run, or ran until stop(). */
  async report(session: Session, links: readonly RunningLink[]): Promise<void> {
    for (const link of links) await this.#reportOne(session, link);
  }

  /** Writes down why none of them can be begun. */
  async noteFailure(session: Session, me: NodeId, error: unknown): Promise<void> {
    for (const { id } of this.#options.group.others(me))
      await noteLinkFailure(session, { provider: id, subscriber: me }, describeError(error));
  }

  running(): readonly RunningLink[] {
    return [...this.#running.values()];
  }

  /** Up to when all peers know what this node wrote. */
  knownThere(me: NodeId): PgTime {
    return this.#leastTold(me, ({ knownThere }) => knownThere);
  }

  /** LinkReport.settledThere of all peers, as of the last report. */
  settledThere(me: NodeId): PgTime {
    return this.#leastTold(me, ({ settledThere }) => settledThere);
  }

  #leastTold(me: NodeId, time: (report: LinkReport) => PgTime): PgTime {
    const times = this.#options.group.others(me).map(({ id }) => {
      const report = this.#reports.get(nodeKey(id));
      return report ? time(report) : LONG_AGO;
    });
    return Math.min(...times) as PgTime;
  }

  async stop(): Promise<void> {
    for (const { service } of this.#running.values()) void service.stop();
    for (const key of this.#running.keys()) await this.#stopOne(key);
  }

  /** For another life of the node. */
  forget(): void {
    this.#establishing.clear();
    this.#reports.clear();
  }

  /** Makes the slot and the origin of a new link. Tried again, with growing pauses, while the provider cannot be reached. */
  async #establish(session: Session, me: Node, node: Node, local: LocalNode): Promise<void> {
    const { endpoints, log, random, signal } = this.#options;
    const key = nodeKey(node.id);
    const tries = this.#establishing.get(key) ?? { failures: 0, notBefore: 0 };
    if (performance.now() < tries.notBefore) return;
    const link = { provider: node.id, subscriber: me.id };
    try {
      await using peer = await Session.connect(endpoints.conninfo(node.dsn ?? ''), {
        applicationName: `${me.name}:mkslot`,
        signal,
        connectTimeoutMs: 5000,
      });
      await publishTo(peer, me.id);
      const start = await slotStart(peer, slotName(link));
      const copied = (local.joinState['applied'] as Record<string, string> | undefined)?.[key];
      const position = copied === undefined ? start : later(start, parseLsn(copied));
      await createLink(session, link, node.joinedAt, { start: position, skip: null });
      this.#establishing.delete(key);
      log.info({ provider: node.name }, 'link is established');
      this.#options.onStartable();
    } catch (error) {
      const failures = tries.failures + 1;
      const waitMs = backoffMs(failures, RETRY, random);
      this.#establishing.set(key, { failures, notBefore: performance.now() + waitMs });
      log.warn(
        { provider: node.name, ...describeError(error), retryInMs: waitMs },
        'link cannot be established',
      );
      await noteLinkFailure(session, link, describeError(error));
    }
  }

  #start(me: Node, provider: Node, dsn: string, record: LinkRecord): void {
    const { endpoints, group, log, random } = this.#options;
    const { origins, edition } = group;
    const known = [...origins.providers.values()].some(({ id }) => sameNode(id, provider.id));
    // Made since the origins were read: the next look has it.
    if (!known) return this.#options.onStartable();
    const service = new LinkThread({
      ...this.#options.common(),
      localNode: me,
      provider,
      record,
      endpoints,
      edition,
      watermark: group.watermarkOf(provider.id),
      group: group.viewFor(provider.id, me.id),
      log,
      random,
    });
    const { skipRequest } = record;
    this.#running.set(nodeKey(provider.id), { service, provider, dsn, skipRequest });
    service.start();
  }

  async #stopOne(key: string, session?: Session): Promise<void> {
    const running = this.#running.get(key);
    if (!running) return;
    this.#running.delete(key);
    await running.service.stop();
    if (session) await this.#reportOne(session, running);
  }

  async #reportOne(session: Session, { service, provider }: RunningLink): Promise<void> {
    const report = await service.takeReport();
    this.#reports.set(nodeKey(provider.id), report);
    await reportLink(session, provider.id, report);
  }
}

/** Whether a link is to skip something else than it knows of. That it is done with a request is no reason to begin it anew. */
function askedOtherwise({ service, skipRequest }: RunningLink, now: SkipRequest | null): boolean {
  if (now?.at === skipRequest?.at) return false;
  return now !== null || service.status === 'failed';
}

/** The start of a slot for this node on a provider, made if it is not there: a joining provider makes it itself beforehand. */
async function slotStart(peer: Session, name: string): Promise<Lsn> {
  const start = await ensureSlot(peer, name);
  if (start === null) {
    throw new BdrError('join_in_progress', {
      message: `replication slot "${name}" is still being made`,
    });
  }
  return start;
}

function later(a: Lsn, b: Lsn): Lsn {
  return a > b ? a : b;
}
