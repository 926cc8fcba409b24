import type { Logger } from '../base/logger.ts';
import { restartOnFailure } from '../base/restart.ts';
import { pause, Wakeup } from '../base/wait.ts';
import type { Endpoints } from '../membership/endpoints.ts';
import { agentLockHolder, tryAgentLock } from '../postgres/advisory.ts';
import {
  conninfoParameters,
  describeConninfo,
  parseConninfo,
  resolveConninfo,
  withConninfo,
  type ConninfoEnvironment,
} from '../postgres/conninfo.ts';
import { readNodeDatabases, readMeetingDatabase, type Database } from '../postgres/databases.ts';
import { Session } from '../postgres/session.ts';
import { describeError } from './describe-error.ts';
import { NodeService } from './node-service.ts';

/** How soon a database that has become a node is noticed: nothing but a look tells of one. The look is a query on two small catalogs. */
const LOOK_INTERVAL_MS = 250;
const STANDBY_POLL_MS = 500;
const RETRY = { firstMs: 500, mostMs: 10_000 };

/**
 * The agent of one server: finds the databases that are nodes and serves each of them. It is told nothing but how to reach the
 * server; everything about groups is in the databases. Of several agents for a server one works, and the others wait for its
 * lock, which ends with its session.
 */
export class Agent {
  readonly #dsn: string;
  readonly #environment: ConninfoEnvironment;
  readonly #log: Logger;
  readonly #stop = new AbortController();
  readonly #wakeup = new Wakeup();
  readonly #nodes = new Map<number, { service: NodeService; database: Database }>();
  #done: Promise<void> = Promise.resolve();

  /** Throws BdrError `invalid_dsn`. */
  constructor(dsn: string, environment: ConninfoEnvironment, log: Logger) {
    this.#dsn = dsn;
    this.#environment = environment;
    this.#log = log;
    for (const warning of resolveConninfo(dsn, environment).warnings) log.warn({}, warning);
  }

  start(): void {
    this.#done = this.#run();
  }

  /** Ends all work cleanly: what is being applied is given up, and comes again at the next start. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#wakeup.raise();
    await this.#done;
  }

  #run(): Promise<void> {
    const { signal } = this.#stop;
    return restartOnFailure(() => this.#serve(signal), {
      limits: RETRY,
      random: Math.random,
      signal,
      onFailure: ({ error, retryInMs }) =>
        this.#log.error({ ...describeError(error), retryInMs }, 'agent lost its server'),
    });
  }

  /** Serves for as long as the session that holds the lock lives: without the lock another agent may be at work. */
  async #serve(signal: AbortSignal): Promise<void> {
    await using session = await this.#openMeetingSession(signal);
    if (!(await this.#becomeAgent(session, signal))) return;
    this.#log.info(
      { server: describeConninfo(this.#dsn), pid: session.pid },
      'agent serves this server',
    );
    const onLost = () => this.#wakeup.raise();
    session.lost.addEventListener('abort', onLost, { once: true });
    try {
      while (!signal.aborted) {
        session.lost.throwIfAborted();
        await this.#reconcile(await readNodeDatabases(session));
        await this.#wakeup.wait(LOOK_INTERVAL_MS, signal);
      }
    } finally {
      session.lost.removeEventListener('abort', onLost);
      await this.#reconcile([]);
    }
  }

  /** Advisory locks belong to a database: all agents of a server meet in the same one, whichever their DSN names. */
  async #openMeetingSession(signal: AbortSignal): Promise<Session> {
    const options = { applicationName: 'bdr supervisor', signal };
    const first = await Session.connect(resolveConninfo(this.#dsn, this.#environment), options);
    const meeting = await readMeetingDatabase(first);
    if (meeting.isCurrent) return first;
    await first.close();
    const dsn = withConninfo(this.#dsn, { dbname: meeting.name });
    return Session.connect(resolveConninfo(dsn, this.#environment), options);
  }

  async #becomeAgent(session: Session, signal: AbortSignal): Promise<boolean> {
    let told = false;
    while (!(await tryAgentLock(session))) {
      if (!told) {
        told = true;
        this.#log.info(
          { holder: await agentLockHolder(session) },
          'another agent serves this server; waiting to take over',
        );
      }
      await pause(STANDBY_POLL_MS, signal);
      if (signal.aborted) return false;
    }
    return true;
  }

  async #reconcile(databases: readonly Database[]): Promise<void> {
    const gone = [...this.#nodes].filter(
      ([oid, { database }]) =>
        !databases.some((wanted) => wanted.oid === oid && wanted.name === database.name),
    );
    await Promise.all(
      gone.map(async ([oid, { service, database }]) => {
        this.#nodes.delete(oid);
        await service.stop();
        this.#log.info({ database: database.name }, 'no longer serving database');
      }),
    );
    for (const database of databases) {
      if (this.#nodes.has(database.oid)) continue;
      this.#log.info({ database: database.name }, 'serving database');
      const service = new NodeService(
        this.#endpoints(withConninfo(this.#dsn, { dbname: database.name })),
        this.#log.child({ database: database.name }),
      );
      this.#nodes.set(database.oid, { service, database });
      service.start();
    }
  }

  #endpoints(localDsn: string): Endpoints {
    return {
      local: resolveConninfo(localDsn, this.#environment),
      localDsn,
      environment: this.#environment,
      conninfo: (dsn) => resolveConninfo(dsn, this.#environment),
      parameters: (dsn) => conninfoParameters(parseConninfo(dsn), this.#environment),
    };
  }
}
