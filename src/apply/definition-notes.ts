import { tellDefinition } from '../catalog/definition-notes.ts';
import type { NodeId } from '../model/node.ts';
import type { Session } from '../postgres/session.ts';
import type { ChangeContext } from './change-context.ts';

/** Tells other nodes of the provider's commands that are applied here, on a session of this node's own. */
export class DefinitionNotes implements AsyncDisposable {
  readonly #open: () => Promise<Session>;
  readonly #provider: NodeId;
  #session: Session | undefined;

  /** `open` opens a session without an origin. It is opened with the first command. */
  constructor(open: () => Promise<Session>, provider: NodeId) {
    this.#open = open;
    this.#provider = provider;
  }

  /** To be called before the command's transaction is committed here: nobody has written under the new definition by then. */
  async tell({ commitLsn }: ChangeContext): Promise<void> {
    this.#session ??= await this.#open();
    await tellDefinition(this.#session, this.#provider, commitLsn);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#session?.[Symbol.asyncDispose]();
  }
}
