import type { Switches } from './switches.ts';

/** A rule that can be switched off, or be put in a plain form that does not hold. */
export interface Mutant extends Switches {
  readonly name: string;
  /** The rule, by its place in the design, and what the code does. */
  readonly rule: string;
}

/** Names are what is done instead of the rule. */
export const MUTANTS = [
  {
    name: 'no rule for the same writer',
    rule: 'a provider’s change applies to its own row, whatever the times say',
  },
  {
    name: 'same writer: rows only',
    rule: 'it does so where the provider’s own tombstone is all that is left, too',
  },
  { name: 'equal times: first come', rule: 'at equal times the writers’ numbers decide' },
  { name: 'update of a missing key is skipped', rule: 'it becomes an insert of the whole row' },
  { name: 'inserts pass tombstones', rule: 'an insert is compared with the tombstone of its key' },
  { name: 'deletions leave no tombstone', rule: 'deletions are remembered' },
  {
    name: 'delete that finds nothing goes on',
    rule: 'it waits for other apply transactions and looks again',
  },
  {
    name: 'folded insert and delete leave no tombstone',
    rule: 'what comes and goes within one transaction is remembered',
  },
  {
    name: 'key change that loses keeps the old key',
    rule: 'the old key is deleted whatever becomes of the new one',
  },
  { name: 'TRUNCATE lets writers in', rule: 'TRUNCATE locks the table before it looks' },
  { name: 'TRUNCATE leaves no tombstone', rule: 'TRUNCATE is remembered for the whole table' },
  {
    name: 'unchanged TOAST kept in any row',
    rule: 'a value that was not sent is kept only in a row that the provider wrote',
  },
  {
    name: 'lost values are not read again',
    rule: 'the long value of a row that a change lost to is read again from the node that wrote the row',
  },
  {
    name: 'own deletions that lose are passed over',
    rule: 'so is that of a row that a local deletion lost to',
  },
  {
    name: 'TRUNCATEs that lose are passed over',
    rule: 'and of those that a provider’s TRUNCATE lost to',
  },
  {
    name: 'lost values read before their commits are seen',
    rule: 'it is read once the link’s watermark has passed the row: then that node shows it',
  },
  {
    name: 'read values may be lost by a crash',
    rule: 'what is read from a provider is on its disk before it counts',
  },
  { name: 'lost values are a new version', rule: 'it stays the same version of the row' },
  {
    name: 'change of key takes what is under the old key',
    rule: 'nor is it taken along to another key',
  },
  {
    name: 'what cannot be read any more leaves nothing',
    rule: 'a change whose long value its node has no more counts as a deletion of its version',
    uniques: true,
  },
  {
    name: 'change of key read before its commit is seen',
    rule: 'what a change of key leaves out is read when the provider shows its commit',
  },
  {
    name: 'fast path without its condition',
    rule: 'the fast path takes a row only where the change is certain to win',
  },
  {
    name: 'condition on the old row',
    rule: 'its condition is tested again after a wait for a lock',
  },
  {
    name: 'tombstones looked at before the insert',
    rule: 'tombstones are asked for in a later statement than the insert',
  },
  {
    name: 'limit of deletions read after the look',
    rule: 'what need not be remembered is known before the row is looked for',
  },
  {
    name: 'own stream without key changes',
    rule: 'the own stream carries the old keys of key changes',
  },
  {
    name: 'own stream without the look below tombstones',
    rule: 'rows of users that a deletion could not see are removed once they are seen',
  },
  {
    name: 'look below tombstones beside the gate',
    rule: 'no deletion that is about to commit can miss that look and not see the rows',
  },
  {
    name: 'own watermark before the look below tombstones',
    rule: 'nobody relies on what users wrote being handled before that look',
  },
  {
    name: 'own stream leaves tombstones only',
    rule: 'it removes what slipped in under a deleted key',
  },
  {
    name: 'own stream looks at once',
    rule: 'it looks when the apply transactions that were open have ended',
  },
  {
    name: 'tombstones forgotten by the last time seen',
    rule: 'a tombstone goes when the watermarks have passed it',
  },
  {
    name: 'tombstones forgotten without the own stream',
    rule: 'the own stream’s watermark counts in that',
  },
  {
    name: 'group settles its key changes at the end',
    rule: 'a group holds what one transaction moved to a key against tombstones before a later one writes there',
  },
  { name: 'group without a limit', rule: 'a transaction above the watermarks goes by itself' },
  {
    name: 'group without the own stream',
    rule: 'the own stream’s watermark counts, with two nodes too',
  },
  { name: 'group up to the last time seen', rule: 'the greatest commit time seen is no watermark' },
  { name: 'group with a margin of time', rule: 'nor is it with a safety margin' },
  {
    name: 'heartbeat counted when received',
    rule: 'a heartbeat counts in its place in the stream, when all before it is committed',
  },
  { name: 'heartbeat with the snapshot’s xmax', rule: 'a heartbeat carries its own id' },
  { name: 'heartbeat reads the clock last', rule: 'it reads the clock before it takes its id' },
  {
    name: 'watermark at the clock itself',
    rule: 'a watermark stays below its heartbeat’s clock: what takes an id later may take that very time',
  },
  {
    name: 'apply ahead of the clock',
    rule: 'a change waits until the server’s clock has passed it',
  },
  { name: 'apply at the clock', rule: 'strictly' },
  { name: 'acknowledged when applied', rule: 'only what is on disk is acknowledged' },
  {
    name: 'origin position kept after rollback',
    rule: 'each apply transaction sets up its own position',
  },
  {
    name: 'new agent does not wait for old sessions',
    rule: 'progress is read once no other session has the origin',
  },
  {
    name: 'unique losers are removed here only',
    rule: 'the death of a row that lost its value in a unique index is told to the others',
    unique: true,
  },
  {
    name: 'finder kills itself',
    rule: 'the node that wrote the row spreads its death; who else finds it asks that node',
    unique: true,
  },
  {
    name: 'replicated delete instead of kill',
    rule: 'a kill has the version of the row that it kills',
    unique: true,
  },
  {
    name: 'tombstone of a unique loser is of now',
    rule: 'and so has the tombstone that it leaves where it was found',
    unique: true,
  },
  {
    name: 'older row under the key of a unique loser stays',
    rule: 'under the key of a row that lost nothing is left, an older row neither',
    unique: true,
  },
  {
    name: 'asked rows are killed whatever their version',
    rule: 'an ask takes no row that is newer than what the asker has seen',
    unique: true,
  },
  {
    name: 'asks are followed before their rows are seen',
    rule: 'an ask waits for commits up to its version that are on the log and not seen: its row may be of one',
    unique: true,
  },
  {
    name: 'kill takes smaller rows only',
    rule: 'a kill takes a row of its own writer whatever the times say',
    unique: true,
  },
  { name: 'kill is answered', rule: 'nothing answers a kill', unique: true },
  {
    name: 'rows written again before a kill is sent are forgotten',
    rule: 'who has sent a kill writes its own row of that key again, if there is one by then',
    unique: true,
  },
  {
    name: 'asks to a parted node are left open',
    rule: 'who has asked a node that is parted before it has answered deletes the row everywhere in its stead',
    unique: true,
    part: true,
  },
  {
    name: 'rivals of the first index only',
    rule: 'rivals are looked for in every unique index',
    uniques: true,
  },
  {
    name: 'who loses in one index wins in the other',
    rule: 'a row that loses in one index takes no value in another one',
    uniques: true,
  },
  {
    name: 'links begin at their slots',
    rule: 'a joined node’s links begin at what its source had applied',
    join: true,
  },
  {
    name: 'snapshot taken while apply goes on',
    rule: 'apply on the source is held while it takes the snapshot',
    join: true,
  },
  {
    name: 'snapshot without what is not seen yet',
    rule: 'the snapshot waits for all who were writing when the slot on the source was there: their commits may lie before it',
    join: true,
  },
  {
    name: 'what the copy shows may be lost by a crash',
    rule: 'what the snapshot shows is on the source’s disk before it counts',
    join: true,
  },
  {
    name: 'copied rows are as new as the copy',
    rule: 'a copied row’s version is not the copy’s',
    join: true,
  },
  {
    name: 'rows are copied without their true versions',
    rule: 'rows that a change on its way may be older than keep their versions',
    join: true,
  },
  {
    name: 'versions forgotten before all have heard of the row',
    rule: 'until no node that has not heard of such a row can tell of the death of an older one',
    join: true,
    unique: true,
  },
  {
    name: 'rows copied by the clock alone',
    rule: 'which those are is told by that as well',
    join: true,
    unique: true,
  },
  {
    name: 'TRUNCATE goes by the stamps of copied rows',
    rule: 'a TRUNCATE takes copied rows by their true versions',
    join: true,
  },
  {
    name: 'clock read when the slot is made',
    rule: 'which those are is told by a clock that was read before the slot was made',
    join: true,
  },
  {
    name: 'slot does not wait for who is writing',
    rule: 'and by a slot that waits for all who are writing',
    join: true,
  },
  {
    name: 'tombstones are not copied',
    rule: 'deletions that the source remembers are copied',
    join: true,
  },
  {
    name: 'tombstones copied before the source has read its own log',
    rule: 'once the source has read its own log past the snapshot',
    join: true,
  },
  {
    name: 'tombstones forgotten while a node copies',
    rule: 'nobody forgets deletions while a node copies',
    join: true,
  },
  {
    name: 'versions of noted rows are not copied',
    rule: 'with the true versions of those rows, however old they are',
    join: true,
  },
  {
    name: 'noted lost values are not copied',
    rule: 'what the source has noted of long values is copied, too',
    join: true,
  },
  {
    name: 'rows below the clock’s greatest time stay',
    rule: 'rows that were written while the clock was behind are written again once it has passed',
    clocks: true,
  },
  {
    name: 'parted before the others have what it wrote',
    rule: 'a node is parted when the others have all that it wrote',
    part: true,
  },
  {
    name: 'a parted node’s link holds the watermarks',
    rule: 'nothing waits for a parted node’s heartbeats',
    part: true,
  },
  {
    name: 'long values are asked of a parted node for ever',
    rule: 'nor for its answers',
    part: true,
  },
  {
    name: 'what lies below a deletion goes in silence',
    rule: 'a row that is removed because a deletion could not see it goes into the history',
  },
  {
    name: 'what a TRUNCATE takes goes in silence',
    rule: 'so does a row of a node’s own users that another node’s TRUNCATE takes and may not have had',
  },
  {
    name: 'an insert below a deletion goes in silence',
    rule: 'so does an insert that comes to where users had deleted its key, and could not have had it',
  },
  {
    name: 'what an unread row finds goes in silence',
    rule: 'so does one under the key of a row whose long value cannot be read any more',
  },
  {
    name: 'what a kill finds goes in silence',
    rule: 'and a smaller one in the place of the row that a kill is for',
    unique: true,
  },
] as const satisfies readonly Mutant[];

export type MutantName = (typeof MUTANTS)[number]['name'];

/** The mutant of that name; undefined for a name that none has. */
export function mutantNamed(name: string): MutantName | undefined {
  return MUTANTS.find((mutant) => mutant.name === name)?.name;
}
