import { prepareLooks } from '../apply/table-map.ts';
import { ApplyPaused } from '../apply/entrance.ts';
import { BdrError, messageOf } from '../base/errors.ts';
import { formatLsn } from '../base/lsn.ts';
import type { Logger } from '../base/logger.ts';
import { restartOnFailure, type Failure } from '../base/restart.ts';
import { pause, Wakeup } from '../base/wait.ts';
import { readApplyPaused, whileNode } from '../catalog/apply-gate.ts';
import { followCommitted } from '../catalog/committed-positions.ts';
import type { LinkReport } from '../catalog/links.ts';
import { readMessageSecret } from '../catalog/message-secret.ts';
import { earlyOriginName, originName, publications, slotName, type Link } from '../model/link.ts';
import type { Node } from '../model/node.ts';
import { markAgentSession } from '../postgres/advisory.ts';
import {
  ensureOrigin,
  originProgress,
  setUpOrigin,
  setUpOriginAlone,
} from '../postgres/origins.ts';
import { ReplicationSession, SlotUnusable } from '../postgres/replication-session.ts';
import { Session } from '../postgres/session.ts';
import { readMilliseconds } from '../postgres/settings.ts';
import { AckLedger } from '../receive/ack-ledger.ts';
import { MessageGuard } from '../receive/message-guard.ts';
import { MessageKey } from '../receive/message-key.ts';
import { APPLY_SETTINGS } from './apply-settings.ts';
import { describeError } from './describe-error.ts';
import { isFaultOfTransaction, UnsentTransaction, withSkipHint } from './failed-transaction.ts';
import { IgnoredMessages } from './ignored-messages.ts';
import type { LinkContext } from './link-context.ts';
import { linkLog } from './link-log.ts';
import { sendFeedback, SILENCE_LIMIT_MS } from './link-feedback.ts';
import { LinkState } from './link-state.ts';
import { LinkStream, UnsentPassed } from './link-stream.ts';
import { checkProvider, checkSkipRequest } from './provider-check.ts';

const PAUSE_POLL_MS = 100;
const RETRY = { firstMs: 250, mostMs: 30_000 };

/**
 * One link: receives the provider's stream and applies it, for as long as it is not stopped. What breaks is tried again with
 * growing pauses; the reason stands in the report meanwhile.
 */
export class LinkService {
  readonly #context: LinkContext;
  readonly #link: Link;
  readonly #stop = new AbortController();
  readonly #state: LinkState;
  readonly #log: Logger;
  readonly #ignored: IgnoredMessages;
  /** The next life is not to get transactions before they have committed: which one cannot be sent is told with its commit alone. */
  #withoutChunks = false;
  #done: Promise<void> = Promise.resolve();

  constructor(context: LinkContext) {
    this.#context = context;
    this.#link = { provider: context.provider.id, subscriber: context.localNode.id };
    this.#log = linkLog(context);
    this.#ignored = new IgnoredMessages(this.#log);
    this.#state = new LinkState(context.watermark);
    this.#state.failed = context.record.failed;
  }

