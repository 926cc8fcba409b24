import { displayName, quoteIdent, quoteLiteral, quoteQualified } from '../base/names.ts';
import type { DoctorSequence, DoctorTable, DoctorTables } from '../postgres/doctor-tables.ts';
import type { UserCode } from '../postgres/user-code.ts';
import { findings, someOf, type Finding, type Say } from './finding.ts';

/** The group, as far as sequences ask. */
export interface Numbering {
  /** Live nodes, this one included; 1 where there is no group yet. */
  readonly nodes: number;
  /** Whether this database is a node. */
  readonly isNode: boolean;
}

/** Checks the tables that are, or will be, replicated. */
export function checkTables(
  { tables, sequences, unlogged, largeObjects, encoding, subscriptions, userCode }: DoctorTables,
  numbering: Numbering,
): Finding[] {
  return findings('database', (say) => {
    for (const table of tables) {
      checkKey(table, numbering.nodes > 1, say);
      checkUniques(table, say);
      checkGeneratedKey(table, say);
      checkExclusions(table, say);
    }
    if (tables.length > 0 && tables.every(hasKey)) {
      say('ok', 'table_key', `${tables.length} replicated tables, all with a key`);
    }
    for (const sequence of sequences) checkSequence(sequence, numbering, say);
    for (const code of userCode) checkUserCode(code, say);
    if (unlogged.length > 0) {
      const names = someOf(unlogged.map(displayName));
      say('note', 'unlogged_table', `unlogged tables are not replicated: ${names}`);
    }
    if (largeObjects > 0) {
      const message = `${largeObjects} large objects are not replicated`;
      say('warning', 'large_objects', message, 'keep them in columns of type bytea');
    }
    checkEncoding(encoding, say);
    if (subscriptions.length > 0) {
      const message = `what subscriptions bring to this database stays here, no peer gets it: ${someOf(subscriptions)}`;
      const fix = 'let each node subscribe, or let the publisher join the group';
      say('warning', 'subscription', message, fix);
    }
  });
}

/** Changes are read in UTF-8, into which the server converts them; in a database of SQL_ASCII it only looks whether they are. */
function checkEncoding(encoding: string, say: Say): void {
  if (encoding !== 'SQL_ASCII') return;
  say(
    'warning',
    'encoding',
    'the database has encoding SQL_ASCII, which takes any bytes: a value that is not valid in UTF-8 stops links until its transaction is skipped',
    'move the data into a database of encoding UTF8, before it joins a group',
  );
}

/** Rows can be told apart by what the server publishes of them. */
function hasKey({ identity, primaryKey }: DoctorTable): boolean {
  return identity === 'i' || identity === 'f' || (identity === 'd' && primaryKey === 'usable');
}

function checkKey(table: DoctorTable, isGroup: boolean, say: Say): void {
  const name = displayName(table.name);
  const quoted = quoteQualified(table.name);
  if (table.identity === 'f' && table.primaryKey !== 'usable') {
    const message = `table ${name} has no primary key: its rows are found by all their columns, which is slow, and equal rows cannot be told apart`;
    return say('warning', 'table_key', message, addKey(table, isGroup));
  }
  if (hasKey(table)) return;
  if (table.identity === 'n') {
    const message = `table ${name} has REPLICA IDENTITY NOTHING: its rows can be inserted, not updated or deleted`;
    const fix =
      table.primaryKey === 'usable'
        ? `ALTER TABLE ${quoted} REPLICA IDENTITY DEFAULT;${isGroup ? '  -- on every node' : ''}`
        : addKey(table, isGroup);
    return say('warning', 'table_key', message, fix);
  }
  const why =
    table.primaryKey === 'deferrable'
      ? 'a primary key that is DEFERRABLE, which does not count'
      : 'no primary key';
  const message = `table ${name} has ${why}: its rows can be inserted, not updated or deleted`;
  say('warning', 'table_key', message, addKey(table, isGroup));
}

