import { ColumnKind } from '../../../src/pgoutput/tuple.ts';
import type { Change } from '../../../src/pgoutput/transaction.ts';
import { DEATHS } from './world.ts';
import type {
  KeptWrite,
  LostValue,
  LostWrite,
  OpenAsk,
  Outgoing,
  Row,
  Tombstone,
  WalRecord,
} from './transaction.ts';

/** A commit in one line, for who looks into a failing run. */
export function describeRecord(record: WalRecord): string {
  const { time, position, changes, rows, tombstones, forgotten, lost, settled } = record;
  const { outgoing, sent, asked, answered } = record;
  const { lostWrites, settledWrites, versions, forgottenVersions, inHistory } = record;
  const parts = [
    `at ${time}`,
    ...(position === undefined ? [] : [`position ${position}`]),
    ...changes.map(describeChange),
    ...[...rows].map(([key, row]) => `${key} := ${describeRow(row)}`),
    ...tombstones.map((one) => `tombstone ${describeTombstone(one)}`),
    ...forgotten.map((one) => `forgets ${describeTombstone(one)}`),
    ...lost.map((one) => `notes ${describeNote(one)}`),
    ...settled.map((one) => `settles ${describeNote(one)}`),
    ...outgoing.map((one) => `will ${describeDeath(one)}`),
    ...sent.map((one) => `has sent: ${describeDeath(one)}`),
    ...asked.map((one) => `has asked ${describeAsk(one)}`),
    ...answered.map((one) => `asks no more ${describeAsk(one)}`),
    ...lostWrites.map((one) => `notes ${describeLostWrite(one)}`),
    ...settledWrites.map((one) => `settles ${describeLostWrite(one)}`),
    ...versions.map((one) => `true version ${describeTombstone(one)}`),
    ...forgottenVersions.map((one) => `forgets the version ${describeTombstone(one)}`),
    ...inHistory.map((one) => `in the history ${describeKept(one)}`),
  ];
  return parts.join('; ');
}

export function describeRow(row: Pick<Row, 'v' | 'big'> | undefined): string {
  return row ? `(${row.v}, ${row.big})` : 'nothing';
}

function describeKept(one: KeptWrite): string {
  return 'row' in one ? `${one.row.key} ${describeRow(one.row)}` : describeTombstone(one);
}

function describeNote({ key, writer }: LostValue): string {
  return `${key} of ${writer - 1}`;
}

function describeDeath({ kind, key, version: { time, writer } }: Outgoing): string {
  return `${kind} ${key} by ${(writer.sequence ?? 0) - 1} at ${time}`;
}

function describeAsk({ key, writer }: OpenAsk): string {
  return `about ${key} of ${(writer.sequence ?? 0) - 1}`;
}

function describeLostWrite({ key, row, provider, lsn }: LostWrite): string {
  return `that ${key} ${row ? describeRow(row) : 'deleted'} lost to record ${lsn} of ${provider}`;
}

function describeTombstone({ key, time, writer }: Tombstone): string {
  return `of ${key ?? 'the table'} by ${(writer.sequence ?? 0) - 1} at ${time}`;
}

function describeChange(change: Change): string {
  switch (change.kind) {
    case 'message':
      return 'heartbeat';
    case 'truncate':
      return 'TRUNCATE';
    case 'insert':
      if (change.relation === DEATHS) return `TELLS ${change.newTuple.text(0)}`;
      return `INSERT ${change.newTuple.text(0)}`;
    case 'delete':
      return `DELETE ${change.oldTuple.text(0)}`;
    case 'update': {
      const from = change.oldTuple ? `${change.oldTuple.text(0)} to ` : '';
      const isUnchanged = change.newTuple.kind(2) === ColumnKind.unchanged;
      return `UPDATE ${from}${change.newTuple.text(0)}${isUnchanged ? ', TOAST unchanged' : ''}`;
    }
  }
}
