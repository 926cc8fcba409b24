import { chmodSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { BdrError, messageOf } from '../base/errors.ts';

/**
 * Copies the files of extension bdr to where CREATE EXTENSION of a server on this machine looks for them: folder `extension` of
 * what `pg_config --sharedir` prints. Returns the files written. Throws BdrError.
 */
export function copyExtensionFiles(extensionDir: string, shareDir: string): string[] {
  const target = path.join(shareDir, 'extension');
  try {
    return readdirSync(extensionDir)
      .filter((name) => /\.(control|sql)$/.test(name))
      .map((name) => {
        const file = path.join(target, name);
        const temporary = `${file}.${process.pid}.tmp`;
        // A server that reads it right now must not see half of it.
        writeFileSync(temporary, readFileSync(path.join(extensionDir, name)), { mode: 0o644 });
        chmodSync(temporary, 0o644); // whatever the umask
        renameSync(temporary, file);
        return file;
      });
  } catch (error) {
    throw new BdrError('install_failed', {
      message: `the files of extension bdr cannot be copied to ${target}: ${messageOf(error)}`,
      hint: 'DIR is what "pg_config --sharedir" of that server prints; write rights there are needed. Or install over a connection: bdr install --dsn "…"',
      cause: error,
    });
  }
}
