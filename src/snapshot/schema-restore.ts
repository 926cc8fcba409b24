import { BdrError, messageOf } from '../base/errors.ts';
import { displayName } from '../base/names.ts';
import type { JoinProgress } from '../catalog/nodes.ts';
import type { Session } from '../postgres/session.ts';
import { mayBeCode, ShelvedCode } from '../postgres/shelved-code.ts';
import { hasSqlstate, SQLSTATE, sqlstateOf } from '../postgres/sqlstate.ts';
import { readUserCode } from '../postgres/user-code.ts';
import type { ListedTable } from './copy-table.ts';
import type { DumpEntry } from './dump-archive.ts';

const MATERIALIZED = 'MATERIALIZED VIEW DATA';

/**
 * Restores a dump as a superuser, without running the code of ordinary roles that definitions name, but where the server itself
 * runs it with its owner's rights, in a security-restricted operation: to build an index, to fill a materialized view.
 *
 * Code is taken out while definitions are made, and is back while rows come in. So what needs it to be built is made before the
 * rows: indexes on expressions. CHECK constraints that would look at rows are made then as well, so that none does with a
 * superuser's rights. Nobody else sees that it was out, because that is not committed.
 *
 * Each step has a session of its own: a session remembers what it has computed of an index's or partition's expressions.
 */
export class SchemaRestore {
  readonly #preData: readonly DumpEntry[];
  #definitions: readonly DumpEntry[];
  readonly #fills: readonly DumpEntry[];
  #hasCode = false;

  constructor(preData: readonly DumpEntry[], postData: readonly DumpEntry[]) {
    this.#preData = preData;
    this.#definitions = postData.filter(({ type }) => type !== MATERIALIZED);
    this.#fills = postData.filter(({ type }) => type === MATERIALIZED);
  }

  /** What must be there before the rows, `computed` indexes too. */
  async beforeRows(target: Session, computed: ReadonlySet<string>): Promise<void> {
    await target.transaction(async () => {
      const code = await ShelvedCode.open(target, 'not null');
      for (const entry of this.#preData) await restore(target, entry, code);
      // A dump may put a function behind the rows.
      this.#hasCode =
        (await code.shelve()) || this.#definitions.some(({ type }) => mayBeCode(type));
      const isEarly = (entry: DumpEntry) =>
        looksAtRows(entry) || (this.#hasCode && computed.has(indexKey(entry)));
      const early = this.#definitions.filter(isEarly);
      this.#definitions = this.#definitions.filter((entry) => !isEarly(entry));
      for (const entry of early) await restore(target, entry, code);
      await code.unshelve();
    });
  }

  /** The other definitions: in one transaction where there is code to be taken out. */
  async afterRows(target: Session, options: RestoreOptions): Promise<void> {
    if (!this.#hasCode) return restoreAll(target, this.#definitions, options);
    await target.transaction(async () => {
      const code = await ShelvedCode.open(target, 'null');
      await code.shelve();
      await restoreAll(target, this.#definitions, options, code);
      await code.unshelve();
    });
  }

  async fillMaterializedViews(target: Session, options: RestoreOptions): Promise<void> {
    await restoreAll(target, this.#fills, options);
  }
}

/** One that is NOT VALID does not, and old rows need not keep to it. */
function looksAtRows({ type, sql }: DumpEntry): boolean {
  return type === 'CHECK CONSTRAINT' && !/ NOT (VALID|ENFORCED);\s*$/.test(sql);
}

interface RestoreOptions {
  readonly onProgress: (progress: JoinProgress) => Promise<void>;
  readonly now: () => number;
}

/** Restores entries in order and tells of it about once a second; `code` is taken out before each. */
async function restoreAll(
  target: Session,
  entries: readonly DumpEntry[],
  { onProgress, now }: RestoreOptions,
  code?: ShelvedCode,
): Promise<void> {
  let toldAt = now();
  for (const [index, entry] of entries.entries()) {
    await restore(target, entry, code);
    if (now() - toldAt < 1000) continue;
    toldAt = now();
    await onProgress({
      text: `${index + 1} of ${entries.length}, ${entry.type} ${entry.name}`,
      percent: Math.floor(((index + 1) / entries.length) * 100),
    });
  }
}

const AVAILABLE_HINT =
  'Extensions, collations and the like must be available on this server as on the source. The agent tries again.';

/** The source holds such rows since apply does not check foreign keys; here the constraint is made anew, and looks at all rows. */
const ORPHANS_HINT =
  'SELECT * FROM bdr.bdr_orphans() on the source lists such rows, which conflicts may leave. Delete them there, or insert what they refer to. The agent tries again.';

async function restore(target: Session, entry: DumpEntry, code?: ShelvedCode): Promise<void> {
  await code?.beforeMaking(entry.type);
  try {
    await target.script(entry.sql);
  } catch (error) {
    if (target.lost.aborted) throw error;
    throw new BdrError('schema_copy_failed', {
      message: `could not restore ${entry.type} ${entry.schema ? `${entry.schema}.` : ''}${entry.name}: ${messageOf(error)}`,
      detail: detailOf(error),
      hint: hasSqlstate(error, SQLSTATE.foreignKeyViolation) ? ORPHANS_HINT : AVAILABLE_HINT,
      sqlstate: sqlstateOf(error),
      cause: error,
    });
  }
}

/**
 * The indexes of the source, those of exclusion constraints too, for which the code of tables has to be there when rows are: on
 * expressions, or with predicates. As `indexKey` names their entries in a dump.
 */
export async function computedIndexes(
  source: Session,
  tables: readonly ListedTable[],
): Promise<ReadonlySet<string>> {
  const code = await readUserCode(
    source,
    tables.map(({ name }) => name),
  );
  const withCode = new Set(
    code.filter(({ places }) => places.length > 0).map(({ table }) => displayName(table)),
  );
  const rows = await source.query<{
    schema: string;
    name: string;
    index: string;
    constraint: string | null;
  }>(/* sql */ `
    SELECT n.nspname AS schema, t.relname AS name, x.relname AS index, c.conname AS constraint
    FROM pg_index AS i
    JOIN pg_class AS t ON t.oid = i.indrelid AND t.relkind = 'r'
    JOIN pg_class AS x ON x.oid = i.indexrelid
    JOIN pg_namespace AS n ON n.oid = t.relnamespace
    LEFT JOIN pg_constraint AS c ON c.conindid = i.indexrelid AND c.conrelid = i.indrelid AND c.contype IN ('p', 'u', 'x')
    WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
  `);
  return new Set(
    rows
      .filter((row) => withCode.has(displayName(row)))
      .map(({ schema, name, index, constraint }) =>
        constraint === null
          ? indexKey({ type: 'INDEX', schema, name: index })
          : indexKey({ type: 'CONSTRAINT', schema, name: `${name} ${constraint}` }),
      ),
  );
}

function indexKey({ type, schema, name }: Pick<DumpEntry, 'type' | 'schema' | 'name'>): string {
  // pg_dump writes a comment of one line.
  return JSON.stringify([type, schema, name.replaceAll(/[\n\r]/g, ' ')]);
}

function detailOf(error: unknown): string | undefined {
  const detail =
    error instanceof Error ? (error as unknown as { detail?: unknown }).detail : undefined;
  return typeof detail === 'string' ? detail : undefined;
}
