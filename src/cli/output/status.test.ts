import { stripVTControlCharacters } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { ActiveStatus, InactiveStatus } from '../../node/status.ts';
import { drawStatus } from './status.ts';

const draw = (report: ActiveStatus | InactiveStatus) =>
  drawStatus(report)
    .map((line) => stripVTControlCharacters(line))
    .join('\n');

const INACTIVE: InactiveStatus = {
  active: false,
  at: '2030-01-01T00:00:00.000Z',
  database: 'app',
  postgres: '18.4',
  bdr: null,
  extensionAvailable: false,
  nodeDatabases: ['other'],
};
const id = (dboid: number) => ({ sysid: '7', timeline: 1, dboid });
const ACTIVE: ActiveStatus = {
  active: true,
  at: '2030-01-01T00:00:00.000Z',
  database: 'app',
  postgres: '18.4',
  bdr: '1.0.0',
  agentPid: 42,
  name: 'one',
  status: 'r',
  statusWord: 'ready',
  applyPaused: false,
  join: null,
  nodes: [
    {
      id: id(1),
      name: 'one',
      status: 'r',
      statusWord: 'ready',
      sequence: 1,
      dsn: 'host=a password=***',
      isLocal: true,
      error: null,
      replicationSets: ['default'],
      isReadOnly: true,
    },
    {
      id: id(2),
      name: 'twenty',
      status: 'i',
      statusWord: 'copying',
      sequence: null,
      dsn: null,
      isLocal: false,
      error: 'disk full',
      replicationSets: ['default'],
      isReadOnly: false,
    },
  ],
  links: [
    {
      from: 'twenty',
      provider: id(2),
      status: 'failed',
      since: '2030-01-01T00:00:00.000Z',
      error: { message: 'no such\ntable', hint: 'create it' },
      failed: { xid: '815', commitLsn: '0/4', commitAt: '2029-12-31T23:59:00.000Z' },
      skipUptoLsn: '0/4',
      receivedLsn: '0/3',
      appliedLsn: '0/2',
      appliedCommitAt: null,
      caughtUpAt: null,
      watermarkAt: null,
      lagMs: 125_000,
      unappliedBytes: 2048,
    },
  ],
  heldDeletions: null,
  openWriters: [],
  ownStream: {
    status: 'streaming',
    since: '2030-01-01T00:00:00.000Z',
    error: null,
    appliedLsn: '0/4',
    watermarkAt: '2029-12-31T23:59:59.000Z',
    tombstones: 3,
    bytesKept: 2048,
  },
  slots: [
    {
      to: 'twenty',
      subscriber: id(2),
      slot: 's',
      active: false,
      confirmedLsn: '0/1',
      bytesBehind: 0,
      bytesKept: 1024 ** 3,
      walStatus: 'lost',
    },
  ],
  records: { lostUpTo: '2029-12-29T00:00:00.000Z', keptMs: 3 * 86_400_000, mayBeFalse: false },
  clockSteps: [],
  globalLocks: [],
  indexBuilds: [],
  conflicts: { total: 7, lastHour: 2 },
};

describe('a database that is no node', () => {
  test('is told how to become one', () => {
    const text = draw(INACTIVE);
    expect(text).toContain('is not a node: bdr is not installed in it');
    expect(text).toContain('nodes of this server: other');
    expect(text).toContain('bdr install --dsn');
    expect(text).toContain('bdr.bdr_group_create(');
  });

  test('uses CREATE EXTENSION where the server can, and nothing where bdr is there', () => {
    expect(draw({ ...INACTIVE, extensionAvailable: true })).toContain('CREATE EXTENSION bdr;');
    const installed = draw({ ...INACTIVE, bdr: '1.0.0', extensionAvailable: true });
    expect(installed).not.toContain('CREATE EXTENSION');
  });
});

