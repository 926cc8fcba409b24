import {
  hasNothingToDo,
  isAboutLocal,
  readLockTargets,
  type LockedTables,
} from '../catalog/lock-targets.ts';
import { firesEventTriggers, statementsAround } from '../ddl/statements-around.ts';
import type { StatementNeed } from '../ddl/lock-need.ts';
import { localTableMadeBy, lockStrength } from '../ddl/lock-strength.ts';
import type { AskedCommand, CommandPlace, LockNeed } from '../model/global-lock.ts';
import type { Session } from '../postgres/session.ts';

/** What a command that is about to run is told. */
export type CommandNeed =
  /** It changes nothing that other nodes have. */
  | { readonly kind: 'nothing' }
  /** Its role may not hold up these tables. */
  | { readonly kind: 'forbidden' }
  | {
      readonly kind: 'lock';
      readonly need: LockNeed;
      /** Tables of the write_lock that its transaction has locked before it asked. */
      readonly locked: NonNullable<LockNeed['tables']>;
    };

/** Tables of which nothing is known: all that there are, for who owns them all. */
const EVERYTHING: StatementNeed = {
  about: [],
  targets: [{ kind: 'everything' }],
  mayBeMajority: false,
};

/**
 * What a command needs of the other nodes, together with all that is in one text with it: they run in one transaction, and what the
 * first has locked must not hold up what a later one asks for. Names are looked up as others see the tables.
 */
export async function commandNeed(session: Session, command: AskedCommand): Promise<CommandNeed> {
  const text = await readText(command);
  const { place, unsure } = text;
  const needs: StatementNeed[] = [];
  for (const need of text.needs) {
    const isLocal =
      need.about.length > 0 && (await isAboutLocal(session, need.about, place, unsure));
    const isIdle = need.unless !== undefined && (await hasNothingToDo(session, need.unless, place));
    if (!isLocal && !isIdle) needs.push(need);
  }
  if (needs.length === 0) return { kind: 'nothing' };
  const targets = needs.flatMap((need) => need.targets);
  const found: LockedTables =
    targets.length > 0
      ? await readLockTargets(session, targets, place)
      : { tables: [], locked: [], isAllowed: true };
  if (!found.isAllowed) return { kind: 'forbidden' };
  const tables = targets.some(({ kind }) => kind === 'everything') ? null : found.tables;
  const isWrite = tables === null || tables.length > 0;
  return {
    kind: 'lock',
    need: {
      mode: isWrite ? 'write_lock' : 'ddl_lock',
      tables,
      mayBeMajority: !isWrite && needs.every(({ mayBeMajority }) => mayBeMajority),
    },
    locked: found.locked,
  };
}

/**
 * What the statements of a command's text need, and where its names are to be looked up. Of several statements one may make or drop what
 * another names: then the names of temporary tables are not certain.
 */
async function readText(command: AskedCommand): Promise<{
  readonly needs: StatementNeed[];
  readonly place: CommandPlace;
  readonly unsure: readonly string[];
}> {
  const { text, isContext, place } = command;
  const statements = text === null ? [] : await statementsAround(text, isContext);
  const commands = statements.filter(firesEventTriggers);
  if (commands.length === 0) return { needs: [EVERYTHING], place, unsure: [] };
  const isOne = statements.length === 1;
  const needs = commands.flatMap(
    (node) => lockStrength(node, { isAlone: command.isAlone && isOne }) ?? [],
  );
  if (isOne) return { needs, place, unsure: [] };
  const madeHere = commands.flatMap((node) => localTableMadeBy(node) ?? []);
  return {
    needs,
    place: { ...place, temporary: [] },
    unsure: [...place.temporary, ...madeHere],
  };
}
