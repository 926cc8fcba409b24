/** `error` must be mended, `warning` should be, `note` is good to know. */
export type FindingLevel = 'ok' | 'note' | 'warning' | 'error';

/** What the doctor says of one thing. */
export interface Finding {
  /** Which check it is of, for programs: `wal_level`, `table_key` … */
  readonly check: string;
  readonly about: 'server' | 'database' | 'node';
  readonly level: FindingLevel;
  readonly message: string;
  /** SQL, a setting or a command that mends it, one a line; null where there is none. */
  readonly fix: string | null;
}

export type Say = (
  level: FindingLevel,
  check: string,
  message: string,
  fix?: string | null,
) => void;

/** Collects the findings about one subject. */
export function findings(about: Finding['about'], examine: (say: Say) => void): Finding[] {
  const found: Finding[] = [];
  examine((level, check, message, fix = null) => found.push({ about, check, level, message, fix }));
  return found;
}

/** `a, b, c and 4 more` */
export function someOf(names: readonly string[], most = 5): string {
  const shown = names.slice(0, most).join(', ');
  return names.length > most ? `${shown} and ${names.length - most} more` : shown;
}
