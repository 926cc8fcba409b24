import type { ScopeResult } from '../support/sim/exhaustive.ts';
import type { MutantName } from '../support/sim/mutants.ts';
import type { NamedScope } from './scopes.ts';
import { Thread } from './thread.ts';

export interface ScopeTask extends NamedScope {
  readonly mutant: MutantName | undefined;
}

export interface TriedScope extends Omit<ScopeResult, 'ends'> {
  readonly name: string;
}

/**
 * Tries one scope after the other in so many threads, and tells of each. Ends when `isOver` says so, or with the first failure; what is
 * begun by then is ended. Says how many were begun.
 */
export async function tryScopes(
  scopes: readonly NamedScope[],
  threads: number,
  mutant: MutantName | undefined,
  told: (tried: TriedScope) => void,
  isOver: () => boolean,
): Promise<number> {
  let next = 0;
  let hasFailed = false;
  const work = async () => {
    await using thread = new Thread<ScopeTask, TriedScope>('scope-worker.js');
    while (!hasFailed && !isOver()) {
      const scope = scopes[next];
      if (!scope) return;
      next += 1;
      const tried = await thread.run({ ...scope, mutant });
      if (tried.failure) hasFailed = true;
      told(tried);
    }
  };
  await Promise.all(Array.from({ length: threads }, work));
  return next;
}