describe('a node', () => {
  test('is drawn with its nodes, links, slots and conflicts', () => {
    expect(draw(ACTIVE).split('\n')).toEqual([
      'one is ready   database app, PostgreSQL 18.4, bdr 1.0.0',
      '',
      'nodes',
      '  →  one     ready, read-only  #1  host=a password=***',
      '     twenty  copying               connection not known yet  disk full',
      '',
      'reads from',
      '  twenty  failed  2.1 min behind  2 kB not applied  at 0/2  since 2030-01-01T00:00:00.000Z',
      '    no such table',
      '    transaction 815, committed at 0/4, 2029-12-31T23:59:00.000Z, cannot be applied',
      '    create it',
      '    changes up to 0/4 are being skipped',
      '',
      'reads its own log',
      '  streaming  3 deletions remembered  complete up to 2029-12-31T23:59:59.000Z  2 kB of WAL kept for it',
      '',
      'is read by',
      '  twenty  not connected  has everything  1 GB of WAL kept for it  WAL lost',
      '',
      'commit records go back 3 d; the slowest link is 2.1 min behind',
      'conflicts resolved here: 2 in the last hour, 7 in the history',
    ]);
  });

  test('says which replication sets a node gets, unless it is the default', () => {
    const [node] = ACTIVE.nodes as [(typeof ACTIVE.nodes)[number]];
    const drawn = (replicationSets: string[] | null) =>
      draw({ ...ACTIVE, nodes: [{ ...node, replicationSets }] });
    expect(drawn(['default'])).not.toContain('gets');
    expect(drawn(['default', 'europe'])).toContain('gets default, europe');
    expect(drawn(['all'])).toContain('gets all');
    for (const everything of [null, []]) {
      expect(drawn(everything)).toContain('gets all replication sets');
    }
  });

  test('says what keeps deletions from being forgotten, and who writes for long', () => {
    const text = draw({
      ...ACTIVE,
      heldDeletions: {
        by: 'twenty',
        isLocal: false,
        upTo: '2029-12-31T23:00:00.000Z',
        ms: 3_600_000,
      },
      openWriters: [
        {
          pid: 7,
          gid: null,
          role: 'app',
          application: 'psql',
          since: '2029-12-31T23:59:00.000Z',
          ms: 60_000,
        },
      ],
    });
    expect(text).toContain(
      '    deletions are remembered because of what twenty writes: complete here up to 1 h ago\n' +
        '    the transaction of pid 7 (role app, psql) has been writing for 1 min: meanwhile no node forgets deletions or groups what it applies',
    );
  });

  test('a watermark that lags by some seconds is nothing to speak of', () => {
    const held = { by: 'one', isLocal: true, upTo: '2029-12-31T23:59:55.000Z', ms: 5000 };
    expect(draw({ ...ACTIVE, heldDeletions: held })).toBe(draw(ACTIVE));
  });

  test('says that its clock has stepped back until that is dealt with', () => {
    const step = {
      clockWas: '2030-01-01T00:00:00.000Z',
      clockIs: '2029-12-31T23:59:00.000Z',
      isRewritten: false,
      deletions: 0,
    };
    const text = draw({ ...ACTIVE, clockSteps: [step] });
    expect(text).toContain('the clock has stepped back from 2030-01-01T00:00:00.000Z');
    expect(text).toContain('deleted again once');
    const later = draw({ ...ACTIVE, clockSteps: [{ ...step, isRewritten: true, deletions: 2 }] });
    expect(later).toContain('2 deletions since may have lost');
    expect(later).not.toContain('deleted again once');
  });

  test('says which indexes are being built, and which cannot be', () => {
    const build = {
      id: 'b1',
      table: '"t"',
      index: 'i',
      since: '2030-01-01T00:00:00.000Z',
      error: null,
    };
    expect(draw({ ...ACTIVE, indexBuilds: [build] })).toContain('index i on "t" is being built');
    const text = draw({ ...ACTIVE, indexBuilds: [{ ...build, error: 'no room' }] });
    expect(text).toContain('index i on "t" cannot be built: no room');
  });

  test('says who holds the global lock, or asks for it and waits for whom', () => {
    const lock = {
      owner: 'b',
      isLocal: false,
      mode: 'write_lock' as const,
      isHeld: true,
      askedAt: '2030-01-01T00:00:00.000Z',
      ms: 61_000,
      pid: null,
      waitingFor: [],
    };
    expect(draw({ ...ACTIVE, globalLocks: [lock] })).toContain(
      'b holds the global lock (write_lock)',
    );
    const asks = { ...lock, isHeld: false, waitingFor: ['c', 'd'] };
    expect(draw({ ...ACTIVE, globalLocks: [asks] })).toContain('not answered: c, d');
  });

  test('without an agent its links are shown as doubtful', () => {
    const text = draw({ ...ACTIVE, agentPid: null });
    expect(text).toContain('no agent is running');
    expect(text).toContain('failed?');
  });

  test('that joins shows the step, how far it is, and why it stops', () => {
    const progress = { text: '3 of 9 tables', secondsLeft: 90 };
    const error = {
      message: 'no route',
      detail: null,
      hint: 'look',
      sqlstate: '08006',
      retry: true,
      failures: 4,
    };
    const text = draw({
      ...ACTIVE,
      status: 'i',
      statusWord: 'copying',
      applyPaused: true,
      join: { step: 'copying rows', progress, error },
    });
    expect(text).toContain('joining: copying rows, 3 of 9 tables, 1.5 min left');
    expect(text).toContain('join fails: no route\n  look\n  tried 4 times, the agent goes on');
    expect(text).toContain('apply is paused');
  });
});
