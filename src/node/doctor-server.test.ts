import { describe, expect, test } from 'vitest';
import type { DoctorServerFacts } from '../postgres/doctor-facts.ts';
import { checkServer, type ServerToCheck } from './doctor-server.ts';

const FACTS: DoctorServerFacts = {
  settings: {
    wal_level: 'logical',
    track_commit_timestamp: 'on',
    max_replication_slots: '10',
    max_wal_senders: '10',
    max_active_replication_origins: '10',
    max_connections: '100',
    wal_sender_timeout: '60000',
    max_slot_wal_keep_size: '1000',
    idle_replication_slot_timeout: '0',
    synchronous_standby_names: '',
    listen_addresses: '*',
    event_triggers: 'on',
  },
  usedSlots: 2,
  usedSenders: 2,
  usedOrigins: 2,
  usedConnections: 10,
  hbaErrors: [],
  hbaLetsOthersIn: true,
};

const WELL: ServerToCheck = {
  basics: {
    major: 18,
    version: '18.4',
    database: 'app',
    user: 'postgres',
    superuser: true,
    inRecovery: false,
  },
  facts: FACTS,
  replicationFailure: null,
  active: false,
};

/** What is found when some facts are otherwise: `level check: fix`, without what is well. */
function complaints(
  facts: Partial<DoctorServerFacts>,
  settings: DoctorServerFacts['settings'] = {},
  server: Partial<ServerToCheck> = {},
) {
  return checkServer({
    ...WELL,
    facts: { ...FACTS, ...facts, settings: { ...FACTS.settings, ...settings } },
    ...server,
  })
    .filter(({ level, check }) => level !== 'ok' && check !== 'max_slot_wal_keep_size')
    .map(({ level, check, fix }) => `${level} ${check}: ${fix ?? ''}`);
}

test('a server that has all it needs gives no complaint', () => {
  expect(complaints({})).toEqual([]);
});

describe('what must be mended', () => {
  test('a server that is too old, and then nothing else is asked', () => {
    const basics = { ...WELL.basics, major: 13, version: '13.22' };
    expect(checkServer({ ...WELL, basics, facts: null })).toEqual([
      {
        about: 'server',
        check: 'version',
        level: 'error',
        message: 'PostgreSQL 13.22 is too old, 14 is the oldest that works',
        fix: null,
      },
    ]);
  });

  test('a standby', () => {
    const basics = { ...WELL.basics, inRecovery: true };
    expect(complaints({}, {}, { basics })).toEqual(['error standby: connect to its primary']);
  });

  test('a role that is no superuser', () => {
    const basics = { ...WELL.basics, superuser: false, user: 'app"owner' };
    expect(complaints({}, {}, { basics })[0]).toBe(
      'error superuser: ALTER ROLE "app""owner" SUPERUSER;  -- or connect as another role',
    );
  });

  test('wal_level', () => {
    expect(complaints({}, { wal_level: 'replica' })).toEqual([
      `error wal_level: ALTER SYSTEM SET wal_level = 'logical';  -- then restart the server`,
    ]);
  });

  test('track_commit_timestamp', () => {
    expect(complaints({}, { track_commit_timestamp: 'off' })).toEqual([
      `error track_commit_timestamp: ALTER SYSTEM SET track_commit_timestamp = 'on';  -- then restart the server`,
    ]);
  });

  test('slots, senders and origins that are all in use', () => {
    expect(complaints({ usedSlots: 10, usedSenders: 10, usedOrigins: 10 })).toEqual([
      `error slots: ALTER SYSTEM SET max_replication_slots = '20';  -- then restart the server`,
      `error senders: ALTER SYSTEM SET max_wal_senders = '20';  -- then restart the server`,
      `error origins: ALTER SYSTEM SET max_active_replication_origins = '20';  -- then restart the server`,
    ]);
  });

  test('before 18, origins are limited by the setting for slots', () => {
    const settings = { ...FACTS.settings };
    delete settings.max_active_replication_origins;
    const found = checkServer({ ...WELL, facts: { ...FACTS, settings, usedOrigins: 10 } });
    expect(found.find(({ check }) => check === 'origins')).toMatchObject({
      level: 'error',
      fix: `ALTER SYSTEM SET max_replication_slots = '20';  -- then restart the server`,
    });
  });

  test('a peer that is away keeps its claim on a sender', () => {
    expect(complaints({ usedSlots: 5, usedSenders: 0 }, { max_wal_senders: '5' })).toEqual([
      `error senders: ALTER SYSTEM SET max_wal_senders = '15';  -- then restart the server`,
    ]);
  });

  test('replication connections that are refused', () => {
    expect(complaints({}, {}, { replicationFailure: 'no' })[0]).toContain(
      'error replication_connection: pg_hba.conf',
    );
  });
});

