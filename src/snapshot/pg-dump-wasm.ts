import { once } from 'node:events';
import { createRequire } from 'node:module';
import type { Socket } from 'node:net';
import { MessageChannel, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { BdrError, messageOf } from '../base/errors.ts';
import {
  pgDumpThread,
  type FromThread,
  type ThreadInput,
  type ToThread,
} from './pg-dump-worker.ts';
import { ClientSide, ServerSide, type SessionGreeting } from './wire-bridge.ts';

/**
 * A connection on which the start-up is over and no query runs. Nobody else listens for its data. Whoever is handed one owns
 * it and destroys it. `tls.TLSSocket` is a `Socket` too.
 */
export interface AuthenticatedSocket extends SessionGreeting {
  readonly socket: Socket;
}

/** The major of the pg_dump inside @electric-sql/pglite-tools. */
export const WASM_PG_DUMP_MAJOR = 18;

const PROGRAM = `void (${pgDumpThread.toString()})(require);`;
const KEEP_ALIVE_MS = 30_000;

/**
 * Runs PostgreSQL's pg_dump as WebAssembly in a thread of its own, on a connection that is authenticated already. The
 * thread is ended, and the connection closed, when pg_dump is through, fails, loses the server, or `signal` is aborted.
 */
export async function runWasmPgDump(
  connection: AuthenticatedSocket,
  args: readonly string[],
  signal?: AbortSignal,
): Promise<string> {
  const { socket } = connection;
  const channel = new MessageChannel();
  const posted = new Int32Array(new SharedArrayBuffer(4));
  const input: ThreadInput = {
    port: channel.port2,
    posted,
    module: createRequire(import.meta.url).resolve('@electric-sql/pglite-tools/pg_dump'),
    args,
  };
  let worker: Worker | undefined;
  try {
    signal?.throwIfAborted();
    if (socket.destroyed) throw new Error('the connection is closed');
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    worker = new Worker(PROGRAM, {
      eval: true,
      workerData: input,
      transferList: [channel.port2],
      env: {},
      stdout: true,
      stderr: true,
    });
    return await converse(worker, channel.port1, posted, connection, signal);
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof BdrError) throw error;
    throw new BdrError('schema_copy_failed', {
      message: `pg_dump (WebAssembly) failed: ${messageOf(error)}`,
      cause: error,
    });
  } finally {
    channel.port1.close();
    socket.destroy();
    await worker?.terminate();
  }
}

/** Carries bytes between the thread and the server until the thread says that it is through. */
function converse(
  worker: Worker,
  port: MessageChannel['port1'],
  posted: Int32Array,
  connection: AuthenticatedSocket,
  signal: AbortSignal | undefined,
): Promise<string> {
  const { socket } = connection;
  const client = new ClientSide(connection);
  const server = new ServerSide();

  const post = (message: ToThread) => {
    port.postMessage(message);
    Atomics.add(posted, 0, 1);
    Atomics.notify(posted, 0);
  };

  return new Promise<string>((resolve, reject) => {
    let owed = 0; // replies that the server has not ended yet
    let goodbye = false;
    let over = false;
    const end = (settle: () => void) => {
      if (over) return;
      over = true;
      signal?.removeEventListener('abort', onAbort);
      socket.off('data', onData).off('close', onClose).off('error', onError);
      socket.on('error', () => undefined); // it is destroyed next: what it still has to say comes too late
      settle();
    };
    const fail = (error: unknown) => end(() => reject(error as Error));
    const onAbort = () => fail(signal?.reason);
    const onError = (error: Error) => {
      if (!goodbye) fail(error);
    };
    const onClose = () => {
      if (!goodbye) fail(closedByServer(server.lastError));
    };
    // One chunk at a time: the socket rests until the thread has taken it.
    const onData = (chunk: Buffer) => {
      socket.pause();
      try {
        owed -= server.read(chunk);
        post({ bytes: chunk, last: owed <= 0 });
      } catch (error) {
        fail(error);
      }
    };
    const onWrite = async (bytes: Uint8Array) => {
      if (goodbye) throw new Error('it wrote after its goodbye');
      const routed = client.write(bytes);
      goodbye = routed.goodbye;
      owed += routed.replies;
      if (routed.forward.length > 0 && !socket.write(routed.forward) && !goodbye)
        await once(socket, 'drain');
      if (owed <= 0 || routed.answer.length > 0) post({ bytes: routed.answer, last: owed <= 0 });
      else socket.resume();
    };
    const onMessage = (message: FromThread) => {
      switch (message.kind) {
        case 'write':
          onWrite(message.bytes).catch(fail);
          break;
        case 'more':
          socket.resume();
          break;
        case 'done':
          end(() => resolve(message.text));
          break;
        case 'failed':
          fail(
            new BdrError('schema_copy_failed', {
              message: 'pg_dump (WebAssembly) failed',
              detail: message.message,
            }),
          );
          break;
      }
    };

    port.on('message', onMessage);
    worker.once('error', fail);
    worker.once('exit', () => {
      // Its last words may still lie in the channel.
      const last = receiveMessageOnPort(port) as { message: FromThread } | undefined;
      if (last) onMessage(last.message);
      fail(new Error('its thread ended'));
    });
    signal?.addEventListener('abort', onAbort, { once: true });
    socket.pause(); // first, so that the listener for data does not start the flow
    socket.on('data', onData).on('close', onClose).on('error', onError);
  });
}

function closedByServer(lastError: string | undefined): BdrError {
  return new BdrError('schema_copy_failed', {
    message: 'the server closed the connection during pg_dump',
    detail: lastError,
  });
}
