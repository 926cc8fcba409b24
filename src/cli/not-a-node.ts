import { BdrError } from '../base/errors.ts';
import type { InactiveStatus } from '../node/status.ts';
import { drawInactive } from './output/status.ts';

/** The error of a command that needs a node: it says how to make the database one. */
export function notANode(report: InactiveStatus): BdrError {
  const [message = '', ...rest] = drawInactive(report);
  return new BdrError('invalid_membership', { message, hint: rest.join('\n') });
}
