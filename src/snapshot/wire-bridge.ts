import { BdrError } from '../base/errors.ts';

/** What a client learns from a server while it connects, apart from who it is. */
export interface SessionGreeting {
  /** ParameterStatus values: server_version, client_encoding, standard_conforming_strings … */
  readonly parameters: Readonly<Record<string, string>>;
  readonly processId: number;
  readonly secretKey: number;
}

/** What to do with bytes that the client wrote. */
export interface Routed {
  /** For the server; may be empty. */
  readonly forward: Uint8Array;
  /** For the client, at once; may be empty. */
  readonly answer: Uint8Array;
  /** How many replies, each with a ReadyForQuery at its end, the server owes for it. */
  readonly replies: number;
  /** The client said goodbye: the server closes the connection now, and should. */
  readonly goodbye: boolean;
}

const PROTOCOL_3 = 3;
const SSL_REQUEST = 80877103;
const GSS_REQUEST = 80877104;
const QUERY = 0x51; // Q
const SYNC = 0x53; // S
const TERMINATE = 0x58; // X
const ERROR_RESPONSE = 0x45; // E
const READY_FOR_QUERY = 0x5a; // Z
const NOTHING = new Uint8Array(0);
// The longest message that a client with nothing to hide sends: a statement. Anything above is a broken stream.
const LONGEST_BYTES = 1 << 30;

/**
 * The client's half of a connection whose other half, the session, exists already: answers the start-up itself, then lets
 * messages pass and knows after which of them the server will speak. Pure: bytes in, bytes out.
 */
export class ClientSide {
  readonly #greeting: SessionGreeting;
  #started = false;
  #held: Buffer = Buffer.alloc(0);

  constructor(greeting: SessionGreeting) {
    this.#greeting = greeting;
  }

  /** Takes what the client wrote, which may be part of a message or several. */
  write(bytes: Uint8Array): Routed {
    this.#held = Buffer.concat([this.#held, bytes]);
    const forward: Uint8Array[] = [];
    const answer: Uint8Array[] = [];
    let replies = 0;
    let goodbye = false;
    for (let message = this.#next(); message; message = this.#next()) {
      if (!this.#started) answer.push(this.#answerStartup(message));
      else {
        forward.push(message);
        // Query and Sync are answered to the end. Pg_dump uses no other message that is.
        if (message[0] === QUERY || message[0] === SYNC) replies += 1;
        if (message[0] === TERMINATE) goodbye = true;
      }
    }
    return { forward: join(forward), answer: join(answer), replies, goodbye };
  }

  /** Cuts one whole message off what is held. Only start-up packets have no letter in front of their length. */
  #next(): Buffer | undefined {
    const letter = this.#started ? 1 : 0;
    if (this.#held.length < letter + 4) return undefined;
    const length = letter + this.#held.readUInt32BE(letter);
    if (length < letter + 4 || length > LONGEST_BYTES)
      throw new BdrError('schema_copy_failed', { message: 'pg_dump wrote a malformed message' });
    if (this.#held.length < length) return undefined;
    const message = this.#held.subarray(0, length);
    this.#held = this.#held.subarray(length);
    return message;
  }

  #answerStartup(packet: Buffer): Uint8Array {
    const code = packet.length >= 8 ? packet.readUInt32BE(4) : 0;
    if (code === SSL_REQUEST || code === GSS_REQUEST) return Buffer.from('N');
    if (code >>> 16 !== PROTOCOL_3)
      throw new BdrError('schema_copy_failed', {
        message: `pg_dump started with an unknown protocol ${code >>> 16}.${code & 0xffff}`,
      });
    this.#started = true;
    return greet(this.#greeting);
  }
}

/** AuthenticationOk, ParameterStatus …, BackendKeyData, ReadyForQuery. */
function greet({ parameters, processId, secretKey }: SessionGreeting): Uint8Array {
  const key = Buffer.alloc(8);
  key.writeInt32BE(processId | 0, 0);
  key.writeInt32BE(secretKey | 0, 4);
  return join([
    message('R', Buffer.alloc(4)),
    ...Object.entries(parameters).map(([name, value]) =>
      message('S', Buffer.from(`${name}\0${value}\0`)),
    ),
    message('K', key),
    message('Z', Buffer.from('I')),
  ]);
}

function message(letter: string, body: Uint8Array): Uint8Array {
  const head = Buffer.alloc(5);
  head.write(letter, 'latin1');
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 0) return NOTHING;
  return parts.length === 1 ? (parts[0] as Uint8Array) : Buffer.concat(parts);
}

/**
 * The server's half: finds where a reply ends, whatever the chunks are that it comes in, and remembers the last error for
 * the case that the server says why it goes away.
 */
export class ServerSide {
  #head: Buffer = Buffer.alloc(0);
  #skip = 0;
  #letter = 0;
  #error: Buffer[] | undefined;
  #lastError: string | undefined;

  /** The message of the last ErrorResponse. */
  get lastError(): string | undefined {
    return this.#lastError;
  }

  /**
   * Takes a chunk and says how many replies end in it. More may follow a reply's end without being asked for: a notice, a
   * changed parameter.
   */
  read(chunk: Uint8Array): number {
    let ends = 0;
    let at = 0;
    while (at < chunk.length) {
      if (this.#skip === 0) {
        const need = 5 - this.#head.length;
        this.#head = Buffer.concat([this.#head, chunk.subarray(at, at + need)]);
        at = Math.min(chunk.length, at + need);
        if (this.#head.length < 5) break;
        this.#letter = this.#head[0] as number;
        this.#skip = this.#head.readUInt32BE(1) - 4;
        this.#head = Buffer.alloc(0);
        this.#error = this.#letter === ERROR_RESPONSE ? [] : undefined;
        if (this.#skip < 0)
          throw new BdrError('protocol_violation', {
            message: 'malformed message from the server',
          });
      }
      const take = Math.min(this.#skip, chunk.length - at);
      this.#error?.push(Buffer.from(chunk.subarray(at, at + take)));
      this.#skip -= take;
      at += take;
      if (this.#skip > 0) continue;
      if (this.#letter === READY_FOR_QUERY) ends += 1;
      if (this.#error) {
        this.#lastError = errorText(Buffer.concat(this.#error));
        this.#error = undefined;
      }
    }
    return ends;
  }
}

/** The fields of an ErrorResponse are a letter and a text each; M is the message. */
function errorText(body: Buffer): string {
  const field = body
    .toString()
    .split('\0')
    .find((text) => text.startsWith('M'));
  return field?.slice(1) ?? 'unknown error';
}
