import { readFileSync, statSync } from 'node:fs';

/** What a password file is asked for: the line must match all four. */
export interface PasswordRequest {
  /** Any of these names counts as the host. */
  readonly hosts: readonly string[];
  readonly port: number;
  readonly database: string;
  readonly user: string;
}

/**
 * The password that a password file gives (manual, "The Password File"): of its first line that matches. A file that others may
 * read is not used, which `warn` is told in libpq's words; one that is not there gives nothing.
 */
export function readPassword(
  file: string,
  request: PasswordRequest,
  warn: (warning: string) => void,
): string | undefined {
  const status = statSync(file, { throwIfNoEntry: false });
  if (!status) return undefined;
  if (!status.isFile()) {
    warn(`password file "${file}" is not a plain file`);
    return undefined;
  }
  if (process.platform !== 'win32' && (status.mode & 0o077) !== 0) {
    warn(
      `password file "${file}" has group or world access; permissions should be u=rw (0600) or less`,
    );
    return undefined;
  }
  try {
    return passwordOf(readFileSync(file, 'utf8'), request);
  } catch (error) {
    warn(`password file "${file}" could not be read: ${(error as Error).message}`);
    return undefined;
  }
}

/** The password in a file's text: `host:port:database:user:password`, `*` for any, backslash before a `:` or `\` of a value. */
export function passwordOf(text: string, request: PasswordRequest): string | undefined {
  for (const untrimmed of text.split('\n')) {
    const line = untrimmed.replace(/\r+$/, '');
    if (line === '' || line.startsWith('#')) continue;
    const wanted = [request.hosts, [String(request.port)], [request.database], [request.user]];
    let rest: string | undefined = line;
    for (const values of wanted) rest = rest === undefined ? undefined : afterField(rest, values);
    if (rest !== undefined) return rest.replace(/\\(.)/gsu, '$1');
  }
  return undefined;
}

/** What follows the line's first field, if that is `*` or one of the values. */
function afterField(line: string, values: readonly string[]): string | undefined {
  const match = /^((?:[^:\\]|\\.)*):/su.exec(line);
  if (!match) return undefined;
  const field = match[1] as string;
  const matches = field === '*' || values.includes(field.replace(/\\(.)/gsu, '$1'));
  return matches ? line.slice(match[0].length) : undefined;
}
