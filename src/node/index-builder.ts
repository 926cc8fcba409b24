import { BdrError, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { quoteIdent } from '../base/names.ts';
import {
  endIndexBuild,
  isNoted,
  isTableGone,
  noteFailedBuild,
  readIndexBuilds,
  takeSettings,
  type IndexBuild,
} from '../catalog/index-builds.ts';
import { markAgentSession } from '../postgres/advisory.ts';
import { findIndex } from '../postgres/built-index.ts';
import type { Conninfo } from '../postgres/conninfo.ts';
import { Session } from '../postgres/session.ts';
import { describeError } from './describe-error.ts';

const RETRY_MS = 5000;

/**
 * Builds the indexes that peers have built CONCURRENTLY, so that links go on meanwhile, and users write. A row of bdr.index_build is
 * there until its index is: whatever ends a build, a crash too, leaves an invalid index, which is dropped when it begins again.
 */
export class IndexBuilder {
  readonly #local: Conninfo;
  readonly #log: Logger;
  #notBefore = -Infinity;
  #stop: AbortController | undefined;
  #running: Promise<void> | undefined;

  constructor(local: Conninfo, log: Logger) {
    this.#local = local;
    this.#log = log;
  }

  /** Call it about once a second, in a node that is no longer being filled. It waits for nothing that takes long. */
  async look(session: Session, signal: AbortSignal): Promise<void> {
    if (this.#running || performance.now() < this.#notBefore) return;
    const builds = await readIndexBuilds(session);
    if (builds.length === 0) return;
    const stop = new AbortController();
    this.#stop = stop;
    this.#running = this.#run(builds, AbortSignal.any([signal, stop.signal])).finally(() => {
      this.#running = undefined;
    });
  }

  async stop(): Promise<void> {
    this.#stop?.abort();
    await this.#running;
  }

  async #run(builds: readonly IndexBuild[], signal: AbortSignal): Promise<void> {
    try {
      await using session = await this.#connect(signal);
      for (const build of builds) {
        const { table, index } = build;
        if (!(await isNoted(session, build))) continue;
        try {
          await this.#build(session, build, signal);
          await endIndexBuild(session, build);
          this.#log.info({ table, index }, 'index is built');
        } catch (error) {
          signal.throwIfAborted();
          session.lost.throwIfAborted();
          if (await isTableGone(session, build)) {
            await endIndexBuild(session, build);
            this.#log.warn({ table, index }, 'index is not built: its table is gone');
            continue;
          }
          this.#notBefore = performance.now() + RETRY_MS;
          await noteFailedBuild(session, build, messageOf(error));
          this.#log.error({ table, index, ...describeError(error) }, 'index cannot be built');
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      this.#notBefore = performance.now() + RETRY_MS;
      this.#log.warn(describeError(error), 'indexes are not built yet');
    }
  }

  async #build(session: Session, build: IndexBuild, signal: AbortSignal): Promise<void> {
    const { text, index, perpetrator, searchPath, settings } = build;
    // Names mean in it what they meant to the role, so that it asks nothing but this.
    await using role = await this.#connect(signal);
    await takeSettings(role, settings);
    await role.query(`SELECT set_config('search_path', $1, false)`, [searchPath]);
    await role.script(`SET ROLE ${quoteIdent(perpetrator)}`);
    const relation = await namedTable(role, build);
    const left = await findIndex(session, relation, index);
    if (left?.isValid) return;
    if (left) await session.script(`DROP INDEX CONCURRENTLY ${left.name}`);
    await role.query(text);
    if (await findIndex(session, relation, index)) return;
    // While it waited for the table that was dropped, and another one made of the name.
    const strange = await findIndex(session, await namedTable(role, build, false), index);
    if (strange) await session.script(`DROP INDEX CONCURRENTLY ${strange.name}`);
    throw new BdrError('apply_failed', { message: `relation ${build.table} was made anew` });
  }

  async #connect(signal: AbortSignal): Promise<Session> {
    const session = await Session.connect(this.#local, {
      applicationName: 'bdr:index',
      signal,
      settings: {
        // What is done here is not captured again.
        session_replication_role: 'replica',
        synchronous_commit: 'local',
        // The server ends a build that nobody waits for.
        client_connection_check_interval: '1s',
      },
    });
    session.abortOn(signal);
    await markAgentSession(session);
    return session;
  }
}

/** The OID of the table that the command names, which is to be the one that it named when it was noted, if that `mustBeSame`. */
async function namedTable(
  role: Session,
  { table, relation }: IndexBuild,
  mustBeSame = true,
): Promise<string> {
  const [found] = await role.query<{ oid: string | null }>(
    'SELECT pg_catalog.to_regclass($1)::pg_catalog.oid AS oid',
    [table],
  );
  const oid = found?.oid ?? null;
  if (oid !== null && (!mustBeSame || relation === null || oid === relation)) return oid;
  throw new BdrError('apply_failed', {
    message:
      oid === null
        ? `relation ${table} does not exist`
        : `relation ${table} is another one than when the index was built on another node`,
    hint: 'If it has another name by now, delete the row in bdr.index_build, and build the index by hand with bdr.skip_ddl_replication = on.',
  });
}
