/**
 * What other programs may use of pg-bdr: the agent, and the logical replication protocol on its own, which needs neither a
 * database nor anything else of this package.
 */
export { Agent } from './node/agent.ts';
export { BdrError, ERROR_CODES, type ErrorCode } from './base/errors.ts';
export { ProtocolError } from './base/bytes.ts';
export type { Logger } from './base/logger.ts';
export { formatLsn, parseLsn, type Lsn } from './base/lsn.ts';
export { formatPgTime, type PgTime } from './base/pg-time.ts';

export { Decoder } from './pgoutput/decode.ts';
export { encodeMessage } from './pgoutput/encode.ts';
export { Assembler, type Assembled } from './pgoutput/assemble.ts';
export {
  FrameDecoder,
  encodeStatusUpdate,
  type Frame,
  type StatusUpdate,
} from './pgoutput/frame.ts';
export type { Message } from './pgoutput/message.ts';
export type { Change, Relation, RemoteTransaction } from './pgoutput/transaction.ts';
export { ColumnKind, Tuple } from './pgoutput/tuple.ts';
export { tupleOf, valuesOf } from './pgoutput/tuple-value.ts';
