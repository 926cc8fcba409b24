import type { DefinitionNote } from '../catalog/definition-notes.ts';
import type { MessageKey } from './message-key.ts';
import type { Received } from './receiver.ts';
import { parseHeartbeat } from './watermark.ts';

/** The prefix of the messages that agents act on. */
const PREFIX = 'bdr';
const XIDS = 2 ** 32;

/**
 * Takes messages out of a link's stream that the provider has not signed, or that are copies of one it has (DESIGN 3.5). Of the
 * others it leaves the content alone, without the signature.
 *
 * A heartbeat names its own transaction, so it counts only in that one: a copy arrives in another. Ids on the wire have 32 bits,
 * so a copy could be made to fit every four thousand million transactions: the full ids must rise, too. A request to confirm a
 * position may be repeated: who can read it to copy it may read the whole log, and gains one commit here. An ask for the global lock
 * names its transaction, and counts as long as that lasts.
 */
export class MessageGuard {
  readonly #key: MessageKey;
  readonly #onForged: () => void;
  /** Of the transaction that is being received. */
  #xid = 0;
  #lastHeartbeat = 0;

  constructor(key: MessageKey, onForged: () => void) {
    this.#key = key;
    this.#onForged = onForged;
  }

  /** What is left of what was received; undefined for nothing. To be called in the order of the stream. */
  pass(received: Received): Received | undefined {
    if (received.kind === 'begin') this.#xid = received.xid;
    if (received.kind !== 'message' || received.prefix !== PREFIX) return received;
    const content = this.#key.open(received.content);
    if (!content || !(received.transactional ? this.#isOfHere(content) : isKnown(content))) {
      this.#onForged();
      return undefined;
    }
    const { kind, transactional, lsn, prefix } = received;
    return { kind, transactional, lsn, prefix, content };
  }

  #isOfHere(content: Buffer): boolean {
    const heartbeat = parseHeartbeat(content);
    if (!heartbeat || heartbeat.xid % XIDS !== this.#xid) return false;
    if (heartbeat.xid <= this.#lastHeartbeat) return false;
    this.#lastHeartbeat = heartbeat.xid;
    return true;
  }
}

/** `{"lock": …}`: a transaction over there asks for the global lock. Its own agent acts on it. */
export function isLockAsk(content: Buffer): boolean {
  return hasKey(content, 'lock');
}

/** `{"definition": …}`, as bdr.internal_tell_definition() writes it; undefined for anything else. */
export function readDefinitionNote(content: Buffer): DefinitionNote | undefined {
  if (!hasKey(content, 'definition')) return undefined;
  const { definition } = JSON.parse(content.toString('utf8')) as {
    definition: { sysid: string; timeline: number; dboid: number; lsn: string };
  };
  const { sysid, timeline, dboid, lsn } = definition;
  return { node: { sysid, timeline, dboid }, commitLsn: lsn };
}

/** These, or `{"confirm": position}`: bdr_wait_for_apply() waits over there. */
function isKnown(content: Buffer): boolean {
  return ['confirm', 'lock', 'definition'].some((key) => hasKey(content, key));
}

function hasKey(content: Buffer, key: string): boolean {
  try {
    const parsed: unknown = JSON.parse(content.toString('utf8'));
    return typeof parsed === 'object' && parsed !== null && key in parsed;
  } catch {
    // Signed, and no JSON: of a version of bdr that is not known here.
    return false;
  }
}
