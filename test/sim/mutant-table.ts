import { MUTANTS, type MutantName } from '../support/sim/mutants.ts';
import { switchFlags, type Switches } from '../support/sim/switches.ts';
import { KNOWN_ORDERS, type KnownOrder } from './known-orders.ts';
import { knownSeeds } from './known-seeds.ts';

/** What such a run is begun with. */
function flagsOf(known: Switches): string {
  return switchFlags(known)
    .map((flag) => `, \`${flag}\``)
    .join('');
}

/** What users do in an order, and its turns; a row of Markdown has no room for "|". */
function orderOf({ users, turns }: KnownOrder): string {
  const nodes = users.map((list) => list.join(', ') || 'nothing').join(' ∥ ');
  return `order of *${nodes}*: ${turns}`;
}

function found(name: MutantName): string {
  const seed = knownSeeds()[name];
  if (seed) {
    const nodes = seed.nodes === undefined ? '' : ` with ${seed.nodes} nodes`;
    return `${seed.check} | ${seed.seed}${nodes}${flagsOf(seed)}`;
  }
  const order = KNOWN_ORDERS[name];
  return order ? `${order.check} | ${orderOf(order)}` : 'not noticed, see below | ';
}

/** The table of docs/concepts/simulation.md, in Markdown. */
export function mutantTable(): string {
  const rows = MUTANTS.map(({ name, rule }) => `| ${rule} | ${name} | ${found(name)} |`);
  return [
    '| rule | without it | what is noticed | seed, or order |',
    '|---|---|---|---|',
    ...rows,
  ].join('\n');
}
