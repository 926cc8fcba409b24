import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { must } from '../base/assert.ts';
import { classify } from './postmaster.ts';
import { childrenOf, commandOf, isAlive, killTree } from './processes.ts';
import { watch } from './watchdog.ts';

const unix = process.platform !== 'win32';

test.skipIf(!unix)('a tree of processes is found and ended as a whole', async () => {
  const script = 'sleep 600 & sleep 600 & echo ready; wait';
  const shell = spawn('/bin/sh', ['-c', script], { stdio: ['ignore', 'pipe', 'ignore'] });
  await once(shell.stdout, 'data');
  const pid = must(shell.pid, 'pid');
  const children = childrenOf(pid);
  expect(children).toHaveLength(2);
  expect(commandOf(pid)).toContain('sleep 600');
  await killTree(pid, 10_000);
  expect([pid, ...children].filter(isAlive)).toEqual([]);
  await killTree(pid, 10_000); // and there is nothing left to do
});

test.skipIf(!unix)('the watchdog ends the server when its owner goes without a word', async () => {
  const server = spawn('sleep', ['600'], { stdio: 'ignore' });
  const ended = once(server, 'exit');
  const dog = must(watch(must(server.pid, 'pid'), undefined), 'watchdog') as ChildProcess;
  dog.stdin?.destroy(); // what the kernel does at our end
  expect(await ended).toEqual([null, 'SIGINT']);
  await once(dog, 'exit');
});

test('the log tells why a server did not come up', () => {
  expect(
    classify('LOG:  could not bind IPv4 address "127.0.0.1": Address already in use\nFATAL: …'),
  ).toBe('port');
  expect(classify('FATAL:  pre-existing shared memory block (key 1, ID 2) is still in use')).toBe(
    'memory',
  );
  expect(classify('FATAL:  unrecognized configuration parameter "nonsense"')).toBe('other');
});
