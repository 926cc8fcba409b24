import { afterEach, expect, test, vi } from 'vitest';
import { LONG_AGO } from '../base/pg-time.ts';
import { SharedTime } from '../base/shared-time.ts';
import { Wakeup } from '../base/wait.ts';
import type { LinkReport } from '../catalog/links.ts';
import type { Node } from '../model/node.ts';
import { Edition } from './edition.ts';
import { SharedHistoryOptions } from './history-settings.ts';
import { LinkThread } from './link-thread.ts';
import { createThreadLog, type LogLine } from './thread-log.ts';

// The program of the thread is a stand-in here: what the real one does, test/cluster shows.

const DSN = 'host=127.0.0.1 password=geheim';

function node(name: string, dboid: number): Node {
  return {
    id: { sysid: '1', timeline: 1, dboid },
    status: 'r',
    name,
    sequence: dboid,
    dsn: DSN,
    localDsn: null,
    initFromDsn: null,
    applyDelayMs: null,
    replicationSets: ['default'],
    joinedAt: null,
    error: null,
    isReadOnly: false,
  };
}

/** A program that imports what the others need, counts its lives, and does `then`. */
function program(then: string): URL {
  const source = `
    import { parentPort, workerData } from 'node:worker_threads';
    const life = Atomics.add(new Int32Array(workerData.edition), 0, 1) + 1;
    const say = (message) => parentPort.postMessage(message);
    const log = (fields, message) =>
      say({ kind: 'log', line: { level: 'info', fields, message } });
    const report = (fields) => ({
      status: 'streaming', error: null, failed: workerData.record.failed, applyPid: 7, received: null,
      applied: null, appliedCommitTime: null, caughtUp: true, watermark: -Infinity,
      counts: { nr_commit: 2, nr_rollback: 0, nr_insert: 0, nr_insert_conflict: 0, nr_update: 0,
        nr_update_conflict: 0, nr_delete: 0, nr_delete_conflict: 0, nr_disconnect: 1 }, ...fields });
    ${then}`;
  return new URL(`data:text/javascript,${encodeURIComponent(source)}`);
}

/** Answers as the real one does. */
const OBEDIENT = `
  parentPort.on('message', ({ kind }) => {
    say({ kind: 'answer', report: kind === 'group' ? null : report({ status: kind === 'stop' ? 'down' : 'streaming' }) });
    if (kind === 'stop') parentPort.close();
  });
  log({ life }, 'ready');`;

const started: LinkThread[] = [];
afterEach(async () => {
  vi.useRealTimers();
  await Promise.all(started.splice(0).map((thread) => thread.stop()));
});

function start(then: string, resourceLimits = {}) {
  const lines: LogLine[] = [];
  const logged = new Wakeup();
  const log = createThreadLog((line) => {
    lines.push(line);
    logged.raise();
  });
  const watermark = new SharedTime();
  const origins = {
    local: { id: node('b', 2).id, sequence: 2 },
    providers: new Map([[1, { id: node('a', 1).id, sequence: 1 }]]),
    copies: new Set<number>(),
  };
  const own = new SharedTime().shared;
  const nodes = [node('a', 1), node('b', 2)];
  const group = { number: 0, nodes, origins, own, ownHeard: own, others: [] };
  const thread = new LinkThread(
    {
      localNode: node('b', 2),
      provider: node('a', 1),
      record: {
        provider: node('a', 1).id,
        start: null,
        skip: null,
        skipRequest: null,
        failed: null,
        providerJoinedAt: null,
      },
      endpoints: {
        local: { password: () => 'geheim' } as never,
        localDsn: DSN,
        environment: { env: {}, homeDir: '', userName: '' },
        conninfo: () => expect.fail('not asked here'),
        parameters: () => expect.fail('not asked here'),
      },
      edition: new Edition(),
      watermark,
      recordLimit: new SharedTime(),
      group,
      history: new SharedHistoryOptions(),
      log: log.child({ database: 'app' }),
      random: () => 0,
      onOutdated: () => undefined,
      onOwnBehind: () => undefined,
      onSlotLost: () => undefined,
    },
    program(then),
    resourceLimits,
  );
  started.push(thread);
  thread.start();
  /** The first line that says so; waits for it. */
  const line = async (message: string): Promise<LogLine> => {
    for (;;) {
      const found = lines.find((one) => one.message === message);
      if (found) return found;
      await logged.wait(60_000);
    }
  };
  return { thread, lines, line, watermark, group };
}

const disconnects = ({ counts }: LinkReport) => counts.nr_disconnect;

