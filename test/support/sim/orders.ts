import type { MutantName } from './mutants.ts';
import { BLOCKED, Scene } from './scene.ts';
import type { Scope } from './scope.ts';
import { Violation, type CheckName } from './world.ts';

/**
 * Takes the turns of that name, one after the other, then lets all that is left happen; says what goes wrong. One with "…" behind is taken
 * as long as it is there.
 */
export function tryOrder(
  scope: Scope,
  turns: readonly string[],
  mutant?: MutantName,
): CheckName | undefined {
  const scene = new Scene(scope, mutant);
  try {
    for (const name of turns) takeNamed(scene, name);
    scene.drain();
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    return error.check;
  }
  return undefined;
}

function takeNamed(scene: Scene, name: string): void {
  const find = (wanted: string) => scene.turns().find((one) => one.name === wanted);
  if (name.endsWith(' …')) {
    for (let turn; (turn = find(name.slice(0, -2)));) scene.take(turn);
    return;
  }
  const turn = find(name);
  if (!turn) throw new Error(`there is no turn "${name}"`);
  try {
    scene.take(turn);
  } catch (error) {
    // With the rule it waits for a lock, and goes on when others have.
    if (error !== BLOCKED) throw error;
  }
}
