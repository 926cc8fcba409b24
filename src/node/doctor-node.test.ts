import { describe, expect, test } from 'vitest';
import type { LinkState, SlotState } from '../catalog/monitoring.ts';
import { checkNode, type NodeToCheck } from './doctor-node.ts';
import type { PeerAnswer, PeerCheck } from './peer-check.ts';
import type { ActiveStatus, MemberStatus } from './status.ts';

const id = (dboid: number) => ({ sysid: '7', timeline: 1, dboid });

const member = (name: string, dboid: number): MemberStatus => ({
  id: id(dboid),
  name,
  status: 'r',
  statusWord: 'ready',
  sequence: dboid,
  dsn: `host=${name}`,
  isLocal: dboid === 1,
  error: null,
  replicationSets: ['default'],
  isReadOnly: false,
});
const LINK: LinkState & { from: string } = {
  from: 'b',
  provider: id(2),
  status: 'streaming',
  since: '2030-01-01T00:00:00.000Z',
  error: null,
  failed: null,
  skipUptoLsn: null,
  receivedLsn: '0/2',
  appliedLsn: '0/2',
  appliedCommitAt: null,
  caughtUpAt: null,
  watermarkAt: null,
  lagMs: 10,
  unappliedBytes: 0,
};
const SLOT: SlotState & { to: string } = {
  to: 'b',
  subscriber: id(2),
  slot: 'bdr_1_7_1_2__',
  active: true,
  confirmedLsn: '0/2',
  bytesBehind: 0,
  bytesKept: 100,
  walStatus: 'reserved',
};
const ANSWER: PeerAnswer = {
  isThatNode: true,
  superuser: true,
  versionNumber: 10000,
  leastVersionNumber: 10000,
  encoding: 'UTF8',
  replicationFailure: null,
  clockAheadMs: 3,
  clockErrorMs: 1,
};
const PEER: PeerCheck = {
  name: 'b',
  isLocal: false,
  where: 'b:5432/app as postgres',
  failure: null,
  answer: ANSWER,
};
const OWN = {
  status: 'streaming' as const,
  since: '2030-01-01T00:00:00.000Z',
  error: null,
  appliedLsn: '0/1',
  watermarkAt: null,
  tombstones: 0,
  bytesKept: null,
};
const STATUS: ActiveStatus = {
  active: true,
  at: '2030-01-01T00:00:00.000Z',
  database: 'app',
  postgres: '18.4',
  bdr: '1.0.0',
  agentPid: 42,
  name: 'a',
  status: 'r',
  statusWord: 'ready',
  applyPaused: false,
  join: null,
  nodes: [member('a', 1), member('b', 2)],
  links: [LINK],
  heldDeletions: null,
  openWriters: [],
  ownStream: OWN,
  slots: [SLOT],
  records: { lostUpTo: '2029-12-29T00:00:00.000Z', keptMs: 3 * 86_400_000, mayBeFalse: false },
  clockSteps: [],
  globalLocks: [],
  indexBuilds: [],
  conflicts: { total: 0, lastHour: 0 },
};

function check(status: Partial<ActiveStatus>, rest: Partial<NodeToCheck> = {}) {
  return checkNode({
    status: { ...STATUS, ...status },
    peers: [PEER],
    isMarked: true,
    unpublished: [],
    unconverted: [],
    parted: [],
    writable: [],
    history: { isKept: true, withRows: true, retentionMs: 1, invalid: [] },
    version: ANSWER,
    ...rest,
  }).filter(({ level }) => level !== 'ok');
}
const checkAnswer = (answer: Partial<PeerAnswer>) =>
  check({}, { peers: [{ ...PEER, answer: { ...ANSWER, ...answer } }] });

test('a node whose links stream gives no complaint', () => {
  expect(check({})).toEqual([]);
});

