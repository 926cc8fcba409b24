import pg from 'pg';
import type { ClientConfig, Notification } from 'pg';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { BdrError } from '../base/errors.ts';
import { quoteIdent, quoteLiteral } from '../base/names.ts';
import {
  connectionAttempts,
  describeConninfo,
  type ConnectionAttempt,
  type Conninfo,
} from './conninfo.ts';
import { connectionLost, explainConnectFailure } from './connect-failure.ts';
import { DriverQuery, type QueryCallback } from './driver-query.ts';

export interface SessionOptions {
  readonly applicationName: string;
  /** Opens a walsender connection to the database, which also runs SQL. */
  readonly replication?: 'database';
  /** Settings made right after connecting. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  /** Limit for connecting, where the DSN itself gives none. */
  readonly connectTimeoutMs?: number;
  /** A statement without an answer for so long fails; for servers behind a network that may go silent. */
  readonly queryTimeoutMs?: number;
  /** Statements are sent at once, in the order of the calls, without waiting for the answers to those before. */
  readonly pipeline?: boolean;
}

/**
 * The settings of every session of ours: values must mean the same on both sides of a link whatever the servers' defaults are
 * (text formats), names must resolve to nothing by accident, and a session must not outlive the process that holds it.
 */
const COMMON_SETTINGS: Readonly<Record<string, string>> = {
  // First: others may be for superusers.
  role: 'none',
  datestyle: 'ISO, YMD',
  intervalstyle: 'postgres',
  extra_float_digits: '3',
  bytea_output: 'hex',
  lc_monetary: 'C',
  timezone: 'UTC',
  xmloption: 'content',
  array_nulls: 'on',
  standard_conforming_strings: 'on',
  quote_all_identifiers: 'off',
  statement_timeout: '0',
  lock_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  idle_session_timeout: '0',
  default_transaction_isolation: 'read committed',
  default_transaction_read_only: 'off',
  client_min_messages: 'warning',
  exit_on_error: 'off',
};

/** For the very statement that applies them not to be cancelled: a database may have a timeout of its own. */
const FROM_THE_START = '-c statement_timeout=0';

/**
 * Unless it is named last, the schema of temporary objects is searched first for tables and types: there users' code that a
 * session has run may have put some.
 */
const SEARCH_PATH = /* sql */ `SET search_path = pg_catalog, pg_temp`;

/**
 * Where the server has it, and the role may: some came with later minors and majors, temp_file_limit is for superusers. It is asked by
 * name: pg_settings would need a temporary file itself where work_mem is small.
 */
const SETTINGS_OF_SOME = /* sql */ `
  SELECT set_config(w.name, w.value, false)
  FROM (
      VALUES ('transaction_timeout', '0', false),
             ('restrict_nonsystem_relation_kind', '', false),
             ('temp_file_limit', '-1', true)
  ) AS w (name, value, superuser)
  WHERE current_setting(w.name, true) <> w.value
    AND (NOT w.superuser OR (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user))
`;

const DEFAULT_CONNECT_TIMEOUT_MS = 15_000;

/**
 * One connection to a server. Values travel as text: every value of a result is the server's text or null, and a parameter is
 * text, null, or a Buffer, which is sent in binary format.
 */
export class Session implements AsyncDisposable {
  readonly #client: pg.Client;
  readonly #lost = new AbortController();
  readonly #parameters: Record<string, string> = {};
  #closing = false;
  #stopListening: () => void = () => undefined;

  /** Connects to the first host of the DSN that answers, and applies the settings. Throws BdrError. */
  static async connect(conninfo: Conninfo, options: SessionOptions): Promise<Session> {
    options.signal?.throwIfAborted();
    let failure: unknown;
    for (const attempt of connectionAttempts(conninfo)) {
      if (attempt.onlyAfter !== undefined && !attempt.onlyAfter(failure)) continue;
      const client = new pg.Client({
        ...attempt.config,
        options: `${attempt.config.options ?? ''} ${FROM_THE_START}`,
        application_name: options.applicationName,
        ...(options.replication ? { replication: options.replication } : {}),
        connectionTimeoutMillis:
          attempt.config.connectionTimeoutMillis ||
          (options.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS),
        ...(options.queryTimeoutMs === undefined ? {} : { query_timeout: options.queryTimeoutMs }),
        pipeline: options.pipeline ?? false,
        types: { getTypeParser: () => (value: string | Buffer) => value },
      } as ClientConfig);
      try {
        return await Session.#open(client, options, attempt.accepts);
      } catch (error) {
        options.signal?.throwIfAborted();
        failure = error;
      }
    }
    throw explainConnectFailure(failure, describeConninfo(conninfo));
  }

