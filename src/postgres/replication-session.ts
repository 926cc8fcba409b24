import type { Duplex } from 'node:stream';
import { ProtocolError } from '../base/bytes.ts';
import { BdrError } from '../base/errors.ts';
import { formatLsn, type Lsn } from '../base/lsn.ts';
import { quoteIdent, quoteLiteral } from '../base/names.ts';
import type { Conninfo } from './conninfo.ts';
import { Session } from './session.ts';
import { SQLSTATE } from './sqlstate.ts';

export interface StreamRequest {
  readonly slot: string;
  readonly publications: readonly string[];
  readonly start: Lsn;
  /** Major version of the provider; decides the protocol version and whether it filters origins itself. */
  readonly providerMajor: number;
  /** Whether large transactions are sent in chunks before they have committed, and not as a whole afterwards. */
  readonly streaming: boolean;
  /** Text is sent as the database has it, not converted to UTF-8: bytes that are none are no error there. */
  readonly asStored?: boolean;
}

/**
 * The payloads of the CopyData messages that one read of the socket has completed, as places in one buffer: an object for each
 * would cost more than to decode it. The buffer is never used again, so views of it stay valid.
 */
export interface FrameBatch {
  readonly buffer: Buffer;
  /** Where each payload begins and ends, by turns. */
  readonly bounds: readonly number[];
}

// Message types of the frontend/backend protocol that a walsender uses while streaming.
const COPY_DATA = 0x64; // d
const COPY_DONE = 0x63; // c
const ERROR_RESPONSE = 0x45; // E
const HEADER_BYTES = 5;
const MOST_FRAME_BYTES = 0x4000_0000; // a value is at most 1 GB

/** The server says the slot it was asked for cannot be read. */
export class SlotUnusable extends Error {
  readonly sqlstate: string;

  constructor(message: string, sqlstate: string) {
    super(message);
    this.name = 'SlotUnusable';
    this.sqlstate = sqlstate;
  }
}

/** Why the server does not go on with the stream, in its own words; `code` is the SQLSTATE. */
export class StreamError extends Error {
  readonly code: string;
  readonly detail: string | undefined;

  constructor(message: string, code: string, detail: string | undefined) {
    super(message);
    this.name = 'StreamError';
    this.code = code;
    this.detail = detail;
  }
}

/**
 * The stream of one logical slot. `pg` does connection, TLS and authentication; the stream itself is read from the socket as
 * frames, because a query object a row is what the driver would make of it. The socket is read only as fast as its reader asks,
 * which is the back-pressure of the whole link.
 */
export class ReplicationSession implements AsyncDisposable {
  readonly #session: Session;
  readonly #socket: Duplex;

  static async start(
    conninfo: Conninfo,
    request: StreamRequest,
    options: { applicationName: string; signal: AbortSignal },
  ): Promise<ReplicationSession> {
    const settings = request.asStored ? { client_encoding: 'SQL_ASCII' } : {};
    const session = await Session.connect(conninfo, {
      ...options,
      settings,
      replication: 'database',
    });
    return new ReplicationSession(session, request, options.signal);
  }

  /** Opens a replication connection only to ask which server answers: its system identifier. */
  static async identify(
    conninfo: Conninfo,
    options: { applicationName: string; signal: AbortSignal },
  ): Promise<string> {
    await using session = await Session.connect(conninfo, { ...options, replication: 'database' });
    const [row] = await session.script<{ systemid: string }>('IDENTIFY_SYSTEM');
    return row?.systemid ?? '';
  }

  private constructor(session: Session, request: StreamRequest, signal: AbortSignal) {
    this.#session = session;
    this.#socket = session.detach();
    // It flows, and nobody listens any more: what came before batches() is called would be lost.
    this.#socket.pause();
    signal.addEventListener('abort', () => session.abort(), { once: true });
    this.#socket.write(simpleQuery(startCommand(request)));
  }

