import { ChangeWriter } from '../../src/apply/writer.ts';
import { noCounts } from '../../src/apply/apply-counts.ts';
import { LONG_AGO } from '../../src/base/pg-time.ts';
import type { Writer } from '../../src/conflict/version.ts';
import { ensureOrigin } from '../../src/postgres/origins.ts';
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

type Options = ConstructorParameters<typeof ChangeWriter>[0];

/** Writes changes of PROVIDER. Nothing is read from it, and nothing of others has been seen, unless `options` say so. */
export function providersWriter(
  origins: { readonly provider: number; readonly other: number },
  options: Pick<Options, 'session' | 'tables'> & Partial<Options>,
): ChangeWriter {
  return new ChangeWriter({
    provider: PROVIDER,
    providerOrigin: origins.provider,
    origins: () => ({
      local: LOCAL,
      providers: new Map([
        [origins.provider, PROVIDER],
        [origins.other, OTHER],
      ]),
      copies: new Set(),
    }),
    otherNodes: () => [LOCAL.id, OTHER.id],
    readFromProvider: () => Promise.resolve([]),
    untilSeen: () => Promise.resolve(true),
    providerApplied: () => Promise.resolve(LONG_AGO),
    recordLimit: () => LONG_AGO,
    groupLimit: () => LONG_AGO,
    counts: noCounts(),
    history: { isKept: true, withRows: true },
    onLostWrite: () => undefined,
    ...options,
  });
}
