import { BdrError } from '../base/errors.ts';
import type { Session } from '../postgres/session.ts';

/** With what the session's node signs its messages. Never to be logged, shown or stored anywhere else. */
export async function readMessageSecret(session: Session): Promise<Buffer> {
  const [row] = await session.query<{ secret: string }>(
    /* sql */ `SELECT encode(secret, 'hex') AS secret FROM bdr.message_secret`,
  );
  if (!row) {
    throw new BdrError('invalid_membership', {
      message: 'the node has no secret to sign messages with',
      hint: 'On that node: SELECT bdr.internal_renew_secret();',
    });
  }
  return Buffer.from(row.secret, 'hex');
}
