import { MUTANTS } from '../support/sim/mutants.ts';
import { switchFlags, type Switches } from '../support/sim/switches.ts';
import { knownSeeds } from './known-seeds.ts';

/** What such a run is begun with. */
function flagsOf(known: Switches): string {
  return switchFlags(known)
    .map((flag) => `, \`${flag}\``)
    .join('');
}

/** The table of docs/concepts/simulation.md, in Markdown. */
export function mutantTable(): string {
  const seeds = knownSeeds();
  const rows = MUTANTS.map(({ name, rule }) => {
    const known = seeds[name];
    const found = known
      ? `${known.check} | ${known.seed}${known.nodes === undefined ? '' : ` with ${known.nodes} nodes`}${flagsOf(known)}`
      : 'not found, see below | ';
    return `| ${rule} | ${name} | ${found} |`;
  });
  return ['| rule | without it | what is noticed | seed |', '|---|---|---|---|', ...rows].join(
    '\n',
  );
}
