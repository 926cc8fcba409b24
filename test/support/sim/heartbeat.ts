import { ZERO_LSN } from '../../../src/base/lsn.ts';
import type { LogicalMessage } from '../../../src/pgoutput/transaction.ts';
import { parseHeartbeat, type Heartbeat } from '../../../src/receive/watermark.ts';

/** The message of bdr.internal_heartbeat(). */
export function heartbeatMessage(heartbeat: object): LogicalMessage {
  return {
    kind: 'message',
    transactional: true,
    lsn: ZERO_LSN,
    prefix: 'bdr',
    content: Buffer.from(JSON.stringify({ heartbeat })),
  };
}

const known = new WeakMap<LogicalMessage, Heartbeat>();

/** As each reader parses it; once is enough here. */
export function heartbeatIn(message: LogicalMessage): Heartbeat | undefined {
  const parsed = known.get(message) ?? parseHeartbeat(message.content);
  if (parsed) known.set(message, parsed);
  return parsed;
}
