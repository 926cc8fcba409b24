import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { EmbeddedServer } from '../../src/embedded/server.ts';
import type { CreateOptions } from '../../src/embedded/server.ts';

export type TestServerOptions = Partial<Omit<CreateOptions, 'temporary'>>;

/**
 * A running server in a directory of its own, for `await using`. Its disk writes are not waited for: no test cuts the power
 * of the machine. When it does not come up, the error holds the end of its log.
 */
export async function startServer(options: TestServerOptions = {}): Promise<EmbeddedServer> {
  const dir = options.dir ?? mkdtempSync(path.join(os.tmpdir(), 'pg-bdr-test-'));
  try {
    const server = await EmbeddedServer.create({
      ...options,
      dir,
      noSync: true,
      temporary: options.dir === undefined,
      settings: {
        fsync: false,
        shared_buffers: '32MB',
        // In the data directory: a crashed server that nobody restarts must not fill /dev/shm.
        dynamic_shared_memory_type: process.platform === 'win32' ? 'windows' : 'mmap',
        ...options.settings,
      },
    });
    await server.start();
    return server;
  } catch (error) {
    if (options.dir === undefined) rmSync(dir, { recursive: true, force: true });
    throw error;
  }
}
