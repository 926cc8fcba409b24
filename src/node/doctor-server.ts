import { quoteIdent } from '../base/names.ts';
import type { DoctorServerFacts, SettingName } from '../postgres/doctor-facts.ts';
import type { ServerBasics } from '../postgres/server-basics.ts';
import { findings, someOf, type Finding, type Say } from './finding.ts';

export const OLDEST_MAJOR = 14;

/** A server, as far as taking part in a group asks. */
export interface ServerToCheck {
  readonly basics: ServerBasics;
  /** Null where they cannot be read: the server is too old, or the role is no superuser. */
  readonly facts: DoctorServerFacts | null;
  /** Why a replication connection was refused; null if it was let in. */
  readonly replicationFailure: string | null;
  /** The database is a node already, so what is in use includes its peers. */
  readonly active: boolean;
}

const RESTART = '-- then restart the server';
const RELOAD = 'SELECT pg_reload_conf();';
/** An agent tells each provider how far it is every five seconds. */
const LEAST_SENDER_TIMEOUT_MS = 10_000;
/** Connections of an agent for itself, and of all agents for one peer, on one server. */
const OWN_SESSIONS = 5;
const PEER_SESSIONS = 3;

/** Checks a server's version, the role's rights, the settings and who is let in. */
export function checkServer(server: ServerToCheck): Finding[] {
  return findings('server', (say) => {
    const { basics, facts } = server;
    if (basics.major < OLDEST_MAJOR) {
      const wanted = `${OLDEST_MAJOR} is the oldest that works`;
      return say('error', 'version', `PostgreSQL ${basics.version} is too old, ${wanted}`);
    }
    say('ok', 'version', `PostgreSQL ${basics.version}`);
    if (basics.inRecovery) {
      const message = 'the server is a standby, which takes no writes';
      say('error', 'standby', message, 'connect to its primary');
    }
    checkRole(basics, say);
    if (facts) {
      checkNeeded(facts, say);
      checkRoom(facts, server.active, say);
      checkTaste(facts, say);
      checkAccess(facts, say);
    }
    if (server.replicationFailure === null) {
      say('ok', 'replication_connection', 'replication connections are let in');
    } else {
      say(
        'error',
        'replication_connection',
        `a replication connection was refused: ${server.replicationFailure}`,
        'pg_hba.conf must let the role in, max_wal_senders must have room, and no connection pooler may stand between',
      );
    }
  });
}

function checkRole({ superuser, user }: ServerBasics, say: Say): void {
  if (superuser) return say('ok', 'superuser', `role "${user}" is a superuser`);
  const fix = `ALTER ROLE ${quoteIdent(user)} SUPERUSER;  -- or connect as another role`;
  say('error', 'superuser', `role "${user}" is not a superuser: most checks are left out`, fix);
}

/** Settings without which nothing works. */
function checkNeeded({ settings }: DoctorServerFacts, say: Say): void {
  if (settings.wal_level === 'logical') say('ok', 'wal_level', 'wal_level is logical');
  else {
    const message = `wal_level is ${settings.wal_level ?? 'unknown'}, replication needs logical`;
    say('error', 'wal_level', message, `${alter('wal_level', 'logical')}  ${RESTART}`);
  }
  if (settings.track_commit_timestamp === 'on') {
    say('ok', 'track_commit_timestamp', 'track_commit_timestamp is on');
  } else {
    say(
      'error',
      'track_commit_timestamp',
      'track_commit_timestamp is off: conflicts could not be resolved',
      `${alter('track_commit_timestamp', 'on')}  ${RESTART}`,
    );
  }
}