  static async #open(
    client: pg.Client,
    options: SessionOptions,
    accepts: ConnectionAttempt['accepts'],
  ): Promise<Session> {
    const abort = () => connectionOf(client).stream.destroy();
    options.signal?.addEventListener('abort', abort, { once: true });
    const session = new Session(client);
    try {
      await client.connect();
      if (accepts && !accepts(session.#parameters)) {
        throw new BdrError('connection_failed', {
          message: 'session is not of the kind that target_session_attrs asks for',
        });
      }
      const settings = { ...COMMON_SETTINGS, ...options.settings };
      await client.query(
        [
          SEARCH_PATH,
          ...Object.entries(settings).map(
            ([name, value]) => `SET ${quoteSetting(name)} = ${quoteLiteral(value)}`,
          ),
          SETTINGS_OF_SOME,
        ].join('; '),
      );
      return session;
    } catch (error) {
      await session.close();
      throw error;
    } finally {
      options.signal?.removeEventListener('abort', abort);
    }
  }

  private constructor(client: pg.Client) {
    this.#client = client;
    // Without a listener a connection that breaks while idle would end the process.
    const gone = (error?: Error) => {
      if (this.#lost.signal.aborted) return;
      this.#lost.abort(this.#closing ? new Error('session closed') : connectionLost(error));
    };
    connectionOf(client).on('parameterStatus', (status) => {
      this.#parameters[status.parameterName] = status.parameterValue;
    });
    client.on('error', gone);
    client.on('end', () => gone());
  }

  /** Process id of the session's backend. */
  get pid(): number {
    return (this.#client as unknown as { processID: number }).processID;
  }

  /** Aborted, with the reason, once the connection is gone. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** From now on the session breaks, in the middle of whatever it does, when `signal` is aborted. */
  abortOn(signal: AbortSignal): void {
    const abort = () => this.abort();
    if (signal.aborted) return abort();
    signal.addEventListener('abort', abort, { once: true });
    this.#stopListening = () => signal.removeEventListener('abort', abort);
  }

  /** Runs one statement; the rows' values are text. Throws the server's error with its SQLSTATE in `code`. */
  async query<Row extends object>(text: string, params: readonly Param[] = []): Promise<Row[]> {
    this.#lost.signal.throwIfAborted();
    const result = await this.#client.query<Row>(text, params as unknown[]);
    return result.rows;
  }

  /** Runs one statement and tells how many rows it took. */
  async run(text: string, params: readonly Param[] = []): Promise<number> {
    this.#lost.signal.throwIfAborted();
    const result = await this.#client.query(text, params as unknown[]);
    return result.rowCount ?? 0;
  }

  /** Runs a statement that is prepared under `name` at its first use. */
  async execute<Row extends object>(
    name: string,
    text: string,
    params: readonly Param[],
  ): Promise<{ rows: Row[]; count: number }> {
    this.#lost.signal.throwIfAborted();
    const result = await this.#client.query<Row>({ name, text, values: params as unknown[] });
    return { rows: result.rows, count: result.rowCount ?? 0 };
  }

  isPrepared(name: string): boolean {
    return name in connectionOf(this.#client).parsedStatements;
  }

  /** Prepares a statement under `name`, for `sendBatch`. */
  async prepare(name: string, text: string): Promise<void> {
    this.#lost.signal.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const query = new PrepareQuery({ name, text }, undefined, (error) =>
        error ? reject(error) : resolve(),
      );
      this.#client.query(query as unknown as pg.Submittable);
    });
  }

  /** Gives up a statement that `execute` or `prepare` prepared, if one did. */
  async unprepare(name: string): Promise<void> {
    const { parsedStatements } = connectionOf(this.#client);
    if (!(name in parsedStatements)) return;
    await this.script(`DEALLOCATE ${quoteIdent(name)}`);
    delete parsedStatements[name];
  }

  /** Runs several statements, without parameters, in one message; returns the last one's rows. */
  async script<Row extends object>(text: string): Promise<Row[]> {
    this.#lost.signal.throwIfAborted();
    const result = (await this.#client.query(text)) as unknown as
      { rows: Row[] } | readonly { rows: Row[] }[];
    return Array.isArray(result)
      ? ((result.at(-1) as { rows: Row[] }).rows ?? [])
      : (result as { rows: Row[] }).rows;
  }

  /** Runs `work` in a transaction: committed when it returns, rolled back when it throws. */
  async transaction<T>(work: () => Promise<T>, begin = 'BEGIN'): Promise<T> {
    await this.script(begin);
    try {
      const result = await work();
      await this.script('COMMIT');
      return result;
    } catch (error) {
      if (!this.lost.aborted) await this.script('ROLLBACK');
      throw error;
    }
  }

  /** Listens on a channel; `heard` is called for each notification. */
  async listen(channel: string, heard: () => void): Promise<void> {
    this.#client.on('notification', (message: Notification) => {
      if (message.channel === channel) heard();
    });
    await this.script(`LISTEN ${quoteIdent(channel)}`);
  }

  /**
   * Runs a COPY … FROM STDIN with all its data, sent at once. In a pipeline too: when COPY fails, the server passes over the data.
   * Returns how many rows it took.
   */
  async copyIn(text: string, data: Buffer): Promise<number> {
    this.#lost.signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      const query = new CopyInQuery(text, data, (error, result) => {
        if (error) reject(error);
        else resolve(result?.rowCount ?? 0);
      });
      this.#client.query(query as unknown as pg.Submittable);
    });
  }

  /** For COPY streams, which the driver runs as queries of their own kind. */
  submit<T extends pg.Submittable>(submittable: T): T {
    this.#lost.signal.throwIfAborted();
    return this.#client.query(submittable);
  }

  /** As `detach`, with what the server said at the start, for a program that expects to hear it. */
  detachWithGreeting(): {
    readonly socket: Socket;
    readonly parameters: Readonly<Record<string, string>>;
    readonly processId: number;
    readonly secretKey: number;
  } {
    const { secretKey } = this.#client as unknown as { secretKey: number };
    const processId = this.pid;
    // The driver would report the end of a connection that is no longer its own.
    this.#closing = true;
    return { socket: this.detach() as Socket, parameters: this.#parameters, processId, secretKey };
  }

  /** Takes the authenticated socket away from the driver, to speak another protocol over it. The session is used no more. */
  detach(): Duplex {
    const { stream } = connectionOf(this.#client);
    stream.removeAllListeners('data');
    return stream;
  }

  /** Ends the session; waits for the server only briefly. Never throws. */
  async close(): Promise<void> {
    this.#stopListening();
    if (this.#closing) return;
    this.#closing = true;
    const { stream } = connectionOf(this.#client);
    if (stream.destroyed) return;
    const forced = setTimeout(() => stream.destroy(), 1000);
    try {
      await this.#client.end();
    } catch (error) {
      // The connection is being given up: that it is gone already is what was wanted.
      this.#lost.abort(error);
    } finally {
      clearTimeout(forced);
    }
  }

  /** Breaks the connection at once, in the middle of whatever it does. */
  abort(): void {
    this.#closing = true;
    connectionOf(this.#client).stream.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

export type Param = string | number | boolean | null | Buffer;

/** Room for the letter and the length of a protocol message. */
const HEADER_BYTES = 5;
/** A message may hold a gigabyte; smaller ones let the server begin to work. */
const MOST_COPY_BYTES = 64 * 1024;

/** The driver's own query, which goes no further than to prepare. */
class PrepareQuery extends DriverQuery {
  override submit(connection: pg.Connection): void {
    connection.parse({ name: this.name, text: this.text, types: [] }, true);
    connection.sync();
  }
}

/** The driver's own query, which answers a COPY with its data where that one would refuse it. */
class CopyInQuery extends DriverQuery {
  readonly #data: Buffer;

  constructor(text: string, data: Buffer, callback: QueryCallback) {
    super(text, undefined, callback);
    this.#data = data;
  }

  override submit(connection: pg.Connection): void {
    const { stream } = connection as unknown as DriverConnection;
    stream.cork();
    super.submit(connection);
    for (let from = 0; from < this.#data.length; from += MOST_COPY_BYTES) {
      const chunk = this.#data.subarray(from, from + MOST_COPY_BYTES);
      stream.write(copyMessage(0x64, chunk.length)); // d
      stream.write(chunk);
    }
    stream.write(copyMessage(0x63, 0)); // c
    stream.uncork();
  }

  /** The data is on its way already. */
  handleCopyInResponse(): void {}
}

function copyMessage(type: number, length: number): Buffer {
  const header = Buffer.allocUnsafe(HEADER_BYTES);
  header[0] = type;
  header.writeUInt32BE(length + 4, 1);
  return header;
}

/** `pg` keeps its socket on an object that its types do not name. */
function connectionOf(client: pg.Client): DriverConnection {
  return (client as unknown as { connection: DriverConnection }).connection;
}

interface DriverConnection {
  readonly stream: Duplex;
  /** Texts of the prepared statements by name. */
  readonly parsedStatements: Record<string, string>;
  on(
    event: 'parameterStatus',
    listener: (status: { parameterName: string; parameterValue: string }) => void,
  ): void;
}

/** A setting's name may have one dot, as in `bdr.x`. */
function quoteSetting(name: string): string {
  return name.split('.').map(quoteIdent).join('.');
}
