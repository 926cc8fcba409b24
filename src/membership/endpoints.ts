import type { Conninfo, ConninfoEnvironment, ConninfoValues } from '../postgres/conninfo.ts';

/** How the agent reaches databases: its own by its own DSN, the others by theirs. */
export interface Endpoints {
  /** This node's database. */
  readonly local: Conninfo;
  /** The DSN that says so, for another thread. */
  readonly localDsn: string;
  readonly environment: ConninfoEnvironment;
  /** Reads a DSN of the catalog. Throws BdrError `invalid_dsn`. */
  conninfo(dsn: string): Conninfo;
  /** The same as keywords with their values, for programs that speak libpq. */
  parameters(dsn: string): ConninfoValues;
}
