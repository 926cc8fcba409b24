import { Worker, type ResourceLimits } from 'node:worker_threads';
import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { LONG_AGO } from '../base/pg-time.ts';
import { restartOnFailure, type Failure } from '../base/restart.ts';
import type { SharedTime } from '../base/shared-time.ts';
import type { LinkRecord, LinkReport, LinkStatus } from '../catalog/links.ts';
import type { Node } from '../model/node.ts';
import type { Endpoints } from '../membership/endpoints.ts';
import { describeError } from './describe-error.ts';
import type { Edition } from './edition.ts';
import type { GroupView } from './group-view.ts';
import type { SharedHistoryOptions } from './history-settings.ts';
import type { FromLinkThread, LinkThreadInput, ToLinkThread } from './link-messages.ts';
import { linkLog } from './link-log.ts';
import { reportOfNothing } from './link-state.ts';
import { writeLine } from './thread-log.ts';

/** The program of a link's thread. Only built: Node 20 runs no TypeScript. */
const PROGRAM = new URL('./link-thread-entry.js', import.meta.url);
/** A quarter of the usual: what is young in a link is soon old or gone, and 30 MB of memory count for more than a tenth of its time. */
const RESOURCE_LIMITS: ResourceLimits = { maxYoungGenerationSizeMb: 12 };
/** A thread that takes longer to end, or to say anything, is ended from outside. */
const STOP_MS = 5_000;
const ANSWER_MS = 30_000;
const RETRY = { firstMs: 250, mostMs: 30_000 };

/** What a link's thread needs to know of the node it serves. */
export interface LinkThreadContext {
  readonly localNode: Node;
  readonly provider: Node;
  readonly record: LinkRecord;
  readonly endpoints: Endpoints;
  readonly edition: Edition;
  /** The link's own, which its thread writes. */
  readonly watermark: SharedTime;
  /** LinkContext.recordLimit. */
  readonly recordLimit: SharedTime;
  readonly group: GroupView;
  readonly history: SharedHistoryOptions;
  readonly log: Logger;
  readonly random: () => number;
  /** The edition is outdated: the link has learned what may change the group. */
  readonly onOutdated: () => void;
  /** LinkContext.onOwnBehind. */
  readonly onOwnBehind: () => void;
  readonly onSlotLost: () => void;
}

/**
 * One link, in a thread of its own: the links of a node work on as many cores as there are. A thread that dies, of whatever, takes
 * its connections with it and nothing else; it is started again with growing pauses, and the reason stands in the report meanwhile.
 * What breaks within the link is its LinkService's to mend.
 */
export class LinkThread {
  readonly #context: LinkThreadContext;
  readonly #program: URL;
  readonly #resourceLimits: ResourceLimits;
  readonly #log: Logger;
  readonly #stop = new AbortController();
  /** Who waits for an answer, in the order of the questions. */
  readonly #asked: (() => void)[] = [];
  #worker: Worker | undefined;
  #group: GroupView;
  #report: LinkReport;
  /** How often the thread has died since the last report. */
  #deaths = 0;
  #done: Promise<void> = Promise.resolve();

  constructor(
    context: LinkThreadContext,
    program: URL = PROGRAM,
    resourceLimits: ResourceLimits = RESOURCE_LIMITS,
  ) {
    this.#context = context;
    this.#program = program;
    this.#resourceLimits = resourceLimits;
    this.#group = context.group;
    this.#report = reportOfNothing(context.record.failed);
    this.#log = linkLog(context);
  }

  /** As of the last report. */
  get status(): LinkStatus {
    return this.#report.status;
  }

  start(): void {
    this.#done = this.#run();
  }

  /** Ends the link; a thread that does not end soon is ended with all it does. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }

  /** Resolves when the link goes by this view. */
  async tell(group: GroupView): Promise<void> {
    this.#group = group;
    await this.#ask({ kind: 'group', group });
  }

