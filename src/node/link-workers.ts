import { Ahead } from '../apply/ahead.ts';
import { AheadSender } from '../apply/ahead-sender.ts';
import type { ApplyOptions } from '../apply/apply-options.ts';
import { ApplyWorker } from '../apply/apply-worker.ts';
import { DefinitionNotes } from '../apply/definition-notes.ts';
import { EarlyApply } from '../apply/early-apply.ts';
import { LentOrigin } from '../apply/lent-origin.ts';
import { LostValues } from '../apply/lost-values.ts';
import { LostWrites } from '../apply/lost-writes.ts';
import { readFromProvider, untilSeen, type ReadFromProvider } from '../apply/provider-values.ts';
import { SetWriter } from '../apply/set-writer.ts';
import { TableMap } from '../apply/table-map.ts';
import { ChangeWriter } from '../apply/writer.ts';
import { assert } from '../base/assert.ts';
import { readAppliedUpTo } from '../catalog/commit-records.ts';
import { othersThan, sameNode } from '../model/node.ts';
import type { Session } from '../postgres/session.ts';
import type { LinkConnections } from './link-connections.ts';
import type { LinkContext } from './link-context.ts';
import type { LinkState } from './link-state.ts';

/** What writes for a link, in one life of its connections. */
export interface LinkWorkers {
  readonly worker: ApplyWorker;
  readonly early: EarlyApply;
  readonly lostValues: LostValues;
  readonly lostWrites: LostWrites;
  readonly definitionNotes: DefinitionNotes;
}

/** Puts together what writes for a link; `told` hears what comes of it. */
export function createLinkWorkers(
  context: LinkContext,
  connections: LinkConnections,
  state: LinkState,
  told: Pick<ApplyOptions, 'onCommit' | 'onRollback'>,
): LinkWorkers {
  const { provider, origins, nodes, groupLimit, recordLimit, history, random, applyDelayMs } =
    context;
  const { apply, origin, openEarly, openOwn, peer, maxClockSkewMs, signal } = connections;
  const known = [...origins().providers].find(([, { id }]) => sameNode(id, provider.id));
  assert(known !== undefined, 'a link that runs has an origin');
  const common = { provider: provider.id, providerOrigin: known[0] };
  const read: ReadFromProvider = (table, sql, params) => readFromProvider(peer, table, sql, params);
  const lostWrites = new LostWrites({
    session: apply,
    open: openOwn,
    provider: provider.id,
    origins,
    nameOf: (id) => nodes().find((node) => sameNode(node.id, id))?.name ?? '',
    history,
  });
  const providerApplied = () => readAppliedUpTo(peer);
  const definitionNotes = new DefinitionNotes(openOwn, provider.id);
  const writing = (session: Session) => {
    const tables = new TableMap(session);
    const writer = new ChangeWriter({
      session,
      tables,
      provider: { id: provider.id, sequence: provider.sequence },
      providerOrigin: common.providerOrigin,
      origins,
      otherNodes: () => othersThan([provider.id], nodes()).map(({ id }) => id),
      readFromProvider: read,
      untilSeen: (xid, mostMs) => untilSeen(peer, xid, mostMs, signal),
      providerApplied,
      recordLimit,
      groupLimit,
      counts: state.applyCounts,
      history,
      tellOfCommand: (command) => definitionNotes.tell(command),
      onLostWrite: () => lostWrites.noted(),
    });
    return { session, tables, writer };
  };

  const { tables, writer } = writing(apply);
  const options: ApplyOptions = {
    signal,
    random,
    applyDelayMs,
    maxClockSkewMs,
    difficult: state.difficult,
    onBegin: ({ xid, commitLsn, commitTime }) => {
      state.applying = { xid, commitLsn, commitTime };
    },
    onProgress: () => {
      state.progressAt = performance.now();
    },
    ...told,
  };
  const sets = new SetWriter({ session: apply, writer, ...common });
  const statements = new Ahead({ tables, writer, ...common });
  const ahead = new AheadSender(apply, tables, writer, statements, options);
  return {
    worker: new ApplyWorker(apply, tables, writer, sets, ahead, options),
    early: new EarlyApply({
      open: async () => {
        const early = await openEarly();
        return { ...writing(early.session), origin: early.origin };
      },
      linkOrigin: new LentOrigin(apply, origin),
      ...common,
      signal,
    }),
    lostValues: new LostValues({
      session: apply,
      tables,
      statements: writer.statements,
      provider: provider.id,
      origins,
      read,
      groupLimit,
      providerApplied,
    }),
    lostWrites,
    definitionNotes,
  };
}
