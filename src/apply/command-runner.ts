import { BdrError, messageOf } from '../base/errors.ts';
import { hasIndexBuilds, putOffIndex } from '../catalog/index-builds.ts';
import {
  boundsCheck,
  readQueuedCommand,
  runQueuedCommand,
  type QueuedCommand,
} from '../catalog/queued-commands.ts';
import { commandText } from '../ddl/command-text.ts';
import type { InsertChange } from '../pgoutput/transaction.ts';
import type { Session } from '../postgres/session.ts';
import { hasSqlstate, SQLSTATE, sqlstateOf } from '../postgres/sqlstate.ts';
import { readShapes } from '../postgres/table-shapes.ts';
import type { ChangeContext } from './change-context.ts';
import { isLockConflict, MustWait } from './lock-conflict.ts';
import type { Table } from './table.ts';
import type { TableMap } from './table-map.ts';

const SAVEPOINT = 'bdr_command';

const PUT_OFF_SAVEPOINT = 'bdr_put_off';

const MOST_SHOWN = 300;

/** Rows that are looked at when the transaction ends, by statements with the names that their tables have now. */
export interface PutOff {
  /** OIDs of the tables. */
  tables(): readonly string[];
  /** Looks at those of some tables now. */
  settle(isMeant: (table: Table) => boolean): Promise<void>;
}

/** Runs what changed definitions on the provider, in its place among the rows (DESIGN 5), in the caller's transaction. */
export class CommandRunner {
  readonly #session: Session;
  readonly #tables: TableMap;
  readonly #tell: (context: ChangeContext) => Promise<void>;
  readonly #putOff: PutOff;
  /** Commands that were sent as one text bring it once. */
  #text: { readonly xid: number; readonly text: string } | undefined;

  /** `tell` tells the other nodes of a command before it is committed. */
  constructor(
    session: Session,
    tables: TableMap,
    tell: (context: ChangeContext) => Promise<void>,
    putOff: PutOff,
  ) {
    this.#session = session;
    this.#tables = tables;
    this.#tell = tell;
    this.#putOff = putOff;
  }

  /** Throws BdrError when it cannot be run here. */
  async run(change: InsertChange, context: ChangeContext): Promise<void> {
    const queued = readQueuedCommand(change);
    const { texts, mayBeOfLocal, beside, detached } = await commandText(
      this.#withText(queued, context.xid),
    );
    this.#tables.willNotify();
    if (beside && (await putOffIndex(this.#session, queued, beside))) return;
    // It may need the index, or take away what that is for. The server waits for open transactions when it builds one: hold nothing.
    if (await hasIndexBuilds(this.#session)) throw new MustWait('an index is being built');
    await this.#tell(context);
    await this.#settlePutOff(async () => {
      if (detached !== undefined) await this.#keepBounds(queued, detached);
      for (const text of texts) await this.#runText(queued, text, mayBeOfLocal);
    });
    // Tables are others by now, for this transaction too.
    this.#tables.forget();
  }

  /**
   * Runs a command; what is put off of tables that it changes is looked at before. Of others it is not, because until the transaction ends
   * two rows may have one value.
   */
  async #settlePutOff(run: () => Promise<void>): Promise<void> {
    const tables = [...new Set(this.#putOff.tables())];
    if (tables.length === 0) return run();
    const before = await readShapes(this.#session, tables);
    await this.#session.script(`SAVEPOINT ${PUT_OFF_SAVEPOINT}`);
    await run();
    const after = await readShapes(this.#session, tables);
    const changed = new Set(tables.filter((oid) => before.get(oid) !== after.get(oid)));
    if (changed.size > 0) {
      await this.#session.script(`ROLLBACK TO SAVEPOINT ${PUT_OFF_SAVEPOINT}`);
      await this.#putOff.settle(({ local }) => changed.has(local.oid));
      await run();
    }
    await this.#session.script(`RELEASE SAVEPOINT ${PUT_OFF_SAVEPOINT}`);
  }

  async #keepBounds(queued: QueuedCommand, partition: string): Promise<void> {
    const check = await boundsCheck(this.#session, queued, partition);
    if (check) await this.#runText({ ...queued, perpetrator: check.owner }, check.command, false);
  }

  async #runText(queued: QueuedCommand, text: string, mayBeOfLocal: boolean): Promise<void> {
    try {
      if (mayBeOfLocal) await this.#session.script(`SAVEPOINT ${SAVEPOINT}`);
      await runQueuedCommand(this.#session, queued, text);
    } catch (error) {
      if (mayBeOfLocal && hasSqlstate(error, SQLSTATE.undefinedTable)) {
        await this.#session.script(`ROLLBACK TO SAVEPOINT ${SAVEPOINT}`);
        return;
      }
      if (this.#session.lost.aborted || isLockConflict(error)) throw error;
      throw failed(queued, text, error);
    }
  }

  #withText(queued: QueuedCommand, xid: number): QueuedCommand {
    if (queued.position === null) return queued;
    if (queued.text !== '') {
      this.#text = { xid, text: queued.text };
      return queued;
    }
    return { ...queued, text: this.#text?.xid === xid ? this.#text.text : '' };
  }
}

function failed({ tag, perpetrator }: QueuedCommand, text: string, error: unknown): BdrError {
  const { detail, hint } = error as { detail?: string; hint?: string };
  const shown = text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)} …` : text;
  return new BdrError('apply_failed', {
    message: `a replicated ${tag} command failed: ${messageOf(error)}`,
    detail: `${detail === undefined ? '' : `${detail} `}Run as role "${perpetrator}": ${shown}`,
    hint: hint ?? wayOut(error),
    sqlstate: sqlstateOf(error),
    cause: error,
  });
}

function wayOut(error: unknown): string {
  return hasSqlstate(error, SQLSTATE.uniqueViolation)
    ? 'Rows of this node were written before the index was there. Delete those with that value, but the one that was written last; the link goes on by itself.'
    : 'Make it possible on this node, with bdr.skip_ddl_replication = on; the link goes on by itself.';
}
