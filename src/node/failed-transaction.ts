import { BdrError } from '../base/errors.ts';
import { formatLsn } from '../base/lsn.ts';
import { quoteLiteral } from '../base/names.ts';
import type { FailedTransaction } from '../catalog/links.ts';
import type { NodeId } from '../model/node.ts';
import type { StreamError } from '../postgres/replication-session.ts';
import { SQLSTATE, sqlstateOf } from '../postgres/sqlstate.ts';
import type { ErrorReport } from './describe-error.ts';

/** Connections, rollbacks for others' sake, resources, operators, the system: another try may do, and nothing is wrong with what was sent. */
const FAULTS_OF_OTHERS = ['08', '40', '53', '57', '58'];

/** The provider cannot send a transaction: it would meet the same error each time. */
export class UnsentTransaction extends BdrError {
  /** Undefined where it was to come in chunks: then its commit is not known yet. */
  readonly transaction: FailedTransaction | undefined;

  constructor(provider: string, cause: StreamError, transaction: FailedTransaction | undefined) {
    const what = transaction ? `transaction ${transaction.xid}` : 'a transaction';
    super('not_sent', {
      message: `node ${provider} cannot send ${what}: ${cause.message}`,
      detail: cause.detail,
      hint: `What it cannot send is in the log of node ${provider}: it does not help to change the row there now.`,
      sqlstate: cause.code,
      cause,
    });
    this.transaction = transaction;
  }
}

/** Whether an error met on applying a transaction comes from what is in it, so that it will come again. */
export function isFaultOfTransaction(error: unknown): boolean {
  if (error instanceof BdrError) return error.code === 'apply_failed' || error.code === 'not_sent';
  const state = sqlstateOf(error);
  if (state === undefined || state === SQLSTATE.lockNotAvailable) return false;
  return !FAULTS_OF_OTHERS.includes(state.slice(0, 2));
}

/** Says with which call the transaction can be skipped. */
export function withSkipHint(
  report: ErrorReport,
  failed: FailedTransaction | null,
  { sysid, timeline, dboid }: NodeId,
): ErrorReport {
  if (!failed) return report;
  const call = `SELECT bdr.skip_changes_upto(${quoteLiteral(sysid)}, ${timeline}, ${dboid}, '${formatLsn(failed.commitLsn)}');`;
  const skip = `Or skip transaction ${failed.xid}, which leaves the nodes different: SET bdr.permit_unsafe_ddl_commands = on; ${call}`;
  return { ...report, hint: report.hint === null ? skip : `${report.hint} ${skip}` };
}