describe('the node itself', () => {
  test('without an agent nothing goes on, and what links reported last is not judged', () => {
    expect(check({ agentPid: null, links: [{ ...LINK, status: 'failed' }] })).toMatchObject([
      { level: 'error', check: 'agent', fix: expect.stringContaining('bdr agent') as string },
    ]);
  });

  test('an index that cannot be built is an error, one that is being built is good to know', () => {
    const build = { id: 'b1', table: '"t"', index: 'i', since: 'noon', error: null };
    expect(check({ indexBuilds: [build, { ...build, error: 'no room' }] })).toMatchObject([
      { level: 'note', check: 'index_build' },
      {
        level: 'error',
        message: expect.stringContaining('no room') as string,
        fix: expect.stringContaining(`WHERE build = 'b1'`) as string,
      },
    ]);
  });

  test('a clock that has stepped back is an error, and so are the deletions that followed', () => {
    const step = { clockWas: 'noon', clockIs: 'ten', isRewritten: false, deletions: 0 };
    const errors = (more: object) => check({ clockSteps: [{ ...step, ...more }] });
    expect(errors({})).toMatchObject([{ level: 'error', check: 'clock_step' }]);
    expect(errors({ isRewritten: true, deletions: 3 })).toMatchObject([
      { level: 'error', message: expect.stringContaining('3 deletions') as string },
    ]);
    expect(errors({ deletions: 3 })).toHaveLength(2);
  });

  test('a global lock that is held or asked for long is worth a warning, which names who is waited for', () => {
    const lock = {
      owner: 'b',
      isLocal: false,
      mode: 'write_lock' as const,
      isHeld: true,
      askedAt: 'noon',
      ms: 61_000,
      pid: null,
      waitingFor: [],
    };
    const found = (more: object) => check({ globalLocks: [{ ...lock, ...more }] });
    expect(found({ ms: 1000 })).toEqual([]);
    expect(found({})).toMatchObject([
      {
        level: 'warning',
        check: 'global_lock',
        message: expect.stringContaining('b holds') as string,
      },
    ]);
    expect(found({ isLocal: true, pid: 42 })).toMatchObject([
      { fix: expect.stringContaining('pg_terminate_backend(42)') as string },
    ]);
    const waits = { owner: 'a', isLocal: true, isHeld: false, waitingFor: ['b'] };
    expect(found(waits)).toMatchObject([
      {
        message: expect.stringContaining('no answer of b') as string,
        fix: expect.stringContaining("ARRAY['b']") as string,
      },
    ]);
  });

  test('a link that is half as far behind as commit records go back is worth a warning', () => {
    const behind = (lagMs: number) =>
      check({ links: [{ ...LINK, lagMs }] }).filter((found) => found.check === 'commit_records');
    expect(behind(36 * 3_600_000 - 1)).toEqual([]);
    expect(behind(36 * 3_600_000)).toMatchObject([{ level: 'warning' }]);
  });

  test('a log that it cannot read is an error with the reason', () => {
    const error = { message: 'slot is gone', hint: 'join again' };
    expect(check({ ownStream: { ...OWN, status: 'failed', error } })).toMatchObject([
      {
        level: 'error',
        check: 'own_stream',
        message: expect.stringContaining('slot is gone') as string,
        fix: 'join again',
      },
    ]);
  });

  test('many deletions that are held for long are told of, with who holds them', () => {
    const ownStream = { ...OWN, tombstones: 100_000 };
    const held = { by: 'b', isLocal: false, upTo: '2029-12-31T23:00:00.000Z', ms: 3_600_000 };
    expect(check({ ownStream, heldDeletions: held })).toMatchObject([
      {
        level: 'warning',
        check: 'deletions',
        message:
          '100000 deletions are remembered, because the changes of b are here only up to 2029-12-31T23:00:00.000Z',
        fix: expect.stringContaining("bdr_part_by_node_names(ARRAY['b'])") as string,
      },
    ]);
    expect(check({ ownStream, heldDeletions: { ...held, ms: 59_999 } })).toEqual([]);
    expect(check({ ownStream: { ...OWN, tombstones: 99_999 }, heldDeletions: held })).toEqual([]);
    const own = { ...held, by: 'a', isLocal: true };
    expect(check({ ownStream, heldDeletions: own })).toMatchObject([
      { check: 'deletions', fix: null },
    ]);
  });

  test('a transaction that has been writing for minutes is told of, with how it ends', () => {
    const writer = {
      pid: 7,
      gid: null,
      role: 'app',
      application: 'psql',
      since: '2029-12-31T23:55:00.000Z',
      ms: 300_000,
    };
    expect(check({ openWriters: [writer] })).toMatchObject([
      { check: 'open_writer', fix: expect.stringContaining('pg_terminate_backend(7)') as string },
    ]);
    expect(check({ openWriters: [{ ...writer, pid: null, gid: "it's" }] })).toMatchObject([
      { check: 'open_writer', fix: expect.stringContaining("COMMIT PREPARED 'it''s'") as string },
    ]);
    expect(check({ openWriters: [{ ...writer, ms: 299_999 }] })).toEqual([]);
  });

  test('a node that was parted is told so, and nothing else', () => {
    expect(check({ status: 'k', agentPid: null })).toMatchObject([
      {
        level: 'error',
        check: 'member',
        fix: expect.stringContaining('remove_bdr_from_local_node') as string,
      },
    ]);
  });

  test('a join that goes on is good to know, one that fails must be mended', () => {
    const joining = { status: 'i', statusWord: 'copying' } as const;
    const join = { step: 'copying rows', progress: null, error: null };
    expect(check({ ...joining, join })).toMatchObject([
      { level: 'note', message: 'node a is joining: copying, step "copying rows"' },
    ]);
    const error = {
      message: 'no room',
      detail: 'none',
      hint: 'make some',
      sqlstate: '55000',
      retry: true,
      failures: 2,
    };
    expect(check({ ...joining, join: { ...join, error } })).toMatchObject([
      {
        level: 'error',
        message: 'the join of node a fails, step "copying rows": no room. none',
        fix: 'make some',
      },
    ]);
  });

  test('apply that is paused is not taken for lag', () => {
    const links = [{ ...LINK, status: 'paused' as const, lagMs: 900_000 }];
    expect(check({ applyPaused: true, links })).toMatchObject([
      { level: 'warning', check: 'apply_paused', fix: 'SELECT bdr.bdr_apply_resume();' },
    ]);
  });

  test('a database that agents do not find is told of', () => {
    const fix = expect.stringMatching(/^ALTER DATABASE .* SET bdr.active = 'on';$/) as string;
    expect(check({}, { isMarked: false })).toMatchObject([{ level: 'error', check: 'mark', fix }]);
  });

  test('a parted node of which not all have the same', () => {
    const at = (name: string, applied: string, isBehind: boolean) => ({
      node: 'c',
      at: name,
      applied,
      committedAt: null,
      isBehind,
    });
    expect(check({}, { parted: [at('a', '0/2', false), at('b', '0/1', false)] })).toEqual([]);
    const parted = [at('a', '0/20', false), at('b', '0/1', true)];
    expect(check({}, { parted })).toMatchObject([
      {
        level: 'error',
        check: 'parted',
        message: expect.stringContaining('a up to 0/20 (nothing), b up to 0/1') as string,
        fix: expect.stringContaining(`WHERE node_name = 'c'`) as string,
      },
    ]);
  });

  test('tables that are not published must be', () => {
    expect(check({}, { writable: ['public.t'] })).toMatchObject([
      {
        level: 'warning',
        check: 'read_only',
        message: expect.stringContaining('public.t') as string,
      },
    ]);
    expect(check({}, { unconverted: ['public.s'] })).toMatchObject([
      { level: 'warning', check: 'sequence', fix: expect.stringContaining(`'public.s'`) as string },
    ]);
    const unpublished = [{ name: 'public.t', isUnknown: false }];
    expect(check({}, { unpublished })).toMatchObject([
      { level: 'error', check: 'publication', fix: 'SELECT bdr.internal_sync_publication();' },
    ]);
    expect(check({}, { unpublished: [{ name: 'public.u', isUnknown: true }] })).toMatchObject([
      {
        level: 'error',
        check: 'publication',
        message: expect.stringContaining('public.u') as string,
      },
    ]);
  });

  test('a history that is not kept, or set to what means nothing, is told of', () => {
    const history = { isKept: false, withRows: true, retentionMs: 1 };
    const invalid = [{ name: 'bdr.conflict_history_retention', message: 'no interval' }];
    expect(check({}, { history: { ...history, invalid } })).toMatchObject([
      {
        level: 'warning',
        check: 'setting',
        message: 'bdr.conflict_history_retention is not valid: no interval',
        fix: 'ALTER DATABASE "app" RESET bdr.conflict_history_retention;',
      },
      { level: 'note', check: 'conflict_history' },
    ]);
  });
});

