import { until } from '../../src/demo/until.ts';
import type { BenchDatabase } from '../database.ts';
import type { Joiner } from './system.ts';
import { createFilledTables, type Table } from '../tables.ts';

// What a user types to make a node.

export async function installExtension(database: BenchDatabase): Promise<void> {
  await database.query(`CREATE EXTENSION bdr`);
}

export async function createGroup(database: BenchDatabase, node: string): Promise<void> {
  await database.query(
    `SELECT bdr.bdr_group_create(local_node_name := $1, node_external_dsn := $2)`,
    [node, database.dsn],
  );
  await database.query(`SELECT bdr.bdr_node_join_wait_for_ready()`);
}

export async function joinGroup(
  database: BenchDatabase,
  node: string,
  source: BenchDatabase,
): Promise<void> {
  await database.query(
    /* sql */ `
      SELECT bdr.bdr_group_join(local_node_name := $1, node_external_dsn := $2, join_using_dsn := $3)
    `,
    [node, database.dsn, source.dsn],
  );
  await database.query(`SELECT bdr.bdr_node_join_wait_for_ready()`);
}

/** Joins a node to a group that has one. */
export class OurJoiner implements Joiner {
  readonly source: BenchDatabase;

  constructor(source: BenchDatabase) {
    this.source = source;
  }

  async prepare(tables: readonly Table[]): Promise<void> {
    await this.source.create();
    await createFilledTables(this.source, tables);
    await installExtension(this.source);
    await createGroup(this.source, 'source');
  }

  async join(copy: BenchDatabase): Promise<void> {
    await installExtension(copy);
    await joinGroup(copy, copy.name, this.source);
  }

  async undo(copy: BenchDatabase): Promise<void> {
    await this.source.query(`SELECT bdr.bdr_part_by_node_names(ARRAY[$1])`, [copy.name]);
    await until('nothing is left of the parted node', async () => {
      const slots = await this.source.query(`SELECT FROM bdr.bdr_node_slots WHERE node_name = $1`, [
        copy.name,
      ]);
      return slots.length === 0;
    });
    await copy.query(`SELECT bdr.remove_bdr_from_local_node(true)`);
    await copy.drop();
  }
}
