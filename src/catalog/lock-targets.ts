import type { QualifiedName } from '../base/names.ts';
import { textArray } from '../base/text-array.ts';
import type { LockTarget, StatementNeed } from '../ddl/lock-need.ts';
import type { WrittenName } from '../ddl/written-name.ts';
import type { CommandPlace } from '../model/global-lock.ts';
import type { Session } from '../postgres/session.ts';

/**
 * Whether all that a command is about is only on this node. `unsure`: names of temporary and unlogged tables that may be there or not
 * when it runs.
 */
export async function isAboutLocal(
  session: Session,
  about: readonly WrittenName[],
  { path, temporary, locked }: CommandPlace,
  unsure: readonly string[],
): Promise<boolean> {
  const [row] = await session.query<{ local: string }>(
    'SELECT bdr.internal_is_about_local($1::jsonb, $2::text[], $3::text[], $4::text[], $5::jsonb) AS local',
    [
      JSON.stringify(about),
      textArray(path),
      textArray(temporary),
      textArray(unsure),
      JSON.stringify(locked),
    ],
  );
  return row?.local === 't';
}

/** Whether a command has nothing to do, because what it makes is there, or what it drops is not. */
export async function hasNothingToDo(
  session: Session,
  { kind, names, present }: NonNullable<StatementNeed['unless']>,
  { path, temporary, locked }: CommandPlace,
): Promise<boolean> {
  const [row] = await session.query<{ all: string }>(
    'SELECT bdr.internal_are_all($1, $2::jsonb, $3, $4::text[], $5::text[], $6::jsonb) AS all',
    [
      kind,
      JSON.stringify(names),
      present,
      textArray(path),
      textArray(temporary),
      JSON.stringify(locked),
    ],
  );
  return row?.all === 't';
}

/** The tables that a command needs the write_lock for. */
export interface LockedTables {
  readonly tables: QualifiedName[];
  /** Of these, what its transaction has locked already. */
  readonly locked: QualifiedName[];
  /** The role may do to them what needs the lock. */
  readonly isAllowed: boolean;
}

export async function readLockTargets(
  session: Session,
  targets: readonly LockTarget[],
  { role, path, temporary, locked }: CommandPlace,
): Promise<LockedTables> {
  const rows = await session.query<{
    schema: string | null;
    name: string | null;
    is_locked: string | null;
  }>(
    /* sql */ `
      SELECT t.schema, t.name, t.is_locked
      FROM bdr.internal_lock_targets($1::jsonb, $2::text[], $3::text[], $4::jsonb, $5) AS t
    `,
    [JSON.stringify(targets), textArray(path), textArray(temporary), JSON.stringify(locked), role],
  );
  const found = rows.flatMap(({ schema, name, is_locked: isLocked }) =>
    schema === null || name === null ? [] : [{ schema, name, isLocked: isLocked === 't' }],
  );
  const named = ({ schema, name }: QualifiedName) => ({ schema, name });
  return {
    tables: found.map(named),
    locked: found.filter(({ isLocked }) => isLocked).map(named),
    isAllowed: found.length === rows.length,
  };
}
