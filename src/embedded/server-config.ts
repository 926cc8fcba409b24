import { readFileSync } from 'node:fs';
import path from 'node:path';
import { giveTo } from './account.ts';
import type { Account } from './account.ts';
import type { Binaries } from './binaries.ts';
import { formatSettings, loopbackSettings, replicationSettings } from './conf.ts';
import type { ServerSettings } from './conf.ts';
import type { ServerFiles } from './data-directory.ts';
import { makePublicDirectory, placeExtension, replaceFile } from './extension.ts';

/** What a caller may choose about a server, given anew at each create or open. */
export interface ServerConfig {
  /** Over those that replication needs. */
  readonly settings?: ServerSettings | undefined;
  /** The whole of pg_hba.conf in place of initdb's. */
  readonly hba?: string | undefined;
  /** A directory that holds an extension's control and SQL files, for CREATE EXTENSION. */
  readonly extensionDir?: string | undefined;
  /** A certificate and its key, PEM: the server then takes TLS connections too. */
  readonly tls?: { readonly certFile: string; readonly keyFile: string } | undefined;
}

/**
 * Writes the configuration, at every start: the port may have changed, and so may the extension's files, which a new build
 * brings.
 */
export function writeServerConfig(
  binaries: Binaries,
  files: ServerFiles,
  account: Account | undefined,
  config: ServerConfig,
  port: number,
): void {
  const { settings = {}, hba, extensionDir, tls } = config;
  const placed: ServerSettings[] = [];
  if (extensionDir !== undefined) placed.push(placeExtension(binaries, extensionDir, files.share));
  if (hba !== undefined) {
    replaceFile(files.hba, hba, 0o644);
    placed.push({ hba_file: files.hba });
  }
  if (tls) placed.push(placeCertificate(files, account, tls));
  const needed = replicationSettings(binaries.major);
  const text = formatSettings(needed, ...placed, settings, loopbackSettings(port));
  replaceFile(files.settings, text, 0o644);
}

function placeCertificate(
  files: ServerFiles,
  account: Account | undefined,
  { certFile, keyFile }: NonNullable<ServerConfig['tls']>,
): ServerSettings {
  makePublicDirectory(files.tls);
  const place = (name: string, source: string) => {
    const target = path.join(files.tls, name);
    replaceFile(target, readFileSync(source), 0o600);
    giveTo(target, account);
    return target;
  };
  return {
    ssl: true,
    ssl_cert_file: place('server.crt', certFile),
    ssl_key_file: place('server.key', keyFile),
  };
}
