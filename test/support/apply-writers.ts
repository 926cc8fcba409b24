import { ChangeWriter } from '../../src/apply/writer.ts';
import { noCounts } from '../../src/apply/apply-counts.ts';
import type { OriginMap } from '../../src/apply/writers.ts';
import { quoteLiteral } from '../../src/base/names.ts';
import { formatPgTime, LONG_AGO, type PgTime } from '../../src/base/pg-time.ts';
import type { Writer } from '../../src/conflict/version.ts';
import type { Relation } from '../../src/pgoutput/transaction.ts';
import { ensureOrigin } from '../../src/postgres/origins.ts';
import { describeTable } from '../../src/postgres/describe-table.ts';
import type { Session } from '../../src/postgres/session.ts';

// A node that applies what one of its two peers sends, for tests that write versions which they state exactly.

/** The node itself, the peer whose changes it applies, and the other one. */
export const [LOCAL, PROVIDER, OTHER] = [1, 2, 3].map((sequence) => ({
  id: { sysid: '7', timeline: 1, dboid: sequence },
  sequence,
})) as [Writer, Writer, Writer];

/** The numbers of the peers' origins `provider` and `other`, which are made where they are missing. */
export async function peerOrigins(session: Session): Promise<{ provider: number; other: number }> {
  return {
    provider: await ensureOrigin(session, 'provider'),
    other: await ensureOrigin(session, 'other'),
  };
}

/** What a node knows of origins whose peers are those two. */
export function originsOfPeers({
  provider,
  other,
}: {
  provider: number;
  other: number;
}): OriginMap {
  return {
    local: LOCAL,
    providers: new Map([
      [provider, PROVIDER],
      [other, OTHER],
    ]),
    copies: new Set(),
  };
}

/** A commit of the node whose changes come under `origin`, of a time that is stated. */
export async function commitAs(
  user: Session,
  origin: string,
  time: PgTime,
  statements: string,
): Promise<void> {
  await user.script(`SELECT pg_replication_origin_session_setup(${quoteLiteral(origin)})`);
  await user.script(`
    BEGIN;
    ${statements};
    SELECT pg_replication_origin_xact_setup('0/0', ${quoteLiteral(formatPgTime(time))});
    COMMIT`);
  await user.script(
    'SELECT pg_replication_origin_xact_reset(), pg_replication_origin_session_reset()',
  );
}

/** A table of a session's server, as that would describe it to a peer. */
export async function describeNamed(session: Session, name: string): Promise<Relation> {
  const [row] = await session.query<{ oid: string }>('SELECT $1::regclass::oid AS oid', [name]);
  const relation = row && (await describeTable(session, row.oid));
  if (!relation) throw new Error(`no table ${name}`);
  return relation;
}

type Options = ConstructorParameters<typeof ChangeWriter>[0];

/** Writes changes of PROVIDER. Nothing is read from it, and nothing of others has been seen, unless `options` say so. */
export function providersWriter(
  origins: { readonly provider: number; readonly other: number },
  options: Pick<Options, 'session' | 'tables'> & Partial<Options>,
): ChangeWriter {
  return new ChangeWriter({
    provider: PROVIDER,
    providerOrigin: origins.provider,
    origins: () => originsOfPeers(origins),
    otherNodes: () => [LOCAL.id, OTHER.id],
    readFromProvider: () => Promise.resolve([]),
    untilSeen: () => Promise.resolve(true),
    providerApplied: () => Promise.resolve(LONG_AGO),
    recordLimit: () => LONG_AGO,
    groupLimit: () => LONG_AGO,
    counts: noCounts(),
    history: { isKept: true, withRows: true },
    tellOfCommand: () => Promise.resolve(),
    onLostWrite: () => undefined,
    ...options,
  });
}
