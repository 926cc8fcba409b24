import { textOf, type InsertChange, type RowChange } from '../pgoutput/transaction.ts';
import type { Session } from '../postgres/session.ts';

/** A row of bdr.bdr_queued_commands, as it arrives from a peer: a command that changes definitions (sql/routines/ddl.sql). */
export interface QueuedCommand {
  /** The name of the role that ran it. */
  readonly perpetrator: string;
  readonly tag: string;
  /** See the table; '' where the row before it in the transaction has the text. */
  readonly text: string;
  readonly position: number | null;
  readonly isContext: boolean;
  readonly searchPath: string;
  /** JSON objects of the session's settings, and of the values of new columns; null for none. */
  readonly settings: string;
  readonly missing: string | null;
}

/** Whether a change tells of a command. */
export function isQueuedCommand({ relation: { schema, name } }: RowChange): boolean {
  return schema === 'bdr' && name === 'bdr_queued_commands';
}

export function readQueuedCommand(change: InsertChange): QueuedCommand {
  const value = (name: string) => textOf(change, name);
  const position = value('position');
  return {
    perpetrator: value('perpetrator') ?? '',
    tag: value('command_tag') ?? '',
    text: value('command') ?? '',
    position: position === null ? null : Number(position),
    isContext: value('is_context') === 't',
    searchPath: value('search_path') ?? '',
    settings: value('settings') ?? '{}',
    missing: value('missing'),
  };
}

/** Runs a command in the caller's transaction, with the rights of its role. `text` is that of the command alone. */
export async function runQueuedCommand(
  session: Session,
  { perpetrator, searchPath, settings, missing }: QueuedCommand,
  text: string,
): Promise<void> {
  await session.query('SELECT bdr.internal_run_command($1, $2, $3, $4::jsonb)', [
    perpetrator,
    text,
    searchPath,
    settings,
  ]);
  if (missing !== null) {
    await session.query('SELECT bdr.internal_set_missing_values($1::jsonb)', [missing]);
  }
}

/** What gives a partition that is detached CONCURRENTLY the constraint that it keeps, and its owner; undefined for none. */
export async function boundsCheck(
  session: Session,
  { perpetrator, searchPath }: QueuedCommand,
  partition: string,
): Promise<{ readonly owner: string; readonly command: string } | undefined> {
  const [row] = await session.query<{ owner: string; command: string | null }>(
    'SELECT owner, command FROM bdr.internal_bounds_check($1, $2, $3)',
    [partition, searchPath, perpetrator],
  );
  return row && row.command !== null ? { owner: row.owner, command: row.command } : undefined;
}

/** Forgets commands that arrived, or were run here, longer ago than that. */
export async function purgeQueuedCommands(session: Session, retentionMs: number): Promise<void> {
  await session.run(
    `DELETE FROM bdr.bdr_queued_commands WHERE queued_at < clock_timestamp() - $1 * interval '1 ms'`,
    [retentionMs],
  );
}
