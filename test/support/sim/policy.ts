import { keepsLost, type TablePolicy } from '../../../src/conflict/policy.ts';
import type { Decision } from '../../../src/conflict/decide.ts';
import type { Version } from '../../../src/conflict/version.ts';
import type { Row } from './transaction.ts';

/** What goes wrong on purpose, to see that it is noticed. */
export type PolicyMutant =
  /** The plain form: each node decides by the policy when a change arrives. */
  | 'decided where the change is applied'
  /** What heartbeats do not tell a writer has not seen. */
  | 'by heartbeats alone'
  /** Deletions of tables with a policy are forgotten as those of others. */
  | 'deletions forgotten as without a policy'
  /** Whatever stands in the row's place by the time the policy is asked. */
  | 'whatever stands by then'
  /** What was noted and what is written again are two transactions. */
  | 'note taken away before the row is written';

/** The table of a run has a conflict policy. */
export interface PolicyRun {
  readonly policy: TablePolicy;
  readonly mutant?: PolicyMutant | undefined;
}

/** Nodes of a run go by their numbers. */
export function nameOfNode(index: number): string {
  return String(index);
}

/** Of the mutant: what last update wins has decided, the other way round where the policy prefers that. */
export function decidedByPolicy(
  { policy }: PolicyRun,
  decided: Decision,
  local: { readonly row: Row | undefined; readonly version: Version | undefined },
  remote: { readonly isDeletion: boolean; readonly version: Version },
): Decision {
  const { version } = local;
  if (policy.name === 'handler' || !decided.conflict || !version) return decided;
  const here = { node: nameIn(version), isDeletion: local.row === undefined };
  const there = { node: nameIn(remote.version), isDeletion: remote.isDeletion };
  const isLoss = decided.action === 'skip';
  const [lost, standing] = isLoss ? [there, here] : [here, there];
  if (!keepsLost(policy, lost, standing)) return decided;
  if (!isLoss) return { ...decided, action: 'skip' };
  return { ...decided, action: local.row || remote.isDeletion ? 'apply' : 'as-insert' };
}

function nameIn({ writer }: Version): string {
  return nameOfNode((writer.sequence ?? 1) - 1);
}
