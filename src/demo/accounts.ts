import type { Session } from '../postgres/session.ts';
import type { DemoNode } from './demo-node.ts';
import { until } from './until.ts';

/** Ids are made on all nodes at once, so they are random: a serial would clash. */
export const ACCOUNTS_TABLE = /* sql */ `
  CREATE TABLE IF NOT EXISTS public.accounts (
      id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
      name text NOT NULL,
      balance numeric NOT NULL DEFAULT 0,
      updated_at timestamptz NOT NULL DEFAULT now()
  )
`;

export interface Account {
  readonly id: string;
  readonly name: string;
  readonly balance: string;
}

/** Opens an account on the node and returns its id. */
export async function insertAccount(
  node: DemoNode,
  name: string,
  balance: number,
): Promise<string> {
  await using session = await node.connect();
  return await insert(session, name, balance);
}

/** Sets what is given, on one node. */
export async function updateAccount(node: DemoNode, account: Account): Promise<void> {
  const { id, name, balance } = account;
  const rows = await node.query(
    /* sql */ `
      UPDATE public.accounts SET name = $2, balance = $3, updated_at = now() WHERE id = $1
      RETURNING id
    `,
    [id, name, balance],
  );
  if (rows.length !== 1) throw new Error(`account ${id} is not on ${node.name}`);
}

export async function readAccount(node: DemoNode, id: string): Promise<Account | undefined> {
  await using session = await node.connect();
  return await read(session, id);
}

/** Opens an account and returns its id with the milliseconds from the commit until all readers had it. */
export async function insertSeen(
  writer: DemoNode,
  readers: readonly DemoNode[],
  { name, balance }: { readonly name: string; readonly balance: number },
  signal: AbortSignal,
): Promise<{ id: string; ms: number }> {
  // Connecting takes longer than replicating.
  const sessions = await Promise.all([writer, ...readers].map((node) => node.connect()));
  const [own, ...others] = sessions as [Session, ...Session[]];
  try {
    const id = await insert(own, name, balance);
    const committedAt = performance.now();
    const wanted = { id, name, balance: String(balance) };
    await Promise.all(
      others.map((session, index) => poll(session, readers[index]?.name ?? '', wanted, signal)),
    );
    return { id, ms: performance.now() - committedAt };
  } finally {
    await Promise.all(sessions.map((session) => session.close()));
  }
}

/** Waits until the account reads so on every one of the nodes. */
export async function seenOn(
  nodes: readonly DemoNode[],
  wanted: Account,
  signal: AbortSignal,
): Promise<void> {
  for (const node of nodes) {
    await using session = await node.connect();
    await poll(session, node.name, wanted, signal);
  }
}

async function poll(
  session: Session,
  nodeName: string,
  wanted: Account,
  signal: AbortSignal,
): Promise<void> {
  let found: Account | undefined;
  await until(
    `account "${wanted.name}" with balance ${wanted.balance} is on ${nodeName}`,
    async () => {
      found = await read(session, wanted.id);
      return found?.name === wanted.name && found.balance === wanted.balance;
    },
    {
      everyMs: 2,
      signal,
      found: () =>
        found ? `There it is "${found.name}" with ${found.balance}.` : 'It is not there.',
    },
  );
}

async function insert(session: Session, name: string, balance: number): Promise<string> {
  const [row] = await session.query<{ id: string }>(
    /* sql */ `INSERT INTO public.accounts (name, balance) VALUES ($1, $2) RETURNING id`,
    [name, balance],
  );
  if (!row) throw new Error('assertion failed: INSERT … RETURNING returns a row');
  return row.id;
}

async function read(session: Session, id: string): Promise<Account | undefined> {
  const [row] = await session.query<Account>(
    /* sql */ `SELECT id, name, balance FROM public.accounts WHERE id = $1`,
    [id],
  );
  return row;
}