test('reports what its thread does, and what the thread does last', async () => {
  const { thread } = start(OBEDIENT);
  expect(await thread.takeReport()).toMatchObject({
    status: 'streaming',
    counts: { nr_commit: 2 },
  });
  expect(thread.status).toBe('streaming');
  await thread.stop();
  expect(await thread.takeReport()).toMatchObject({ status: 'down', counts: { nr_commit: 2 } });
  // That was all.
  expect(await thread.takeReport()).toMatchObject({ status: 'down', counts: { nr_commit: 0 } });
});

test('writes the lines of its thread as they would be written here', async () => {
  const { line } = start(`log({ link: 'a->b', from: '0/1' }, 'link is streaming'); ${OBEDIENT}`);
  expect(await line('link is streaming')).toEqual({
    level: 'info',
    fields: { database: 'app', link: 'a->b', from: '0/1' },
    message: 'link is streaming',
  });
});

test.each([
  ['throws', `throw new TypeError('x is not a function');`, 'x is not a function'],
  ['rejects', `void Promise.reject(new Error('nobody waits'));`, 'nobody waits'],
  ['exits', `process.exit(3);`, 'exit code 3'],
])(
  'a thread that %s is a failed link with the reason, and is started again',
  async (_, dies, reason) => {
    const { thread, line, watermark } = start(`
    new Float64Array(workerData.watermark)[0] = 5;
    if (life === 1) { ${dies} } else { ${OBEDIENT} }`);
    const { fields, level } = await line('link failed');
    expect(level).toBe('warn');
    expect(fields).toMatchObject({
      database: 'app',
      link: 'a->b',
      message: expect.stringContaining(reason) as string,
      failures: 1,
    });
    // What it had handled may be undone before the next has begun.
    expect(watermark.get()).toBe(LONG_AGO);
    expect(await thread.takeReport()).toMatchObject({
      status: 'failed',
      applyPid: null,
      error: { message: expect.stringContaining(reason) as string, sqlstate: 'XX000' },
      counts: { nr_disconnect: 1 },
    });
    expect((await line('ready')).fields).toMatchObject({ life: 2 });
    const report = await thread.takeReport();
    expect(report.status).toBe('streaming');
    expect(disconnects(report)).toBe(1);
  },
);

test('a thread that runs out of memory takes nothing else with it', async () => {
  const { line } = start(
    `if (life === 1) { const all = []; for (;;) all.push(new Array(1000).fill(life)); } ${OBEDIENT}`,
    { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 2 },
  );
  const { fields } = await line('link failed');
  expect(fields).toMatchObject({ message: expect.stringContaining('memory limit') as string });
  expect((await line('ready')).fields).toMatchObject({ life: 2 });
});

test('nobody waits for ever for a thread that dies instead of answering', async () => {
  const { thread, group, line } = start(
    `parentPort.on('message', () => process.exit(1)); log({}, 'ready');`,
  );
  await line('ready');
  await thread.tell(group);
  expect(await thread.takeReport()).toMatchObject({ status: 'failed' });
});

test('a thread that does not end when it is told to is ended', async () => {
  const { thread, line, lines } = start(`log({}, 'ready'); for (;;);`);
  await line('ready');
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const stopped = thread.stop();
  vi.advanceTimersByTime(5000);
  vi.useRealTimers();
  await stopped;
  expect(lines.map(({ message }) => message)).toContain(
    'the thread of a link does not end and is ended',
  );
  expect((await thread.takeReport()).status).toBe('down');
});

test('a thread that says nothing any more is ended, and started again', async () => {
  const { thread, line } = start(`
    if (life === 1) { log({}, 'silent'); for (;;); } ${OBEDIENT}`);
  await line('silent');
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const report = thread.takeReport();
  vi.advanceTimersByTime(30_000);
  vi.useRealTimers();
  await report;
  await line('the thread of a link does not answer and is ended');
  expect((await line('link failed')).fields).toMatchObject({ failures: 1 });
  expect((await line('ready')).fields).toMatchObject({ life: 2 });
});

test('a thread that is stopped while its program is loaded ends at once', async () => {
  const { thread, lines } = start(`await new Promise(setImmediate); ${OBEDIENT}`);
  await thread.stop();
  expect(lines.map(({ message }) => message)).toEqual(['ready']);
});

test('the thread gets the secrets that it needs, and the log none', async () => {
  const { line, lines } = start(`
    log({ knows: workerData.localDsn.length }, 'knows');
    if (life === 1) throw new Error('dies'); ${OBEDIENT}`);
  expect((await line('knows')).fields['knows']).toBe(DSN.length);
  await line('ready');
  expect(JSON.stringify(lines)).not.toContain('geheim');
});
