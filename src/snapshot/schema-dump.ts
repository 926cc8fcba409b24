import { BdrError } from '../base/errors.ts';
import { parseDump, type DumpEntry, type DumpSection } from './dump-archive.ts';
import { rolesNamedIn } from './dump-roles.ts';
import {
  findSystemPgDump,
  runSystemPgDump,
  type ConnectionParameters,
  type Environment,
} from './pg-dump-system.ts';
import { runWasmPgDump, WASM_PG_DUMP_MAJOR, type AuthenticatedSocket } from './pg-dump-wasm.ts';

/** Which pg_dump to take: the system's, the one compiled to WebAssembly, or the system's where it is new enough. */
export type PgDumpChoice = 'auto' | 'system' | 'wasm';

export interface SchemaDumpOptions {
  /** The source server's major. */
  readonly serverMajor: number;
  /** Where the system's pg_dump connects to. */
  readonly connection: ConnectionParameters;
  /** Opens a connection for pg_dump as WebAssembly, which then owns it. Called once a section; not for the system's. */
  readonly connect: (signal: AbortSignal | undefined) => Promise<AuthenticatedSocket>;
  /** The process's environment: PATH leads to pg_dump. */
  readonly environment: Environment;
  readonly choice?: PgDumpChoice | undefined;
  /** An exported snapshot. Without one the two sections are read at two moments. */
  readonly snapshot?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A database's schema as SQL, in the two halves between which the data is copied. */
export interface SchemaDump {
  readonly preData: DumpEntry[];
  /** Ends with a MATERIALIZED VIEW DATA entry for each that is populated on the source, in the order of their dependencies. */
  readonly postData: DumpEntry[];
  /** Roles that the text names; see `requiredRolesSql` for the exact list. */
  readonly roles: string[];
  readonly pgDumpVersion: string;
  readonly via: 'system' | 'wasm';
}

/**
 * Dumps the schema of a database with pg_dump: everything but data, publications, subscriptions, security labels,
 * tablespaces and what belongs to bdr. Owners and privileges are in it.
 */
export async function dumpSchema(options: SchemaDumpOptions): Promise<SchemaDump> {
  const via = await choose(options);
  const other = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, other.signal]) : other.signal;
  const section = async (name: DumpSection) => {
    try {
      const args = pgDumpArguments(name, options.snapshot);
      const text =
        via === 'system'
          ? await runSystemPgDump(options.connection, args, options.environment, signal)
          : await runWasmPgDump(await options.connect(signal), args, signal);
      return parseDump(text, name);
    } catch (error) {
      other.abort(error); // one half is of no use
      throw error;
    }
  };
  const [pre, post] = await Promise.allSettled([section('pre-data'), section('post-data')]);
  options.signal?.throwIfAborted();
  if (pre.status === 'rejected') throw pre.reason;
  if (post.status === 'rejected') throw post.reason;
  const preData = pre.value.entries;
  const postData = post.value.entries;
  return {
    preData,
    postData,
    roles: rolesNamedIn([...preData, ...postData]),
    pgDumpVersion: pre.value.pgDumpVersion,
    via,
  };
}

async function choose(options: SchemaDumpOptions): Promise<'system' | 'wasm'> {
  const { choice = 'auto', serverMajor } = options;
  const system =
    choice === 'wasm' ? undefined : await findSystemPgDump(options.environment, options.signal);
  if (system && system.major >= serverMajor) return 'system';
  if (choice === 'system')
    throw new BdrError('schema_copy_failed', {
      message: system
        ? `pg_dump ${system.version} is older than the server it would dump, PostgreSQL ${serverMajor}`
        : 'no pg_dump was found on the PATH',
      hint: `Install the client programs of PostgreSQL ${serverMajor} or newer.`,
    });
  if (serverMajor > WASM_PG_DUMP_MAJOR)
    throw new BdrError('schema_copy_failed', {
      message: `the built-in pg_dump ${WASM_PG_DUMP_MAJOR} is older than the server, PostgreSQL ${serverMajor}`,
      hint: `Install the client programs of PostgreSQL ${serverMajor} or newer.`,
    });
  return 'wasm';
}

/**
 * The post-data section is not limited to the schema: that adds the statements that fill materialized views, in their order,
 * and no others, because rows belong to the data section.
 */
function pgDumpArguments(section: DumpSection, snapshot: string | undefined): string[] {
  return [
    `--section=${section}`,
    ...(section === 'pre-data' ? ['--schema-only'] : []),
    ...(snapshot === undefined ? [] : [`--snapshot=${snapshot}`]),
    '--exclude-schema=bdr',
    '--exclude-schema=bdr_guard',
    '--no-publications',
    '--no-subscriptions',
    '--no-security-labels',
    '--no-tablespaces',
    '--encoding=UTF8',
  ];
}