  /** What arrives. Ends when the server ends the stream; throws when the connection breaks, and StreamError or SlotUnusable when the server refuses to go on. */
  async *batches(): AsyncGenerator<FrameBatch, void, void> {
    let pending: Buffer[] = [];
    let pendingBytes = 0;
    let wanted = HEADER_BYTES;
    for await (const chunk of this.#socket as AsyncIterable<Buffer>) {
      pending.push(chunk);
      pendingBytes += chunk.length;
      // A large message comes in many chunks: join them once it is complete, not each time one arrives.
      if (pendingBytes < wanted) continue;
      const input = pending.length === 1 ? chunk : Buffer.concat(pending, pendingBytes);
      const bounds: number[] = [];
      let offset = 0;
      wanted = HEADER_BYTES;
      while (input.length - offset >= HEADER_BYTES) {
        const length = input.readUInt32BE(offset + 1) + 1;
        if (length < HEADER_BYTES || length > MOST_FRAME_BYTES) {
          throw new ProtocolError(`message of ${length} bytes`, offset);
        }
        if (input.length - offset < length) {
          wanted = length;
          break;
        }
        const type = input[offset] as number;
        const from = offset + HEADER_BYTES;
        offset += length;
        switch (type) {
          case COPY_DATA:
            bounds.push(from, offset);
            break;
          case ERROR_RESPONSE:
            // What it is about may have come right before it.
            if (bounds.length > 0) yield { buffer: input, bounds };
            throw serverError(input.subarray(from, offset));
          case COPY_DONE:
            if (bounds.length > 0) yield { buffer: input, bounds };
            return;
          default:
            // CopyBothResponse at the start; notices and changed parameters at any time. They say nothing about the stream.
            break;
        }
      }
      pending = offset < input.length ? [input.subarray(offset)] : [];
      pendingBytes = input.length - offset;
      if (bounds.length > 0) yield { buffer: input, bounds };
    }
    throw new BdrError('connection_failed', { message: 'the provider closed the connection' });
  }

  /** Sends one CopyData message, such as a standby status update. */
  send(payload: Buffer): void {
    if (this.#socket.destroyed) return;
    const header = Buffer.allocUnsafe(HEADER_BYTES);
    header[0] = COPY_DATA;
    header.writeUInt32BE(payload.length + 4, 1);
    this.#socket.write(Buffer.concat([header, payload]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#session.abort();
    await Promise.resolve();
  }
}

function startCommand(request: StreamRequest): string {
  const { providerMajor: major } = request;
  const options: [string, string][] = [
    ['proto_version', major >= 16 ? '4' : major === 15 ? '3' : '2'],
    ['publication_names', request.publications.map(quoteIdent).join(',')],
    // Text, because the binary form of arrays and composites of a user's types holds OIDs that differ between servers.
    ['binary', 'false'],
    ['messages', 'true'],
  ];
  if (request.streaming) options.push(['streaming', 'on']);
  if (major >= 16) options.push(['origin', 'none']);
  const list = options.map(([name, value]) => `${name} ${quoteLiteral(value)}`).join(', ');
  return `START_REPLICATION SLOT ${quoteIdent(request.slot)} LOGICAL ${formatLsn(request.start)} (${list})`;
}

function simpleQuery(text: string): Buffer {
  const body = Buffer.from(`${text}\0`, 'utf8');
  const header = Buffer.allocUnsafe(HEADER_BYTES);
  header[0] = 0x51; // Q
  header.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([header, body]);
}

/** ErrorResponse: fields of one letter and a string each (manual, "Error and Notice Message Fields"). */
function serverError(body: Buffer): Error {
  const fields = new Map<string, string>();
  for (const field of body.toString('utf8').split('\0')) {
    if (field !== '') fields.set(field.slice(0, 1), field.slice(1));
  }
  const sqlstate = fields.get('C') ?? 'XX000';
  const message = fields.get('M') ?? 'unknown error';
  const slotStates: readonly string[] = [
    SQLSTATE.undefinedObject,
    SQLSTATE.objectNotInPrerequisiteState,
  ];
  if (slotStates.includes(sqlstate)) return new SlotUnusable(message, sqlstate);
  return new StreamError(message, sqlstate, fields.get('D'));
}