describe('what should be looked at', () => {
  test('no room for another peer, on a node whose own peers have theirs', () => {
    expect(complaints({ usedSlots: 10 }, { max_wal_senders: '20' }, { active: true })).toEqual([
      `warning slots: ALTER SYSTEM SET max_replication_slots = '20';  -- then restart the server`,
    ]);
  });

  test('few connections', () => {
    expect(complaints({ usedConnections: 95 })).toEqual([
      `warning connections: ALTER SYSTEM SET max_connections = '145';  -- then restart the server`,
    ]);
    expect(complaints({ usedConnections: 95 }, {}, { active: true })).toEqual([]);
  });

  test.each(['0', '5000'])('wal_sender_timeout of %s ms', (timeout) => {
    expect(complaints({}, { wal_sender_timeout: timeout })).toEqual([
      `warning wal_sender_timeout: ALTER SYSTEM SET wal_sender_timeout = '60s';\nSELECT pg_reload_conf();`,
    ]);
  });

  test('slots that the server drops when they are idle', () => {
    expect(complaints({}, { idle_replication_slot_timeout: '86400' })).toEqual([
      `warning idle_replication_slot_timeout: ALTER SYSTEM SET idle_replication_slot_timeout = '0';\nSELECT pg_reload_conf();`,
    ]);
  });

  test('event triggers that are off', () => {
    expect(complaints({}, { event_triggers: 'off' })[0]).toContain('warning event_triggers: ');
  });

  test('a pg_hba.conf that cannot be read', () => {
    expect(complaints({ hbaErrors: ['line 7: bad'] })).toEqual([
      'warning pg_hba: mend it, then\nSELECT pg_reload_conf();',
    ]);
  });
});

describe('what is good to know', () => {
  test('WAL is kept without limit, or a peer may be lost', () => {
    const message = (size: string) =>
      checkServer({
        ...WELL,
        facts: { ...FACTS, settings: { ...FACTS.settings, max_slot_wal_keep_size: size } },
      }).find(({ check }) => check === 'max_slot_wal_keep_size');
    expect(message('-1')).toMatchObject({
      level: 'note',
      message: expect.stringContaining('until the disk is full') as string,
    });
    expect(message('1000')).toMatchObject({
      level: 'note',
      message: expect.stringContaining('1000 MB') as string,
    });
  });

  test('synchronous_standby_names', () => {
    expect(complaints({}, { synchronous_standby_names: 'node2:send' })).toEqual([
      'note synchronous_standby_names: ',
    ]);
  });

  test.each(['', 'localhost', '127.0.0.1, ::1'])('listening on "%s" only', (addresses) => {
    expect(complaints({}, { listen_addresses: addresses })).toEqual([
      `note listen_addresses: ALTER SYSTEM SET listen_addresses = '*';  -- then restart the server`,
    ]);
  });

  test('a pg_hba.conf that lets nobody in from elsewhere', () => {
    expect(complaints({ hbaLetsOthersIn: false })[0]).toContain('note pg_hba: in pg_hba.conf:');
  });
});
