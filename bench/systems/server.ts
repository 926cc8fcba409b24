import { totalCpuSeconds, cpuSeconds } from '../cpu.ts';
import type { BenchDatabase } from '../database.ts';
import type { CpuSeconds } from '../result.ts';
import type { BenchServers } from '../servers.ts';
import { until } from '../../src/demo/until.ts';
import { streamOf } from './slots.ts';
import { copyByTablesync, publish, ServerJoiner, subscribe } from './server-join.ts';
import type { Stream, System } from './system.ts';
import { createTables, createFilledTables, type Table } from '../tables.ts';

/** Subscriptions each way. Switched off, they are disabled. */
export class ServerSystem implements System {
  readonly name = 'server';
  readonly a: BenchDatabase;
  readonly b: BenchDatabase;
  readonly joiner: ServerJoiner;

  constructor(servers: BenchServers) {
    this.a = servers.onA('theirs');
    this.b = servers.onB('theirs');
    this.joiner = new ServerJoiner(servers.onA('theirs_join'));
  }

  async setUp(tables: readonly Table[]): Promise<void> {
    await this.a.create();
    await createFilledTables(this.a, tables);
    await publish(this.a);
    await this.b.create();
    await createTables(this.b, tables);
    await publish(this.b);
    await copyByTablesync(this.b, this.a, A_TO_B);
    await subscribe(this.a, this.b, B_TO_A, false);
    await this.switchOff();
  }

  async switchOn(): Promise<void> {
    for (const [subscriber, provider, name] of this.#directions) {
      await subscriber.query(`ALTER SUBSCRIPTION ${name} ENABLE`);
      await until(`subscription ${name} streams`, () => streamOf(provider, name));
    }
  }

  async switchOff(): Promise<void> {
    for (const [subscriber, provider, name] of this.#directions) {
      await disable(subscriber, provider, name);
    }
  }

  hold(): Promise<void> {
    return disable(this.b, this.a, A_TO_B);
  }

  async release(): Promise<void> {
    await this.b.query(`ALTER SUBSCRIPTION ${A_TO_B} ENABLE`);
  }

  stream(): Promise<Stream | undefined> {
    return streamOf(this.a, A_TO_B);
  }

  async cpuSeconds({ walsenderPid }: Stream): Promise<CpuSeconds> {
    // The apply worker and those that it has for parallel apply.
    const workers = await this.b.query<{ pid: string }>(
      `SELECT pid FROM pg_stat_subscription WHERE subname = '${A_TO_B}' AND pid IS NOT NULL`,
    );
    return {
      walsender: cpuSeconds(walsenderPid),
      agent: undefined,
      apply: totalCpuSeconds(workers.map(({ pid }) => Number(pid))),
    };
  }

  peakMegabytes(): undefined {
    return undefined;
  }

  check(): void {
    // The launcher starts its workers again by itself.
  }

  logTail(): string {
    return this.b.server.logTail(10);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.a.close(), this.b.close(), this.joiner.source.close()]);
  }

  get #directions(): readonly (readonly [BenchDatabase, BenchDatabase, string])[] {
    return [
      [this.b, this.a, A_TO_B],
      [this.a, this.b, B_TO_A],
    ];
  }
}

/** Names of subscriptions, and of their slots. */
const A_TO_B = 'a_to_b';
const B_TO_A = 'b_to_a';

async function disable(
  subscriber: BenchDatabase,
  provider: BenchDatabase,
  name: string,
): Promise<void> {
  await subscriber.query(`ALTER SUBSCRIPTION ${name} DISABLE`);
  await until(`subscription ${name} lets go`, async () => {
    const [worker] = await subscriber.query(
      `SELECT FROM pg_stat_subscription WHERE subname = $1 AND pid IS NOT NULL`,
      [name],
    );
    return !worker && (await streamOf(provider, name)) === undefined;
  });
}
