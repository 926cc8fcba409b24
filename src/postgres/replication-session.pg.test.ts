import { afterAll, beforeAll, expect, test } from 'vitest';
import { startServer } from '../../test/support/servers.ts';
import { until } from '../../test/support/cluster.ts';
import { formatLsn, parseLsn } from '../base/lsn.ts';
import { readEnvironment } from '../config/environment.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { FrameDecoder } from '../pgoutput/frame.ts';
import { resolveConninfo } from './conninfo.ts';
import { ReplicationSession, type FrameBatch } from './replication-session.ts';
import { Session } from './session.ts';

let server: EmbeddedServer;
let session: Session;

const conninfo = () => resolveConninfo(server.dsn(), readEnvironment());

beforeAll(async () => {
  server = await startServer();
  session = await Session.connect(conninfo(), { applicationName: 'test' });
});
afterAll(async () => {
  await session?.close();
  await server?.[Symbol.asyncDispose]();
});

function* payloads({ bounds }: FrameBatch): Generator<[number, number], void, void> {
  for (let at = 0; at < bounds.length; at += 2) {
    yield [bounds[at] as number, bounds[at + 1] as number];
  }
}

// A reader that came a moment late lost the first transactions, in silence: the socket flowed with nobody listening.
test('what arrives before anybody reads is not lost', async () => {
  await session.script(`
    CREATE TABLE public.item (id integer PRIMARY KEY);
    CREATE PUBLICATION items FOR TABLE public.item
  `);
  const [slot] = await session.query<{ lsn: string }>(
    `SELECT lsn FROM pg_create_logical_replication_slot('late', 'pgoutput')`,
  );
  await session.script('INSERT INTO public.item VALUES (1), (2)');
  const [end] = await session.query<{ lsn: string }>('SELECT pg_current_wal_lsn() AS lsn');
  const stop = new AbortController();
  await using stream = await ReplicationSession.start(
    conninfo(),
    {
      slot: 'late',
      publications: ['items'],
      start: parseLsn(slot?.lsn ?? ''),
      providerMajor: 18,
      streaming: false,
    },
    { applicationName: 'late', signal: stop.signal },
  );
  await until('all to be sent', async () => {
    const [row] = await session.query<{ sent: string }>(
      `SELECT sent_lsn >= $1::pg_lsn AS sent FROM pg_stat_replication`,
      [end?.lsn ?? ''],
    );
    return row?.sent === 't';
  });
  let kinds = '';
  for await (const batch of stream.batches()) {
    for (const [from, to] of payloads(batch)) {
      const frame = new FrameDecoder().decode(batch.buffer, from, to);
      if (frame.kind !== 'keepalive')
        kinds += String.fromCharCode(batch.buffer[frame.payloadStart] ?? 0);
    }
    if (kinds.includes('C')) break;
  }
  expect(kinds, formatLsn(parseLsn(end?.lsn ?? ''))).toBe('BRIIC');
});
