import type { HandlerState, PolicyState } from '../catalog/policy-states.ts';
import { displayName, quoteLiteral, quoteQualified, type QualifiedName } from '../base/names.ts';
import { findings, someOf, type Finding, type Say } from './finding.ts';

/** Checks whether what is set for the conflicts of tables can do something on this node. */
export function checkPolicies(policies: readonly PolicyState[]): Finding[] {
  return findings('node', (say) => {
    for (const policy of policies) checkPolicy(policy, say);
  });
}

function checkPolicy(state: PolicyState, say: Say): void {
  const { table, policy, unknownNodes } = state;
  const name = displayName(table);
  if (!state.isHere) {
    const message = `conflict policy ${policy} is set for ${name}, which is no table here: policies belong to names`;
    const key = `(${quoteLiteral(table.schema)}, ${quoteLiteral(table.name)})`;
    const fix =
      `-- make the table again, or, on one node:\n` +
      `DELETE FROM bdr.bdr_conflict_handlers WHERE (ch_schema, ch_table) = ${key};\n` +
      `DELETE FROM bdr.conflict_policy WHERE (schema_name, table_name) = ${key};`;
    return say('warning', 'conflict_policy', message, fix);
  }
  if (!state.hasKey) {
    const message = `table ${name} has no primary key that is checked at once any more: its conflict policy ${policy} does nothing`;
    return say(
      'error',
      'conflict_policy',
      message,
      `-- on every node: add a PRIMARY KEY to ${name}`,
    );
  }
  if (!state.tellsOldRows) {
    const message = `table ${name} has not REPLICA IDENTITY FULL: peers cannot tell what the writers of its changes knew, and its conflict policy ${policy} takes them for concurrent`;
    say(
      'error',
      'conflict_policy',
      message,
      `ALTER TABLE ${quoteQualified(table)} REPLICA IDENTITY FULL;`,
    );
  }
  if (unknownNodes.length > 0) {
    const message = `conflict policy ${policy} of table ${name} names nodes that are no members: ${someOf(unknownNodes)}`;
    say('note', 'conflict_policy', message);
  }
  checkHandlers(state, say);
}

function checkHandlers({ table, policy, handlers }: PolicyState, say: Say): void {
  const name = displayName(table);
  if (policy === 'handler' && handlers.length === 0) {
    const message = `table ${name} has conflict policy handler and no handler: the later write wins`;
    say('note', 'conflict_handler', message);
  }
  if (policy !== 'handler' && handlers.length > 0) {
    const names = someOf(handlers.map((handler) => handler.name));
    const message = `handlers of table ${name} are not asked, because its conflict policy is ${policy}: ${names}`;
    const fix = `SELECT bdr.bdr_set_conflict_policy(${quoteLiteral(quoteQualified(table))}, 'handler');`;
    return say('warning', 'conflict_handler', message, fix);
  }
  for (const handler of handlers) checkHandler(table, handler, say);
}

/** Why a handler would stop a link of this node as soon as it is asked, and what helps. */
function checkHandler(
  table: QualifiedName,
  { name, signature, state }: HandlerState,
  say: Say,
): void {
  if (state === 'usable') return;
  const shown = displayName(table);
  const drop = `SELECT bdr.bdr_drop_conflict_handler(${quoteLiteral(quoteQualified(table))}, ${quoteLiteral(name)});`;
  const [why, fix] = {
    missing: [
      'does not exist on this node',
      `make the function here, as on the other nodes, or: ${drop}`,
    ],
    unfit: [
      'has not the arguments of a conflict handler of the table',
      `make the function anew, or: ${drop}`,
    ],
    not_owners: [
      'has an owner whose rights the owner of the table has not, on this node',
      `ALTER FUNCTION ${signature} OWNER TO …;  -- the owner of ${shown}`,
    ],
  }[state] as [string, string];
  const message = `conflict handler ${name} of table ${shown}: function ${signature} ${why}. The next conflict stops the link that brings it`;
  say('error', 'conflict_handler', message, fix);
}
