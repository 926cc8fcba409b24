import { markAgentSession } from '../postgres/advisory.ts';
import type { Conninfo } from '../postgres/conninfo.ts';
import { Session } from '../postgres/session.ts';

/** Enough to note an error, and for what the server writes while the objects of some thousands of tables are dropped. */
const BYTES = 4 * 1024 * 1024;
const PAGE_BYTES = 8192;
/** So many rows of one name go on a page of which a tenth may be used. */
const ROWS_PER_PAGE = 8;

/**
 * Room on the database's disk that a copy keeps, because it may fill that disk to the last page: then its failure could not be noted,
 * and what it has copied could not be dropped, since both write a little first. A temporary table: its room is given back
 * whatever becomes of the session, the agent or the server.
 */
export class DiskReserve implements AsyncDisposable {
  readonly #session: Session;

  private constructor(session: Session) {
    this.#session = session;
  }

  /** Throws the server's error when there is no room for it. */
  static async take(database: Conninfo, signal: AbortSignal): Promise<DiskReserve> {
    const session = await Session.connect(database, {
      applicationName: 'bdr:reserve',
      signal,
      settings: {
        session_replication_role: 'replica',
        synchronous_commit: 'off',
        // On the disk that the copy fills.
        temp_tablespaces: '',
      },
    });
    session.abortOn(signal);
    try {
      await markAgentSession(session);
      // As wide as a page is, rows would go to a table of long values, packed.
      await session.script(/* sql */ `
        CREATE TEMPORARY TABLE bdr_reserve (filler name) WITH (fillfactor = 10);
        INSERT INTO pg_temp.bdr_reserve SELECT 'x' FROM generate_series(1, ${(BYTES / PAGE_BYTES) * ROWS_PER_PAGE})
      `);
    } catch (error) {
      await session.close();
      throw error;
    }
    return new DiskReserve(session);
  }

  /** Gives the room back. Never throws: with the session the room is given back as well. */
  async free(): Promise<void> {
    try {
      // Not DROP, which event triggers would hear of: to write what they note there is no room yet.
      await this.#session.script('DISCARD TEMP');
    } catch {
      // The session is lost, or the server could not.
    }
    await this.#session.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.free();
  }
}
