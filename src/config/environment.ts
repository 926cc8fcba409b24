import { homedir, userInfo } from 'node:os';

/** What connection strings may take from outside: libpq's PG* variables, the files in the home directory, the user's name. */
export interface Environment {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly homeDir: string;
  /** Name of the operating system's user; empty where it has none. */
  readonly userName: string;
}

/** The environment of this process, as it is now. */
export function readEnvironment(): Environment {
  return { env: { ...process.env }, homeDir: homedir(), userName: osUserName() };
}

/** A container may run under a user id that has no name. */
function osUserName(): string {
  try {
    return userInfo().username;
  } catch {
    return '';
  }
}