describe('links', () => {
  test('one that failed gives its reason', () => {
    const error = { message: 'table t does not exist', hint: 'create it' };
    expect(check({ links: [{ ...LINK, status: 'failed', error }] })).toMatchObject([
      {
        level: 'error',
        check: 'link',
        message: expect.stringContaining('table t does not exist') as string,
        fix: 'create it',
      },
    ]);
  });

  test('one that is down, or far behind, is a warning', () => {
    expect(check({ links: [{ ...LINK, status: 'down' }] })).toMatchObject([
      { level: 'warning', check: 'link' },
    ]);
    expect(check({ links: [{ ...LINK, lagMs: 90_000 }] })).toMatchObject([
      { level: 'warning', check: 'link_lag', message: 'this node is 90 s behind b' },
    ]);
  });

  test('a ready peer without a link is missed', () => {
    expect(check({ links: [] })).toMatchObject([
      { level: 'warning', message: 'there is no link from b yet' },
    ]);
  });
});

describe('slots', () => {
  test('one that lost its WAL means joining again', () => {
    expect(check({ slots: [{ ...SLOT, walStatus: 'lost', active: false }] })).toMatchObject([
      {
        level: 'error',
        check: 'slot',
        fix: expect.stringContaining(`bdr_part_by_node_names(ARRAY['b'])`) as string,
      },
    ]);
  });

  test('where all have, and the node cannot read its own log either, it is the one that stays', () => {
    const findings = check({
      slots: [{ ...SLOT, walStatus: 'lost', active: false }],
      ownStream: { ...OWN, status: 'failed' },
    });
    expect(findings.map(({ check: name }) => name)).toEqual(
      expect.arrayContaining(['own_stream', 'slot']),
    );
    for (const { fix } of findings) expect(fix).toContain('this one stays');
  });

  test('one that is about to lose it is a warning', () => {
    expect(check({ slots: [{ ...SLOT, walStatus: 'unreserved' }] })).toMatchObject([
      { level: 'warning', fix: expect.stringContaining('max_slot_wal_keep_size') as string },
    ]);
  });

  test('a peer that is not connected, or far behind, is a warning', () => {
    const kept = 3 * 1024 * 1024;
    expect(check({ slots: [{ ...SLOT, active: false, bytesKept: kept }] })).toMatchObject([
      { level: 'warning', message: 'b is not connected; 3 MB of WAL are kept for it' },
    ]);
    expect(check({ slots: [{ ...SLOT, bytesBehind: 2 ** 30 }] })).toMatchObject([
      { level: 'warning', check: 'slot_lag' },
    ]);
  });

  test('one of a node that is no member keeps WAL for nobody', () => {
    const stray = { ...SLOT, subscriber: id(9), to: '7,1,9', slot: 'bdr_1_7_1_9__' };
    expect(check({ slots: [SLOT, stray] })).toMatchObject([
      { level: 'warning', fix: `SELECT pg_drop_replication_slot('bdr_1_7_1_9__');` },
    ]);
  });

  test('a ready peer without one is not served', () => {
    expect(check({ slots: [] })).toMatchObject([
      { level: 'error', message: expect.stringContaining('b has no slot here') as string },
    ]);
  });
});

