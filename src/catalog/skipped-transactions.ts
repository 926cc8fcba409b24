import { formatLsn, type Lsn } from '../base/lsn.ts';
import { quoteLiteral } from '../base/names.ts';
import { formatPgTime, type PgTime } from '../base/pg-time.ts';
import type { NodeId } from '../model/node.ts';
import type { SkipRequest } from './links.ts';

/**
 * Records that a transaction was skipped. A statement without parameters, for it must commit with the position that passes the
 * transaction: so it is recorded once, however often the agent is killed.
 */
export function recordSkippedSql(
  provider: NodeId,
  transaction: {
    readonly xid: number;
    readonly commitLsn: Lsn;
    readonly commitTime: PgTime;
    /** Null where they are not known. */
    readonly contents: { readonly changes: number; readonly tables: readonly string[] } | null;
  },
  request: SkipRequest,
): string {
  const { contents } = transaction;
  const values = [
    quoteLiteral(provider.sysid),
    provider.timeline,
    provider.dboid,
    `'${transaction.xid}'`,
    quoteLiteral(formatLsn(transaction.commitLsn)),
    quoteLiteral(formatPgTime(transaction.commitTime)),
    contents ? contents.changes : 'NULL',
    contents ? `ARRAY[${contents.tables.map(quoteLiteral).join(', ')}]::text[]` : 'NULL',
    quoteLiteral(request.by),
    quoteLiteral(request.at),
  ];
  return /* sql */ `
    INSERT INTO bdr.bdr_skipped_transactions (
        provider_sysid, provider_timeline, provider_dboid, remote_txid, remote_commit_lsn, remote_commit_time,
        nr_changes, tables, requested_by, requested_at
    )
    VALUES (${values.join(', ')})
  `;
}
