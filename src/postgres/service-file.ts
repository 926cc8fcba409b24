import { existsSync, readFileSync } from 'node:fs';
import { isKeyword, type ConninfoValues } from './conninfo-keywords.ts';
import { invalidDsn } from './conninfo-token.ts';

/** Where services are defined: the user's file, named by the environment or not, and the one of the whole system. */
export interface ServiceFiles {
  readonly userFile: string;
  /** The user's file was asked for by PGSERVICEFILE, so it must be there. */
  readonly userFileNamed: boolean;
  readonly systemFile: string;
}

/**
 * The connection parameters of a service (manual, "The Connection Service File"): from the user's file, or else from the
 * system's. Throws BdrError `invalid_dsn` where neither defines it or its definition cannot be read.
 */
export function readService(name: string, files: ServiceFiles): ConninfoValues {
  if (files.userFileNamed && !existsSync(files.userFile)) {
    throw invalidDsn(`service file "${files.userFile}" not found`);
  }
  for (const file of [files.userFile, files.systemFile]) {
    const values = existsSync(file) ? serviceOf(readText(file), name, file) : undefined;
    if (values) return values;
  }
  throw invalidDsn(
    `definition of service "${name}" not found`,
    `Define it as [${name}] in ${files.userFile} or ${files.systemFile}.`,
  );
}

/** The service's section of a file's text; undefined where there is none. `file` is for messages. */
export function serviceOf(text: string, name: string, file: string): ConninfoValues | undefined {
  let values: ConninfoValues | undefined;
  for (const [index, untrimmed] of text.split('\n').entries()) {
    const line = untrimmed.trim();
    if (line === '' || line.startsWith('#')) continue;
    if (line.startsWith('[')) {
      if (values) return values;
      if (line.startsWith(`[${name}]`)) values = {};
      continue;
    }
    if (!values) continue;
    const where = `service file "${file}", line ${index + 1}`;
    if (/^ldaps?:/.test(line)) throw invalidDsn(`LDAP lookup is not supported in ${where}`);
    const separator = line.indexOf('=');
    const keyword = line.slice(0, separator);
    if (separator < 0 || !isKeyword(keyword)) throw invalidDsn(`syntax error in ${where}`);
    if (keyword === 'service') {
      throw invalidDsn(`nested service specifications not supported in ${where}`);
    }
    values[keyword] ??= line.slice(separator + 1);
  }
  return values;
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw invalidDsn(`could not read service file "${file}": ${(cause as Error).message}`);
  }
}
