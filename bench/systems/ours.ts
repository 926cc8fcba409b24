import path from 'node:path';
import { until } from '../../src/demo/until.ts';
import { AgentProcess } from '../agent-process.ts';
import { cpuSeconds, peakMegabytes, totalCpuSeconds } from '../cpu.ts';
import type { BenchDatabase } from '../database.ts';
import type { CpuSeconds } from '../result.ts';
import type { BenchServers } from '../servers.ts';
import { createGroup, installExtension, joinGroup, OurJoiner } from './ours-join.ts';
import { streamOf } from './slots.ts';
import type { Stream, System } from './system.ts';
import { createFilledTables, type Table } from '../tables.ts';

/** A group of two nodes, with the built agents as processes of their own. Switched off, the agents are stopped. */
export class OurSystem implements System {
  readonly name = 'ours';
  readonly a: BenchDatabase;
  readonly b: BenchDatabase;
  readonly joiner: OurJoiner;
  readonly #profileDir: string | undefined;
  #agents: readonly AgentProcess[] = [];
  #slot = '';
  /** Of B's agent, when B began to take what is measured. */
  #agentBefore: number | undefined;

  constructor(servers: BenchServers, profileDir: string | undefined) {
    this.a = servers.onA('ours');
    this.b = servers.onB('ours');
    this.joiner = new OurJoiner(servers.onA('ours_join'));
    this.#profileDir = profileDir;
  }

  async setUp(tables: readonly Table[]): Promise<void> {
    this.#startAgents();
    await this.a.create();
    await createFilledTables(this.a, tables);
    await installExtension(this.a);
    await createGroup(this.a, 'a');
    await this.b.create();
    await installExtension(this.b);
    await joinGroup(this.b, 'b', this.a);
    const [row] = await this.a.query<{ slot_name: string }>(
      `SELECT slot_name FROM bdr.bdr_node_slots WHERE node_name = 'b'`,
    );
    this.#slot = row?.slot_name ?? '';
    await this.switchOff();
  }

  async switchOn(): Promise<void> {
    this.#startAgents();
    for (const database of [this.a, this.b]) {
      await until('both links stream', async () => {
        this.check();
        const [row] = await database.query<{ active: string }>(
          `SELECT bool_and(walsender_active) AS active FROM bdr.bdr_node_slots`,
        );
        return row?.active === 't';
      });
    }
  }

  async switchOff(): Promise<void> {
    const agents = this.#agents;
    this.#agents = [];
    await Promise.all(agents.map((agent) => agent.stop()));
  }

  async hold(): Promise<void> {
    await this.b.query(`SELECT bdr.bdr_apply_pause()`);
    await until('the link lets go', async () => {
      this.check();
      return (await this.stream()) === undefined;
    });
  }

  async release(): Promise<void> {
    this.#agentBefore = cpuSeconds(this.#agentOfB?.pid);
    await this.b.query(`SELECT bdr.bdr_apply_resume()`);
  }

  stream(): Promise<Stream | undefined> {
    return streamOf(this.a, this.#slot);
  }

  async cpuSeconds({ walsenderPid }: Stream): Promise<CpuSeconds> {
    const backends = await this.b.query<{ pid: string }>(/* sql */ `
      SELECT pid FROM pg_stat_activity
      WHERE datname = current_database() AND application_name LIKE 'a:%' AND backend_type = 'client backend'
    `);
    const agent = cpuSeconds(this.#agentOfB?.pid);
    return {
      walsender: cpuSeconds(walsenderPid),
      agent: agent === undefined ? undefined : agent - (this.#agentBefore ?? 0),
      apply: totalCpuSeconds(backends.map(({ pid }) => Number(pid))),
    };
  }

  peakMegabytes(): number | undefined {
    return peakMegabytes(this.#agentOfB?.pid);
  }

  check(): void {
    for (const agent of this.#agents) agent.check();
  }

  logTail(): string {
    return this.#agentOfB?.logTail() ?? '';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.switchOff();
    await Promise.all([this.a.close(), this.b.close(), this.joiner.source.close()]);
  }

  get #agentOfB(): AgentProcess | undefined {
    return this.#agents[1];
  }

  #startAgents(): void {
    this.#agents = [this.a, this.b].map(({ server }) => {
      const logPath = path.join(server.dir, 'agent.log');
      return new AgentProcess(server.dsn(), logPath, this.#profileDir);
    });
  }
}
