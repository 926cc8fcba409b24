import type { PgTime } from '../../../src/base/pg-time.ts';
import type { OriginMap } from '../../../src/apply/writers.ts';
import type { Relation } from '../../../src/pgoutput/transaction.ts';
import { ITEM_TABLE } from '../item-relation.ts';
import type { Checks } from './checks.ts';
import type { MutantName } from './mutants.ts';
import type { PolicyRun } from './policy.ts';
import type { Random } from './random.ts';
import type { Processes, Steps } from './process.ts';
import type { ModelServer } from './server.ts';
import type { Switches } from './switches.ts';

/** What all parts of a run share. */
export interface World {
  /** The true time; a server's clock is off by its offset. */
  time: number;
  readonly random: Random;
  readonly scheduler: Processes;
  readonly servers: readonly ModelServer[];
  readonly checks: Checks;
  readonly switches: Switches;
  /** Told of each commit, where somebody listens. */
  readonly note: ((text: string) => void) | undefined;
  /** Of the table; undefined for last update wins. */
  readonly policy: PolicyRun | undefined;
  /** Whether a rule is switched off. */
  has(mutant: MutantName): boolean;
}

/** Now and then a pause of up to `most`. */
export function* dawdle(world: World, probability: number, most: number): Steps {
  if (most === 0 || !world.random.chance(probability)) return;
  const until = world.time + world.random.below(most + 1);
  yield { ready: () => world.time >= until || world.scheduler.isHealing };
}

/** Ends a run: something that must hold does not. */
export class Violation extends Error {
  readonly check: CheckName;

  constructor(check: CheckName, message: string) {
    super(message);
    this.name = 'Violation';
    this.check = check;
  }
}

/** What is checked, worded as what has gone wrong. */
export type CheckName =
  | 'nodes differ'
  | 'a write is lost'
  | 'a loser is nowhere'
  | 'applied twice or out of order'
  | 'acknowledged before durable'
  | 'watermark claims too much'
  | 'writes are called concurrent that are not'
  | 'a policy undoes what its writer knew'
  | 'a policy is not carried out'
  | 'a row loses to nobody'
  | 'a wait does not end'
  | 'a link cannot go on';

/** Numbers of replication origins: those of providers by the number of their node, the own stream's, and that of a join's copy. */
export const OWN_ORIGIN = 100;
export const COPY_ORIGIN = 200;

export function originOf(provider: number): number {
  return provider + 1;
}

/** As NodeService reads it from pg_replication_origin. */
export function originMap(servers: readonly ModelServer[], local: ModelServer): OriginMap {
  const providers = servers.filter((one) => one !== local);
  return {
    local: local.writer,
    providers: new Map(providers.map(({ index, writer }) => [originOf(index), writer])),
    copies: new Set([COPY_ORIGIN]),
  };
}

/** The one table: a key, a value, and a long value that PostgreSQL may keep apart (TOAST). */
export const TABLE = ITEM_TABLE;

/** A published table of schema bdr: what is told of rows that lost. In the model one for both kinds: kind, key, time, writer. */
export const DEATHS: Relation = {
  id: 2,
  schema: 'bdr',
  name: 'death',
  replicaIdentity: 'default',
  columns: ['kind', 'key', 'time', 'writer'].map((name) => ({
    name,
    typeOid: 25,
    typmod: -1,
    isKey: true,
  })),
};

/** In the rows of a transaction that has not committed. */
export const NO_TIME = Number.NaN as PgTime;
