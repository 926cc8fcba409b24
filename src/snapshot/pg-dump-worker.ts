import type { MessagePort } from 'node:worker_threads';

/** From the thread: bytes that pg_dump wrote, a wish for more of the reply, or the end. */
export type FromThread =
  | { readonly kind: 'write'; readonly bytes: Uint8Array }
  | { readonly kind: 'more' }
  | { readonly kind: 'done'; readonly text: string }
  | { readonly kind: 'failed'; readonly message: string };

/** To the thread: a part of the reply to its last write; the last part says so. */
export interface ToThread {
  readonly bytes: Uint8Array;
  readonly last: boolean;
}

/** What the thread is given. */
export interface ThreadInput {
  readonly port: MessagePort;
  /** One number, raised whenever a message is posted, so that the thread can sleep until then. */
  readonly posted: Int32Array;
  /** File of the module that exports `pgDump`. */
  readonly module: string;
  readonly args: readonly string[];
}

interface WireClient {
  query: () => Promise<{ rows: { search_path: string }[] }>;
  exec: () => Promise<void>;
  execProtocolRawStream: (
    bytes: Uint8Array,
    to: { onRawData: (bytes: Uint8Array) => void },
  ) => void;
}

interface PgDumpModule {
  pgDump: (options: { pg: WireClient; args: string[] }) => Promise<File>;
}

/**
 * The program of the thread in which PostgreSQL's pg_dump runs as WebAssembly. pg_dump reads and writes as if its socket
 * blocked, so the thread sleeps in Atomics.wait until the main thread has posted the server's reply.
 *
 * It is handed to the thread as text: Node 20 cannot load a .ts file in a worker, and a text is the same from the sources
 * and from dist. So it uses nothing from outside itself, not even an import.
 */
export async function pgDumpThread(require: (id: string) => unknown): Promise<void> {
  const { receiveMessageOnPort, workerData } = require('node:worker_threads') as {
    receiveMessageOnPort: (port: MessagePort) => { message: ToThread } | undefined;
    workerData: ThreadInput;
  };
  const { port, posted, module, args } = workerData;
  const say = (message: FromThread) => port.postMessage(message);

  function nextMessage(): ToThread {
    for (;;) {
      const seen = Atomics.load(posted, 0);
      const received = receiveMessageOnPort(port);
      if (received) return received.message;
      Atomics.wait(posted, 0, seen);
    }
  }

  let replacementMeant = false;
  const pg: WireClient = {
    // pgDump() puts the search_path of PGlite's only session back. Here the session ends with the dump.
    query: () => Promise.resolve({ rows: [{ search_path: 'public' }] }),
    exec: () => Promise.resolve(),
    execProtocolRawStream: (bytes, { onRawData }) => {
      say({ kind: 'write', bytes: bytes.slice() });
      const parts: Uint8Array[] = [];
      for (let part = nextMessage(); ; part = nextMessage()) {
        parts.push(part.bytes);
        if (part.last) break;
        say({ kind: 'more' });
      }
      const reply = Buffer.concat(parts);
      // pgDump() removes psql's meta-commands from what pg_dump wrote, wherever a line begins with one.
      if (/[\n\r\u2028\u2029]\\(?:un)?restrict\b/i.test(reply.toString()))
        throw new Error(
          'an object of the schema holds a line that begins with "\\restrict", which pg_dump as WebAssembly would lose',
        );
      replacementMeant ||= reply.includes('\ufffd');
      // One call a reply: pgDump() copies all it holds each time.
      if (reply.length > 0) onRawData(reply);
    },
  };

  try {
    const { pgDump } = require(module) as PgDumpModule;
    const file = await pgDump({ pg, args: [...args] });
    const text = await file.text();
    if (text.includes('\ufffd') && !replacementMeant)
      throw new Error('the schema holds text that is not UTF-8');
    say({ kind: 'done', text });
  } catch (error) {
    say({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
  }
}
