/**
 * A log sequence number: a byte position in a server's write-ahead log.
 *
 * Held as a number, not a bigint: the hot path compares millions of them, and a double is exact up to 2^53 bytes, which is
 * nine petabytes of WAL. A position above that is refused where it enters, never rounded.
 */
export type Lsn = number & { readonly __brand: 'Lsn' };

/** The invalid position: before every real one. */
export const ZERO_LSN = 0 as Lsn;

const HIGH = 0x1_0000_0000;
const TEXT = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/;

/** Builds a position from its two 32-bit halves. Throws RangeError above 2^53. */
export function lsnFromHalves(high: number, low: number): Lsn {
  if (high > 0x1f_ffff) throw new RangeError(`LSN ${high.toString(16)}/… lies above 2^53 bytes`);
  return (high * HIGH + low) as Lsn;
}

/** Parses PostgreSQL's text form, `16/B374D848`. Throws SyntaxError on anything else. */
export function parseLsn(text: string): Lsn {
  const match = TEXT.exec(text);
  if (!match) throw new SyntaxError(`not a log sequence number: ${JSON.stringify(text)}`);
  return lsnFromHalves(parseInt(match[1] as string, 16), parseInt(match[2] as string, 16));
}

/** Writes PostgreSQL's text form, as `pg_lsn` prints it. */
export function formatLsn(lsn: Lsn): string {
  const high = Math.floor(lsn / HIGH);
  const low = lsn % HIGH;
  return `${high.toString(16).toUpperCase()}/${low.toString(16).toUpperCase()}`;
}
