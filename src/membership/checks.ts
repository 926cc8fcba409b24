import { BdrError } from '../base/errors.ts';
import type { ServerFacts } from '../postgres/server-facts.ts';

/** Settings without which a server cannot be a node: throws for the first that is missing. `who` names the server. */
export function requireReplicationSettings(facts: ServerFacts, who: string): void {
  if (facts.walLevel !== 'logical') {
    throw new BdrError('server_not_ready', {
      message: `${who}: wal_level is "${facts.walLevel}", replication needs "logical"`,
      hint: `ALTER SYSTEM SET wal_level = 'logical'; then restart that server.`,
    });
  }
  if (!facts.trackCommitTimestamp) {
    throw new BdrError('server_not_ready', {
      message: `${who}: track_commit_timestamp is off, conflicts could not be resolved`,
      hint: 'ALTER SYSTEM SET track_commit_timestamp = on; then restart that server.',
    });
  }
  if (facts.major < 14) {
    throw new BdrError('version_mismatch', {
      message: `${who}: PostgreSQL ${facts.version} is too old, 14 is the oldest that works`,
    });
  }
}

/** Room for `slots` more replication slots and senders, one for each peer, and for so many more `origins`. */
export function requireRoom(facts: ServerFacts, who: string, slots: number, origins: number): void {
  const lacks = (setting: string, used: number, max: number, more = slots) =>
    new BdrError('too_few_slots', {
      message: `${who}: ${setting} leaves no room (${used} of ${max} in use, ${more} more needed)`,
      hint: `ALTER SYSTEM SET ${setting} = ${Math.max(used + more, max) + 10}; then restart that server.`,
    });
  if (facts.usedSlots + slots > facts.maxSlots) {
    throw lacks('max_replication_slots', facts.usedSlots, facts.maxSlots);
  }
  if (facts.usedSenders + slots > facts.maxSenders) {
    throw lacks('max_wal_senders', facts.usedSenders, facts.maxSenders);
  }
  if (facts.usedOrigins + origins > facts.maxOrigins) {
    const setting = facts.major < 18 ? 'max_replication_slots' : 'max_active_replication_origins';
    throw lacks(setting, facts.usedOrigins, facts.maxOrigins, origins);
  }
}

/** The versions of bdr on both sides must know each other; texts as BDR's. */
export function requireCompatible(local: ServerFacts, remote: ServerFacts): void {
  if (
    local.bdrVersion === null ||
    local.bdrMinRemoteVersion === null ||
    remote.bdrVersion === null ||
    remote.bdrMinRemoteVersion === null
  ) {
    throw new BdrError('invalid_membership', {
      message: 'remote node does not appear to be a fully running BDR node',
      detail: 'It has no extension bdr.',
      hint: 'Check join_using_dsn: it must lead to the database of a node that is ready.',
    });
  }
  if (remote.bdrVersion < local.bdrMinRemoteVersion) {
    throw new BdrError('version_mismatch', {
      message: "remote node's BDR version is too old",
      detail: `It has ${remote.bdrVersion}; this node needs at least ${local.bdrMinRemoteVersion}.`,
      hint: 'Upgrade the remote node first.',
    });
  }
  if (local.bdrVersion < remote.bdrMinRemoteVersion) {
    throw new BdrError('version_mismatch', {
      message: "remote node's BDR version is too new or this node's version is too old",
      detail: `This node has ${local.bdrVersion}; the remote node needs at least ${remote.bdrMinRemoteVersion}.`,
      hint: 'Upgrade this node first.',
    });
  }
  if (local.encoding !== remote.encoding) {
    throw new BdrError('target_not_suitable', {
      message: `database encodings differ: ${local.encoding} here, ${remote.encoding} on the remote node`,
      hint: 'Create this database with the same ENCODING.',
    });
  }
}
