import type { NodeId } from './node.ts';

/** A directed edge of the group: one slot on the provider, one origin on the subscriber, whose agent pulls. */
export interface Link {
  readonly provider: NodeId;
  readonly subscriber: NodeId;
}

/**
 * The slot on the provider. BDR's format, which monitoring queries parse with bdr.bdr_parse_slot_name():
 * `bdr_<provider dboid>_<subscriber sysid>_<timeline>_<dboid>__<replication name>`.
 */
export function slotName({ provider, subscriber }: Link): string {
  return `bdr_${provider.dboid}_${subscriber.sysid}_${subscriber.timeline}_${subscriber.dboid}__`;
}

/**
 * The origin on the subscriber. BDR's format: `bdr_<provider sysid>_<timeline>_<dboid>_<subscriber dboid>_<replication name>`.
 * It is kept when the provider leaves: rows carry its number, and a number that is freed would be given to another node.
 */
export function originName({ provider, subscriber }: Link): string {
  return `bdr_${provider.sysid}_${provider.timeline}_${provider.dboid}_${subscriber.dboid}_`;
}

/**
 * The origin, beside the link's, of the session that applies large transactions before they have committed. What it writes must be
 * told from what users write while it is not committed; nothing is ever committed under it.
 */
export function earlyOriginName(link: Link): string {
  return `${originName(link)}s1`;
}

/** How the names of the publications begin that a node has for a subscriber. */
export function subscriberPrefix({ sysid, timeline, dboid }: NodeId): string {
  return `bdr_${sysid}_${timeline}_${dboid}`;
}

/** What a link reads (sql/routines/publication.sql): always the same, so that replication sets change without a new stream. */
export function publications({ subscriber }: Link): string[] {
  const prefix = subscriberPrefix(subscriber);
  const bySets = ['insert', 'update', 'delete'].map((action) => `${prefix}_${action}`);
  return ['bdr', 'bdr_ddl', ...bySets];
}

/** The slot from which a node reads its own log (DESIGN 4.4). */
export function ownSlotName({ dboid }: NodeId): string {
  return `bdr_${dboid}_own__`;
}

/** The origin that keeps how far a node has read its own log. */
export function ownOriginName({ dboid }: NodeId): string {
  return `bdr_${dboid}_own`;
}

const ORIGIN = /^bdr_([0-9]+)_([0-9]+)_([0-9]+)_([0-9]+)_(.*)$/;

/** The provider that an origin of this database stands for; undefined for other databases' and other people's origins. */
export function providerOfOrigin(origin: string, subscriberDboid: number): NodeId | undefined {
  const match = ORIGIN.exec(origin);
  if (!match || Number(match[4]) !== subscriberDboid || match[5] !== '') return undefined;
  return { sysid: match[1] as string, timeline: Number(match[2]), dboid: Number(match[3]) };
}

/** The origins under which a joining node's copied rows are committed, one a copying session; see DESIGN 7. */
export function copyOriginName(subscriber: NodeId, lane: number): string {
  return `bdr_copy_${subscriber.dboid}_${lane}`;
}