function addKey({ name, keyCandidate, primaryKey }: DoctorTable, isGroup: boolean): string {
  const table = quoteQualified(name);
  const everywhere = isGroup ? '  -- on every node' : '';
  if (primaryKey === 'deferrable') {
    return `make the primary key of ${table} anew, NOT DEFERRABLE${isGroup ? ', on every node' : ''}`;
  }
  if (keyCandidate !== null) {
    return `ALTER TABLE ${table} REPLICA IDENTITY USING INDEX ${quoteIdent(keyCandidate)};${everywhere}`;
  }
  return isGroup
    ? // A new column would get another value on each node for the same row.
      `ALTER TABLE ${table} ADD PRIMARY KEY (…);${everywhere}, of columns that tell its rows apart`
    : `ALTER TABLE ${table} ADD COLUMN row_id uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY;`;
}

function checkUniques(table: DoctorTable, say: Say): void {
  // What would serve as the key is no second one.
  const second = hasKey(table)
    ? table.uniques
    : table.uniques.filter(({ name }) => name !== table.keyCandidate);
  if (second.length === 0) return;
  const list = second.map(
    ({ name, columns, isPartial }) => `${name} (${columns})${isPartial ? ' on some rows' : ''}`,
  );
  const outcome = hasKey(table)
    ? 'the earlier row is removed on all nodes and kept in the conflict history'
    : 'the link stops until one of the rows is changed, because the table has no key to name them by';
  say(
    'warning',
    'unique_index',
    `table ${displayName(table.name)} is unique in more than its key: ${someOf(list)}. If two nodes write the same value at once, ${outcome}`,
    'let one node alone write such values, or make the node part of them',
  );
}

function checkGeneratedKey({ name, generatedKeyColumn }: DoctorTable, say: Say): void {
  if (generatedKeyColumn === null) return;
  say(
    'error',
    'generated_key',
    `the key of table ${displayName(name)} has generated column ${generatedKeyColumn}, which is not sent: its changes cannot be applied`,
    `Give it another PRIMARY KEY or REPLICA IDENTITY.`,
  );
}

function checkExclusions({ name, exclusions }: DoctorTable, say: Say): void {
  for (const exclusion of exclusions) {
    say(
      'error',
      'exclusion_constraint',
      `table ${displayName(name)} has exclusion constraint ${exclusion}, which cannot hold over several nodes`,
      `ALTER TABLE ${quoteQualified(name)} DROP CONSTRAINT ${quoteIdent(exclusion)};`,
    );
  }
}

/** An ordinary role's table runs its code with that role's rights; a superuser's with those of a superuser. */
function checkUserCode({ table, isOwnersTrusted, places, untrusted }: UserCode, say: Say): void {
  const name = displayName(table);
  if (isOwnersTrusted && untrusted.length > 0) {
    say(
      'warning',
      'user_code',
      `table ${name} of a superuser runs code of ordinary roles, on other nodes with the rights of a superuser: ${someOf(untrusted)}. They could make themselves one`,
      `ALTER TABLE ${quoteQualified(table)} OWNER TO …;  -- a role that is no superuser; or let a superuser own that code`,
    );
  }
  if (!isOwnersTrusted && places.length > 0) {
    say(
      'note',
      'user_code',
      `table ${name} runs code when it is written: ${someOf(places)}. Peers' rows are written one by one for that, with the rights of its owner, which is slow`,
    );
  }
}

function checkSequence(sequence: DoctorSequence, { nodes, isNode }: Numbering, say: Say): void {
  const { name, table, column, type, increment, isGlobal } = sequence;
  const step = increment < 0n ? -increment : increment;
  if (isGlobal || step >= BigInt(Math.max(nodes, 2))) return;
  const kind = type === 'bigint' ? 'snowflake' : 'step';
  say(
    'warning',
    'sequence',
    `sequence ${displayName(name)} numbers ${displayName(table)}.${column} and counts by ${increment}: two nodes will give the same number to different rows`,
    increment > 0n
      ? `${isNode ? '' : '-- once this database is a node:\n'}SELECT bdr.convert_sequence(${quoteLiteral(quoteQualified(name))}, '${kind}');`
      : 'use a uuid for this column, or ranges of numbers that differ between nodes',
  );
}
