import type { Logger } from '../base/logger.ts';
import type { Node } from '../model/node.ts';

/** The log of one link: each of its lines names the link. */
export function linkLog(link: {
  readonly log: Logger;
  readonly provider: Node;
  readonly localNode: Node;
}): Logger {
  return link.log.child({ link: `${link.provider.name}->${link.localNode.name}` });
}