  /** What happened since the last report. */
  async takeReport(): Promise<LinkReport> {
    await this.#ask({ kind: 'report' });
    const { counts, ...report } = this.#report;
    const disconnects = counts.nr_disconnect + this.#deaths;
    this.#report = { ...report, caughtUp: false, counts: reportOfNothing(null).counts };
    this.#deaths = 0;
    return { ...report, counts: { ...counts, nr_disconnect: disconnects } };
  }

  async #run(): Promise<void> {
    await restartOnFailure(() => this.#live(), {
      limits: RETRY,
      random: this.#context.random,
      signal: this.#stop.signal,
      onFailure: (failure) => this.#died(failure),
    });
    this.#report = { ...this.#report, status: 'down', applyPid: null };
  }

  #died({ error, failures, retryInMs }: Failure): void {
    const described = describeError(error);
    this.#report = {
      ...this.#report,
      status: 'failed',
      error: described,
      applyPid: null,
      caughtUp: false,
    };
    this.#deaths += 1;
    // What it meets within the link it deals with: this is a fault of the program, or a lack of memory.
    const { stack } = error instanceof Error && error.cause instanceof Error ? error.cause : {};
    this.#log.warn({ ...described, stack, failures, retryInMs }, 'link failed');
  }

  /** One life of the thread: returns when it has ended because it was told to, throws when it has ended otherwise. */
  async #live(): Promise<void> {
    const { signal } = this.#stop;
    const worker = new Worker(this.#program, {
      workerData: this.#input(),
      resourceLimits: this.#resourceLimits,
    });
    const ended = new Promise<unknown>((resolve) => {
      let reason: unknown;
      worker.once('error', (error) => (reason = error));
      worker.once('exit', (code) => resolve(reason ?? `exit code ${code}`));
    });
    worker.on('message', (message: FromLinkThread) => this.#take(message));
    this.#worker = worker;
    let overdue: NodeJS.Timeout | undefined;
    const stop = () => {
      void this.#ask({ kind: 'stop' });
      overdue = setTimeout(() => {
        this.#log.warn({}, 'the thread of a link does not end and is ended');
        void worker.terminate();
      }, STOP_MS);
    };
    signal.addEventListener('abort', stop, { once: true });
    const reason = await ended;
    signal.removeEventListener('abort', stop);
    clearTimeout(overdue);
    this.#worker = undefined;
    // Its next life begins with nothing handled.
    this.#context.watermark.set(LONG_AGO);
    for (const answered of this.#asked.splice(0)) answered();
    if (signal.aborted) return;
    throw new Error(`the thread of the link has ended: ${messageOf(reason)}`, {
      cause: reason,
    });
  }

  #input(): LinkThreadInput {
    const { localNode, provider, record, endpoints, edition, watermark, recordLimit, history } =
      this.#context;
    return {
      localNode,
      provider,
      record: { ...record, failed: this.#report.failed },
      localDsn: endpoints.localDsn,
      environment: endpoints.environment,
      edition: edition.shared,
      watermark: watermark.shared,
      recordLimit: recordLimit.shared,
      group: this.#group,
      history: history.shared,
    };
  }

  #take(message: FromLinkThread): void {
    switch (message.kind) {
      case 'answer':
        if (message.report) this.#report = message.report;
        return this.#asked.shift()?.();
      case 'log':
        return writeLine(this.#context.log, message.line);
      case 'outdated':
        return this.#context.onOutdated();
      case 'own behind':
        return this.#context.onOwnBehind();
      case 'slot lost':
        return this.#context.onSlotLost();
    }
  }

  /** Resolves when the thread has answered, or is no more. */
  async #ask(question: ToLinkThread): Promise<void> {
    const worker = this.#worker;
    if (!worker) return;
    const overdue = setTimeout(() => {
      this.#log.warn({}, 'the thread of a link does not answer and is ended');
      void worker.terminate();
    }, ANSWER_MS);
    await new Promise<void>((resolve) => {
      this.#asked.push(resolve);
      worker.postMessage(question);
    });
    clearTimeout(overdue);
  }
}
