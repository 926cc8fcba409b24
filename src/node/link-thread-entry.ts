// The program of a link's thread: runs the link, and carries what it says and is told. The other side is link-thread.ts.
import { parentPort, workerData } from 'node:worker_threads';
import { must } from '../base/assert.ts';
import { SharedTime } from '../base/shared-time.ts';
import { resolveConninfo } from '../postgres/conninfo.ts';
import { Edition } from './edition.ts';
import { KnownGroup } from './group-view.ts';
import { SharedHistoryOptions } from './history-settings.ts';
import type { FromLinkThread, LinkThreadInput, ToLinkThread } from './link-messages.ts';
import { LinkService } from './link-service.ts';
import { createThreadLog } from './thread-log.ts';

const port = must(parentPort, 'port: this program runs in a thread');
const input = workerData as LinkThreadInput;
const { localNode, provider, record, environment } = input;
const edition = new Edition(input.edition);
const recordLimit = new SharedTime(input.recordLimit);
const group = new KnownGroup(edition, input.group);

const say = (message: FromLinkThread) => port.postMessage(message);
const outdate = () => {
  edition.outdate();
  say({ kind: 'outdated' });
};

const service = new LinkService({
  localNode,
  provider,
  record,
  local: resolveConninfo(input.localDsn, environment),
  remote: () => resolveConninfo(provider.dsn ?? '', environment),
  origins: () => group.origins,
  nodes: () => group.nodes,
  groupLimit: () => group.limit,
  ownLimit: () => group.ownLimit,
  ownHeard: () => group.ownHeard,
  recordLimit: () => recordLimit.get(),
  watermark: new SharedTime(input.watermark),
  applyDelayMs: provider.applyDelayMs ?? 0,
  history: new SharedHistoryOptions(input.history),
  log: createThreadLog((line) => say({ kind: 'log', line })),
  random: Math.random,
  onOwnBehind: () => say({ kind: 'own behind' }),
  onMembershipChange: outdate,
  onApplySession: outdate,
  onSlotLost: () => say({ kind: 'slot lost' }),
});

async function answer(message: ToLinkThread): Promise<void> {
  switch (message.kind) {
    case 'group':
      group.told(message.group);
      return say({ kind: 'answer', report: null });
    case 'report':
      return say({ kind: 'answer', report: service.takeReport() });
    case 'stop':
      await service.stop();
      say({ kind: 'answer', report: service.takeReport() });
      // Nothing else is left that keeps the thread.
      port.close();
  }
}

port.on('message', (message: ToLinkThread) => void answer(message));
service.start();