describe('peers', () => {
  const away = { ...PEER, answer: null, failure: { message: 'no route', hint: 'look' } };

  test('one that cannot be reached is an error only if its link does not stream either', () => {
    expect(check({}, { peers: [away] })).toMatchObject([{ level: 'warning', fix: 'look' }]);
    const links = [{ ...LINK, status: 'connecting' as const }];
    expect(check({ links }, { peers: [away] }).at(-1)).toMatchObject({ level: 'error' });
  });

  test('one whose connection has not arrived yet is only noted', () => {
    expect(check({}, { peers: [{ ...away, where: null }] })).toMatchObject([{ level: 'note' }]);
  });

  test('a DSN that leads elsewhere is an error', () => {
    expect(checkAnswer({ isThatNode: false })).toMatchObject([
      { level: 'error', fix: expect.stringContaining('bdr_connections_changed') as string },
    ]);
  });

  test('rights and replication connections are asked for', () => {
    expect(checkAnswer({ superuser: false, replicationFailure: 'no' })).toMatchObject([
      { level: 'error', message: expect.stringContaining('not a superuser') as string },
      { level: 'error', message: expect.stringContaining('replication connections: no') as string },
    ]);
  });

  test('versions must know each other, in both directions', () => {
    expect(checkAnswer({ versionNumber: 9999 })).toMatchObject([{ fix: 'upgrade b' }]);
    expect(checkAnswer({ leastVersionNumber: 10001 })).toMatchObject([
      { fix: 'upgrade this node' },
    ]);
  });

  test('encodings should be equal', () => {
    expect(checkAnswer({ encoding: 'LATIN1' })).toMatchObject([{ level: 'warning' }]);
  });

  test('a clock is judged only as far as it could be read', () => {
    expect(checkAnswer({ clockAheadMs: 1500, clockErrorMs: 800 })).toEqual([]);
    expect(checkAnswer({ clockAheadMs: -1500 })).toMatchObject([
      {
        level: 'warning',
        check: 'clock',
        message: expect.stringContaining('1.5 s behind') as string,
      },
    ]);
    expect(checkAnswer({ clockAheadMs: 40_000 })).toMatchObject([{ level: 'error' }]);
  });
});
