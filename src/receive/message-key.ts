import { createHmac, timingSafeEqual } from 'node:crypto';
import { nodeKey, type NodeId } from '../model/node.ts';

/** `<64 hex digits> <content>`, as bdr.internal_sign_message() makes it. */
const SIGNATURE_LENGTH = 64;
const SPACE = 0x20;

/**
 * Tells what a node's own SQL has signed from what any role may write into its log under the same prefix (DESIGN 3.5). The
 * signature is HMAC-SHA256 over who the node is and the content.
 */
export class MessageKey {
  readonly #secret: Buffer;
  readonly #signer: string;

  constructor(secret: Buffer, node: NodeId) {
    this.#secret = secret;
    this.#signer = `${nodeKey(node)} `;
  }

  /** The content of a signed message; undefined for anything else. */
  open(message: Buffer): Buffer | undefined {
    if (message.length <= SIGNATURE_LENGTH || message[SIGNATURE_LENGTH] !== SPACE) return undefined;
    const content = message.subarray(SIGNATURE_LENGTH + 1);
    const expected = Buffer.from(this.sign(content), 'latin1');
    return timingSafeEqual(message.subarray(0, SIGNATURE_LENGTH), expected) ? content : undefined;
  }

  /** The signature in hex. */
  sign(content: Buffer): string {
    return createHmac('sha256', this.#secret).update(this.#signer).update(content).digest('hex');
  }
}
