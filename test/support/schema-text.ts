import { runWasmPgDump } from '../../src/snapshot/pg-dump-wasm.ts';
import { authenticatedSocket } from './authenticated-socket.ts';
import type { TestNode } from './cluster.ts';

/** What pg_dump says of a node's definitions, bdr's own aside. */
export async function schemaText(node: TestNode): Promise<string> {
  const { server } = node.host;
  const text = await runWasmPgDump(
    await authenticatedSocket({
      host: '127.0.0.1',
      port: server.port,
      user: 'postgres',
      database: node.database,
    }),
    [
      '--schema-only',
      '--exclude-schema=bdr',
      '--exclude-schema=bdr_guard',
      '--no-publications',
      '--no-subscriptions',
      '--encoding=UTF8',
    ],
  );
  // A key that is another one in each dump.
  return text.replace(/^\\(?:un)?restrict .*$/gm, '');
}