/** Room for at least one more peer, and for a new node's own stream: without it nobody can join. */
function checkRoom(facts: DoctorServerFacts, active: boolean, say: Say): void {
  const { settings, usedSlots, usedSenders, usedOrigins, usedConnections } = facts;
  const origins: SettingName =
    settings.max_active_replication_origins === undefined
      ? 'max_replication_slots'
      : 'max_active_replication_origins';
  const rooms: [SettingName, string, string, number][] = [
    ['max_replication_slots', 'slots', 'replication slot', usedSlots],
    // A peer that is away comes back and wants its sender.
    ['max_wal_senders', 'senders', 'WAL sender', Math.max(usedSenders, usedSlots)],
    [origins, 'origins', 'replication origin', usedOrigins],
  ];
  for (const [setting, check, what, used] of rooms) {
    const max = Number(settings[setting]);
    if (used + (active ? 1 : 2) <= max) {
      say('ok', check, `${setting} has room: ${used} of ${max} in use`);
      continue;
    }
    say(
      active ? 'warning' : 'error',
      check,
      active
        ? `no free ${what} for another peer: ${used} of ${max} in use`
        : `no two free ${what}s, for a peer and for the node itself: ${used} of ${max} in use`,
      `${alter(setting, String(Math.max(used, max) + 10))}  ${RESTART}`,
    );
  }
  const free = Number(settings.max_connections) - usedConnections;
  const wanted = active ? PEER_SESSIONS : OWN_SESSIONS + PEER_SESSIONS;
  if (free >= wanted) return;
  say(
    'warning',
    'connections',
    `max_connections leaves ${free} connections, an agent and one more peer need about ${wanted}`,
    `${alter('max_connections', String(usedConnections + 50))}  ${RESTART}`,
  );
}

/** Settings that work and may surprise. */
function checkTaste({ settings }: DoctorServerFacts, say: Say): void {
  const senderTimeoutMs = Number(settings.wal_sender_timeout);
  if (senderTimeoutMs < LEAST_SENDER_TIMEOUT_MS) {
    say(
      'warning',
      'wal_sender_timeout',
      senderTimeoutMs === 0
        ? 'wal_sender_timeout is 0: a peer whose network is gone is never noticed'
        : `wal_sender_timeout is ${senderTimeoutMs} ms: links break while they apply something large`,
      `${alter('wal_sender_timeout', '60s')}\n${RELOAD}`,
    );
  }
  const idleTimeout = Number(settings.idle_replication_slot_timeout ?? 0);
  if (idleTimeout > 0) {
    say(
      'warning',
      'idle_replication_slot_timeout',
      'idle_replication_slot_timeout is set: a peer that is away for so long must be joined again',
      `${alter('idle_replication_slot_timeout', '0')}\n${RELOAD}`,
    );
  }
  const keptMb = Number(settings.max_slot_wal_keep_size);
  say(
    'note',
    'max_slot_wal_keep_size',
    keptMb < 0
      ? 'max_slot_wal_keep_size is -1: for a peer that is away WAL is kept until the disk is full'
      : `max_slot_wal_keep_size is ${keptMb} MB: a peer that falls further behind must be joined again`,
  );
  if (settings.synchronous_standby_names) {
    say(
      'note',
      'synchronous_standby_names',
      `synchronous_standby_names is set: commits of users wait for "${settings.synchronous_standby_names}" (a peer is named "<node>:send"), apply does not`,
    );
  }
  if (settings.event_triggers === 'off') {
    say(
      'warning',
      'event_triggers',
      'event_triggers is off: new tables would not be published',
      `${alter('event_triggers', 'on')}\n${RELOAD}`,
    );
  }
}

/** Who could reach the server. Nodes of one machine need none of it. */
function checkAccess(facts: DoctorServerFacts, say: Say): void {
  if (facts.hbaErrors.length > 0) {
    const lines = someOf(facts.hbaErrors);
    say('warning', 'pg_hba', `pg_hba.conf cannot be read: ${lines}`, `mend it, then\n${RELOAD}`);
  }
  const addresses = (facts.settings.listen_addresses ?? '').split(',').map((text) => text.trim());
  if (addresses.every((address) => ['', 'localhost', '127.0.0.1', '::1'].includes(address))) {
    say(
      'note',
      'listen_addresses',
      'the server listens on this machine only: peers on others cannot reach it',
      `${alter('listen_addresses', '*')}  ${RESTART}`,
    );
  } else if (!facts.hbaLetsOthersIn) {
    say(
      'note',
      'pg_hba',
      'pg_hba.conf lets only this machine into the database: peers on others cannot reach it',
      `in pg_hba.conf:  hostssl <database> <role> <address of the peer>/32 scram-sha-256\n${RELOAD}`,
    );
  } else say('ok', 'pg_hba', 'pg_hba.conf lets other machines into the database');
}

function alter(setting: SettingName, value: string): string {
  return `ALTER SYSTEM SET ${setting} = '${value}';`;
}
