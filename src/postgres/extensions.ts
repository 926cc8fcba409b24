import type { Session } from './session.ts';

/** An extension as the server and the session's database know it. */
export interface ExtensionState {
  /** The version in this database; null where it is not created. */
  readonly installed: string | null;
  /** The version that CREATE EXTENSION would make; null where the server does not have its files. */
  readonly available: string | null;
}

export async function readExtension(session: Session, name: string): Promise<ExtensionState> {
  const [row] = await session.query<{ installed: string | null; available: string | null }>(
    /* sql */ `
      SELECT (SELECT extversion FROM pg_extension WHERE extname = $1) AS installed,
             (SELECT default_version FROM pg_available_extensions WHERE name = $1) AS available
    `,
    [name],
  );
  return { installed: row?.installed ?? null, available: row?.available ?? null };
}
