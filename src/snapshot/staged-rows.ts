import { assert } from '../base/assert.ts';
import { BdrError, messageOf } from '../base/errors.ts';
import { displayName, quoteIdent, quoteQualified } from '../base/names.ts';
import { runRestricted } from '../catalog/restricted.ts';
import { relayCopy } from '../postgres/copy-relay.ts';
import type { Session } from '../postgres/session.ts';
import { sqlstateOf } from '../postgres/sqlstate.ts';
import type { CopyPiece } from './copy-pieces.ts';
import type { CopyTable } from './copy-table.ts';
import { columnList, copyInFilter, copyOutSql, type CopyRowsOptions } from './table-copy.ts';

const STAGED = 'pg_temp.bdr_staged';

/**
 * As `copyRows`, for a table that runs code of its owner, an ordinary role: COPY would run it with the rights of this session. So
 * the rows come into a table that has nothing but columns, and go on from there by one INSERT with the rights of the owner
 * (docs/decisions/0019-users-code-in-restricted-operations.md).
 */
export async function copyStagedRows(
  source: Session,
  target: Session,
  piece: CopyPiece,
  owner: string,
  options: CopyRowsOptions,
): Promise<number> {
  const { table } = piece;
  const columns = await stagedColumns(target, table);
  const format = columns.some(({ isText }) => isText) ? 'text' : table.format;
  await target.script(
    `CREATE TEMPORARY TABLE bdr_staged (${columns.map(({ name, staged }) => `${quoteIdent(name)} ${staged}`).join(', ')}) ON COMMIT DROP`,
  );
  const [role] = await target.query<{ name: string }>('SELECT $1::oid::regrole AS name', [owner]);
  await target.script(`GRANT SELECT ON ${STAGED} TO ${role?.name ?? ''}`);
  const rows = await relayCopy(
    source,
    copyOutSql(piece, format),
    target,
    `COPY ${STAGED}${columnList(table)} FROM STDIN WITH (FORMAT ${format})${copyInFilter(table)}`,
    options,
  );
  const values = columns.map(
    ({ name, type, isText }) => `s.${quoteIdent(name)}${isText ? `::${type}` : ''}`,
  );
  const written = await asOwner(
    target,
    table,
    owner,
    `INSERT INTO ${quoteQualified(table.name)}${columnList(table)} OVERRIDING SYSTEM VALUE` +
      ` SELECT ${values.join(', ')} FROM ${STAGED} AS s`,
  );
  assert(written === rows, 'nothing that could leave rows out is there before the rows');
  return rows;
}

interface StagedColumn {
  readonly name: string;
  readonly type: string;
  /** Of the column in which its values wait. */
  readonly staged: string;
  /** They wait as text: to read one of its type may run code by itself. */
  readonly isText: boolean;
}

/** A domain's values wait as its base type's; what holds domains or rows inside of it, as text. */
async function stagedColumns(target: Session, table: CopyTable): Promise<StagedColumn[]> {
  const rows = await target.query<{ name: string; type: string; base: string; text: string }>(
    /* sql */ `
      WITH RECURSIVE columns (name, number, type, typmod, base, base_typmod) AS (
          SELECT a.attname, a.attnum, a.atttypid, a.atttypmod, a.atttypid, a.atttypmod
          FROM pg_attribute AS a
          WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
          UNION ALL
          SELECT c.name, c.number, c.type, c.typmod, t.typbasetype, t.typtypmod
          FROM columns AS c JOIN pg_type AS t ON t.oid = c.base AND t.typbasetype <> 0
      ),
      bases AS (
          SELECT c.* FROM columns AS c JOIN pg_type AS t ON t.oid = c.base AND t.typbasetype = 0
      ),
      parts (number, type) AS (
          SELECT b.number, b.base FROM bases AS b
          UNION
          SELECT p.number, part.type
          FROM parts AS p
          JOIN pg_type AS t ON t.oid = p.type
          CROSS JOIN LATERAL (
              SELECT t.typelem WHERE t.typelem <> 0
              UNION ALL SELECT g.rngsubtype FROM pg_range AS g WHERE t.oid IN (g.rngtypid, g.rngmultitypid)
          ) AS part (type)
      )
      SELECT b.name, format_type(b.type, b.typmod) AS type, format_type(b.base, b.base_typmod) AS base,
             EXISTS (
                 SELECT FROM parts AS p JOIN pg_type AS t ON t.oid = p.type
                 WHERE p.number = b.number AND t.typtype IN ('c', 'd')
             ) AS text
      FROM bases AS b
      ORDER BY b.number
    `,
    [quoteQualified(table.name)],
  );
  return rows
    .filter(({ name }) => table.columns.includes(name))
    .map(({ name, type, base, text }) => ({
      name,
      type,
      staged: text === 't' ? 'pg_catalog.text' : base,
      isText: text === 't',
    }));
}

async function asOwner(
  target: Session,
  table: CopyTable,
  owner: string,
  statement: string,
): Promise<number> {
  try {
    return Number(await runRestricted(target, owner, statement));
  } catch (error) {
    if (target.lost.aborted) throw error;
    throw new BdrError('schema_copy_failed', {
      message: `rows of table ${displayName(table.name)} could not be written with the rights of the table's owner: ${messageOf(error)}`,
      detail:
        "Rows of this table run code of its owner, so they are written with the owner's rights, in a security-restricted operation: without changes of definitions, temporary tables and the like.",
      hint: 'Grant the owner on the source what he lacks, or change the code that the table calls; the agent tries again.',
      sqlstate: sqlstateOf(error),
      cause: error,
    });
  }
}
