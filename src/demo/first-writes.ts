import { insertSeen } from './accounts.ts';
import type { DemoNode } from './demo-node.ts';

/** A write that was seen elsewhere. */
export interface FirstWrite {
  readonly writer: string;
  readonly name: string;
  readonly readers: readonly string[];
  /** From the commit until it could be read on all the others. */
  readonly ms: number;
}

const NAMES = ['Ada', 'Bob', 'Cleo', 'Dan', 'Eve', 'Finn', 'Gwen', 'Hugo'];

/** Writes a row on each node in turn and tells when all others have it. */
export async function* firstWrites(
  nodes: readonly DemoNode[],
  signal: AbortSignal,
): AsyncGenerator<FirstWrite> {
  for (const [index, writer] of nodes.entries()) {
    const name = NAMES[index % NAMES.length] as string;
    const readers = nodes.filter((node) => node !== writer);
    const account = { name, balance: 100 * (index + 1) };
    const { ms } = await insertSeen(writer, readers, account, signal);
    yield { writer: writer.name, name, readers: readers.map((node) => node.name), ms };
  }
}
