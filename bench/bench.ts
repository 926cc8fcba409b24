import { compareTables } from './compare.ts';
import { MARKER_TABLE } from './marker.ts';
import { SYSTEMS, toResults, type Result, type Sample, type SystemName } from './result.ts';
import type { BenchServers } from './servers.ts';
import { moveSlots } from './systems/slots.ts';
import type { System } from './systems/system.ts';
import { vacuum, type Table } from './tables.ts';
import { sized, type Plan, type Workload } from './workloads/workload.ts';
import { catchUp } from './workloads/catch-up.ts';
import { writeTransactions } from './workloads/writers.ts';

export type Tell = (text: string) => void;

const WARM_UP_TABLE = 'bench_warm_up';
const WARM_UP_TRANSACTIONS = 20_000;
/** What an agent compiles in its first catch-up it compiles again when it has met idle times and another life of its connections. */
const WARM_UPS = 3;

/** For what every workload needs, beside its own. */
const OWN_TABLES: readonly Table[] = [
  { name: MARKER_TABLE, create: `CREATE TABLE public.${MARKER_TABLE} (id bigint PRIMARY KEY)` },
  {
    name: WARM_UP_TABLE,
    create: `CREATE TABLE public.${WARM_UP_TABLE} (id bigint PRIMARY KEY, text text)`,
    // What the first warm-up updates and deletes.
    fill: /* sql */ `
      INSERT INTO public.${WARM_UP_TABLE} (id, text)
      SELECT id, 'new' FROM generate_series(1 - ${WARM_UP_TRANSACTIONS}, ${WARM_UP_TRANSACTIONS}) AS id
    `,
  },
];

/** Measures the workloads one after the other. */
export class Bench {
  readonly #servers: BenchServers;
  readonly #systems: Readonly<Record<SystemName, System>>;
  readonly #plan: Plan;
  readonly #tell: Tell;
  #warmUps = 0;

  constructor(
    servers: BenchServers,
    systems: Readonly<Record<SystemName, System>>,
    plan: Plan,
    tell: Tell,
  ) {
    this.#servers = servers;
    this.#systems = systems;
    this.#plan = plan;
    this.#tell = tell;
  }

  /** Makes the databases of both systems, with all tables of these workloads. */
  async setUp(workloads: readonly Workload[]): Promise<void> {
    const tables = new Map(
      [...OWN_TABLES, ...workloads.flatMap((workload) => workload.tables)].map((table) => [
        table.name,
        table,
      ]),
    );
    for (const name of SYSTEMS) {
      this.#tell(`set up ${name}`);
      await this.#systems[name].setUp([...tables.values()]);
    }
  }

  /** All runs of one workload, the systems taking turns in who is first. */
  async measure(workload: Workload): Promise<Result[]> {
    const samples: Record<SystemName, Sample[]> = { ours: [], server: [] };
    const { runs } = this.#plan;
    const count = Math.min(runs, workload.mostRuns ?? runs);
    for (const name of workload.systems) await this.#prepare(workload, this.#systems[name]);
    for (let number = 0; number < count; number += 1) {
      const order = number % 2 === 0 ? workload.systems : workload.systems.toReversed();
      for (const name of order) {
        const sample = await this.#run(workload, this.#systems[name], number);
        samples[name].push(sample);
        const values = sample.values.map((value, index) => {
          const { unit = '' } = workload.metrics[index] ?? {};
          return `${value.toFixed(2)} ${unit}`;
        });
        this.#tell(
          `${workload.name}, run ${number + 1} of ${count}, ${name}: ${values.join(', ')}`,
        );
      }
    }
    return toResults(workload.name, workload.metrics, samples);
  }

  async #prepare(workload: Workload, system: System): Promise<void> {
    if (!workload.prepare) return;
    await system.switchOn();
    await workload.prepare(system);
    await system.switchOff();
  }

  /** Both systems come to each run alike: tables vacuumed, nothing left to write or to decode, programs warm. */
  async #run(workload: Workload, system: System, number: number): Promise<Sample> {
    const tables = [...OWN_TABLES, ...workload.tables].map((table) => table.name);
    for (const database of [system.a, system.b]) await vacuum(database, tables);
    await this.#servers.checkpoint();
    await system.switchOn();
    for (let count = 0; count < WARM_UPS; count++) await this.#warmUp(system);
    await moveSlots(system);
    const { rowsCompared = 0, ...measured } = await workload.run({
      system,
      servers: this.#servers,
      number,
    });
    await system.switchOff();
    const rows = await compareTables(system.a, system.b, tables);
    return { ...measured, rowsCompared: rowsCompared + rows };
  }

  /**
   * An agent that has just been started runs code that is not compiled yet, and a walsender and a backend read their catalogs; in
   * daily work they have that behind them.
   */
  async #warmUp(system: System): Promise<void> {
    this.#warmUps += 1;
    // Enough for a tenth of the size too; a trial of the bench itself needs none.
    const { scale } = this.#plan;
    const count = scale < 0.1 ? sized(WARM_UP_TRANSACTIONS, this.#plan) : WARM_UP_TRANSACTIONS;
    const from = this.#warmUps * WARM_UP_TRANSACTIONS;
    await catchUp(system, (a) =>
      writeTransactions(a, {
        count,
        seed: 0,
        body: /* sql */ `
          INSERT INTO public.${WARM_UP_TABLE} (id, text) VALUES (${from} + i, 'new');
          UPDATE public.${WARM_UP_TABLE} SET text = 'changed' WHERE id = ${from} + i - ${WARM_UP_TRANSACTIONS};
          DELETE FROM public.${WARM_UP_TABLE} WHERE id = ${from} + i - 2 * ${WARM_UP_TRANSACTIONS};
        `,
      }),
    );
  }
}