  start(): void {
    this.#done = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }

  /** What happened since the last report. */
  takeReport(): LinkReport {
    return this.#state.takeReport();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    await restartOnFailure((failures) => this.#live(failures, signal), {
      limits: RETRY,
      random: this.#context.random,
      signal,
      onFailure: (failure) => this.#failed(failure),
    });
    this.#state.status = 'down';
    this.#state.applyPid = null;
  }

  async #live(failures: number, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        if (failures === 0) this.#state.status = 'connecting';
        await this.#serve(signal);
      } catch (error) {
        // The next life begins by waiting until apply is resumed, or behind what is passed.
        if (!(error instanceof ApplyPaused || error instanceof UnsentPassed)) throw error;
      }
    }
  }

  #failed({ error, failures, retryInMs }: Failure): void {
    let atFault = isFaultOfTransaction(error) ? this.#state.applying : null;
    if (error instanceof UnsentTransaction) {
      atFault = error.transaction ?? null;
      this.#withoutChunks = true;
    }
    if (atFault) this.#state.failed = atFault;
    const invalidSkip = error instanceof BdrError && error.code === 'invalid_skip';
    const described = withSkipHint(
      describeError(error),
      invalidSkip ? this.#state.failed : atFault,
      this.#link.provider,
    );
    this.#state.status = 'failed';
    this.#state.error = described;
    this.#state.applyPid = null;
    this.#state.caughtUp = false;
    this.#state.forgetWatermark();
    this.#state.disconnects += 1;
    this.#log.warn({ ...described, failures, retryInMs }, 'link failed');
    if (error instanceof BdrError && error.code === 'slot_lost') this.#context.onSlotLost();
  }

  /** One life of the connections: ends by an error, or when the service is stopped. */
  async #serve(outer: AbortSignal): Promise<void> {
    const life = new AbortController();
    const endLife = () => life.abort(outer.reason);
    outer.addEventListener('abort', endLife, { once: true });
    this.#state.applying = null;
    try {
      await this.#connectAndRun(life);
    } catch (error) {
      throw error instanceof SlotUnusable
        ? slotLost(error, this.#link, this.#context.provider)
        : error;
    } finally {
      outer.removeEventListener('abort', endLife);
      life.abort();
    }
  }

  async #waitWhilePaused(session: Session, signal: AbortSignal): Promise<void> {
    while (await readApplyPaused(session)) {
      this.#state.status = 'paused';
      this.#state.error = null;
      await pause(PAUSE_POLL_MS, signal);
      signal.throwIfAborted();
    }
  }

  async #connectAndRun(life: AbortController): Promise<void> {
    const { local, localNode, provider } = this.#context;
    const { signal } = life;
    const remote = this.#context.remote();
    await using bookkeeping = await Session.connect(local, {
      applicationName: `${provider.name}:link`,
      signal,
    });
    await this.#waitWhilePaused(bookkeeping, signal);
    const origin = originName(this.#link);
    await using apply = await this.#openApplySession(
      `${provider.name}:apply`,
      signal,
      async (session) => {
        this.#context.onApplySession();
        await setUpOrigin(session, origin);
      },
    );
    await followCommitted(apply);
    const maxClockSkewMs = await readMilliseconds(bookkeeping, 'bdr.max_clock_skew', '30 s');
    this.#state.applyPid = apply.pid;
    // While the provider is asked.
    const prepared = prepareLooks(apply);
    prepared.catch(() => undefined);
    // Only now: what a dead agent's session still had in flight is in it.
    const progress = await originProgress(bookkeeping, origin, true);
    // Of what an earlier agent applied nobody knows what it was.
    this.#state.lastChange ??= progress;
    await using peer = await Session.connect(remote, {
      applicationName: `${localNode.name}:read`,
      signal,
      queryTimeoutMs: SILENCE_LIMIT_MS,
      // What is read there leaves something behind, and what its commit has put on disk no crash takes back: that is what was read, too.
      // Not "on": it must not wait for a standby, which may be this very link.
      settings: { synchronous_commit: 'local' },
    });
    const providerMajor = await checkProvider(peer, this.#link, provider, progress);
    await checkSkipRequest(peer, provider, this.#context.record.skipRequest);
    const key = new MessageKey(await readMessageSecret(peer), provider.id);
    await prepared;
    const withoutChunks = this.#withoutChunks;
    this.#withoutChunks = false;
    await using stream = await ReplicationSession.start(
      remote,
      {
        slot: slotName(this.#link),
        publications: publications(this.#link),
        start: progress,
        providerMajor,
        streaming: !withoutChunks,
      },
      { applicationName: `${localNode.name}:send`, signal },
    );
    const ledger = new AckLedger(progress);
    const feedback = new Wakeup();
    const guard = new MessageGuard(key, () => this.#ignored.add());
    const connections = {
      stream,
      apply,
      origin,
      openEarly: () => this.#openEarlySession(signal),
      // Its name must not end as those of sessions that apply: their commits are not sent, so heartbeats leave them out.
      openOwn: () => this.#openApplySession('bdr:policy', signal, () => Promise.resolve()),
      peer,
      ledger,
      guard,
      maxClockSkewMs,
      feedback,
      signal,
    };
    const running = new LinkStream(this.#context, connections, this.#state);
    this.#log.info({ from: formatLsn(progress), node: localNode.name }, 'link is streaming');
    this.#state.status = 'streaming';
    this.#state.error = null;
    this.#state.forgetWatermark();

    const told = sendFeedback({
      ...connections,
      bookkeeping,
      state: this.#state,
      wakeup: feedback,
      provider: provider.name,
      applyPid: apply.pid,
    }).catch((error: unknown) => life.abort(error));
    // Whichever fails first ends the other, and its reason is what counts.
    await running.run().catch((error: unknown) => life.abort(error));
    life.abort();
    await told;
    throw signal.reason;
  }

  /** `takeOrigin` takes what removing BDR gives back. */
  async #openApplySession(
    applicationName: string,
    signal: AbortSignal,
    takeOrigin: (session: Session) => Promise<void>,
  ): Promise<Session> {
    const session = await Session.connect(this.#context.local, {
      applicationName,
      signal,
      settings: APPLY_SETTINGS,
      pipeline: true,
    });
    try {
      await markAgentSession(session);
      await whileNode(session, () => takeOrigin(session));
      return session;
    } catch (error) {
      await session.close();
      throw error;
    }
  }

  async #openEarlySession(signal: AbortSignal): Promise<{ session: Session; origin: string }> {
    const origin = earlyOriginName(this.#link);
    const name = `${this.#context.provider.name}:early:apply`;
    const session = await this.#openApplySession(name, signal, async (early) => {
      await ensureOrigin(early, origin);
      await setUpOriginAlone(early, origin);
    });
    return { session, origin };
  }
}

function slotLost(error: SlotUnusable, link: Link, provider: Node): BdrError {
  return new BdrError('slot_lost', {
    message: `node ${provider.name} refuses to stream from slot "${slotName(link)}": ${messageOf(error)}`,
    sqlstate: error.sqlstate,
    hint: 'If the slot is gone or invalidated: part this node, remove BDR from it, and join it again.',
    cause: error,
  });
}
