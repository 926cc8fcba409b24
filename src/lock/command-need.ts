import { isAboutLocal, readLockTargets, type LockedTables } from '../catalog/lock-targets.ts';
import { firesEventTriggers, statementsAround } from '../ddl/statements-around.ts';
import { localTableMadeBy, lockStrength, type StatementNeed } from '../ddl/lock-strength.ts';
import type { AskedCommand, LockNeed } from '../model/global-lock.ts';
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
  const place = {
    ...command.place,
    temporary: [...command.place.temporary, ...text.madeHere],
  };
  const needs: StatementNeed[] = [];
  for (const need of text.needs) {
    const isLocal = need.about.length > 0 && (await isAboutLocal(session, need.about, place));
    if (!isLocal) needs.push(need);
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

/** What the statements of a command's text need, and the tables that they make on this node only. */
async function readText({ text, isContext, isAlone }: AskedCommand): Promise<{
  needs: StatementNeed[];
  madeHere: string[];
}> {
  const statements = text === null ? [] : await statementsAround(text, isContext);
  const commands = statements.filter(firesEventTriggers);
  if (commands.length === 0) return { needs: [EVERYTHING], madeHere: [] };
  const place = { isAlone: isAlone && statements.length === 1 };
  return {
    needs: commands.flatMap((node) => lockStrength(node, place) ?? []),
    madeHere: commands.flatMap((node) => localTableMadeBy(node) ?? []),
  };
}
