import type { Random } from '../support/sim/random.ts';
import {
  CLEARED,
  HOT,
  JOURNAL,
  PAIR,
  returning,
  SEAT,
  WIDE,
  type ContendedTable,
} from './tables.ts';

// What clients do.

export type Statement =
  | {
      readonly kind: 'write';
      readonly table: ContendedTable;
      readonly sql: string;
      readonly params: readonly string[];
    }
  | { readonly kind: 'truncate'; readonly table: ContendedTable }
  | { readonly kind: 'journal'; readonly sql: string; readonly params: readonly string[] }
  /** Stays in the transaction, with its locks, doing nothing. */
  | { readonly kind: 'linger'; readonly ms: number };

/** A transaction as it is drawn; what it finds in the tables is not known before. */
export interface Plan {
  readonly entry: string;
  readonly parts: number;
  readonly statements: readonly Statement[];
  readonly isRolledBack: boolean;
  /** Afterwards, until the next one. */
  readonly pauseMs: number;
}

const HOT_KEYS = 60;
const WIDE_KEYS = 10;
const PAIR_KEYS = 4;
const CLEARED_KEYS = 12;
const SEAT_KEYS = 20;
const SEAT_PLACES = 12;
const SEAT_CODES = ['a', 'A', 'b', 'B', 'c', 'd', 'e', 'f', 'g', 'h'];

/** The transactions of one client, one after the other, the same for the same seed. */
export class Workload {
  readonly #random: Random;
  readonly #client: string;
  readonly #mostPauseMs: number;
  #transactions = 0;
  #tags = 0;

  /** `client` is unique in the run: the values that it writes begin with it. `mostPauseMs`: between two transactions. */
  constructor(random: Random, client: string, mostPauseMs: number) {
    this.#random = random;
    this.#client = client;
    this.#mostPauseMs = mostPauseMs;
  }

  next(): Plan {
    const random = this.#random;
    this.#transactions += 1;
    const entry = `${this.#client}-${this.#transactions}`;
    const parts = random.chance(0.015) ? 200 + random.below(1000) : 1;
    const statements = Array.from({ length: this.#size() }, () => this.#statement());
    if (random.chance(0.01)) {
      statements.splice(random.below(statements.length), 0, {
        kind: 'linger',
        ms: 200 + random.below(1500),
      });
    }
    statements.splice(random.below(statements.length + 1), 0, journal(entry, parts));
    return {
      entry,
      parts,
      statements,
      isRolledBack: random.chance(0.03),
      pauseMs: random.below(this.#mostPauseMs),
    };
  }

  /** A statement, a few, or so many that apply writes them as sets. */
  #size(): number {
    if (this.#random.chance(0.04)) return 10 + this.#random.below(25);
    return this.#random.pick([1, 1, 1, 2, 3, 4]);
  }

  #statement(): Statement {
    return this.#random.pick([
      () => this.#hot(),
      () => this.#hot(),
      () => this.#hot(),
      () => this.#wide(),
      () => this.#wide(),
      () => this.#pair(),
      () => this.#pair(),
      () => this.#cleared(),
      () => this.#seat(),
    ])();
  }

  #hot(): Statement {
    const random = this.#random;
    const tag = this.#tag();
    // The lesser of two is more often small: some keys are hotter than others.
    const id = Math.min(random.below(HOT_KEYS), random.below(HOT_KEYS));
    const insert = /* sql */ `INSERT INTO public.hot VALUES ($1, $2, $2)`;
    switch (random.below(10)) {
      case 0:
        return write(HOT, `${insert} ON CONFLICT (id) DO NOTHING`, id, tag);
      case 1:
      case 2:
        return write(
          HOT,
          `${insert} ON CONFLICT (id) DO UPDATE SET tag = EXCLUDED.tag, note = EXCLUDED.note`,
          id,
          tag,
        );
      case 3:
        return write(HOT, `DELETE FROM public.hot WHERE id = $1`, id);
      case 4:
        return write(
          HOT,
          `INSERT INTO public.hot SELECT g, $1 || '/' || g, $1 FROM generate_series($2::integer, $3::integer) AS g
           ON CONFLICT (id) DO UPDATE SET tag = EXCLUDED.tag`,
          tag,
          id,
          Math.min(HOT_KEYS - 1, id + random.below(30)),
        );
      case 5:
        return write(HOT, `DELETE FROM public.hot WHERE id BETWEEN $1 AND $2`, id, id + 3);
      case 6:
        return write(
          HOT,
          `UPDATE public.hot SET tag = $3 || '/' || id WHERE id BETWEEN $1 AND $2`,
          id,
          id + 6,
          tag,
        );
      case 7:
        return write(HOT, `UPDATE public.hot SET tag = $2, note = $2 WHERE id = $1`, id, tag);
      default:
        return write(HOT, `UPDATE public.hot SET tag = $2 WHERE id = $1`, id, tag);
    }
  }

  #wide(): Statement {
    const random = this.#random;
    const tag = this.#tag();
    const id = random.below(WIDE_KEYS);
    const big = `repeat($2 || ' ', ${300 + random.below(700)})`;
    switch (random.below(8)) {
      case 0:
        return write(WIDE, `DELETE FROM public.wide WHERE id = $1`, id);
      case 1:
      case 2:
        return write(
          WIDE,
          `INSERT INTO public.wide VALUES ($1, $2, ${big})
           ON CONFLICT (id) DO UPDATE SET tag = EXCLUDED.tag, big = EXCLUDED.big`,
          id,
          tag,
        );
      case 3:
        return write(WIDE, `UPDATE public.wide SET tag = $2, big = ${big} WHERE id = $1`, id, tag);
      case 4:
        return write(
          WIDE,
          `UPDATE public.wide SET tag = $2, id = $3 WHERE id = $1`,
          id,
          tag,
          random.below(WIDE_KEYS),
        );
      default:
        return write(WIDE, `UPDATE public.wide SET tag = $2 WHERE id = $1`, id, tag);
    }
  }

  #pair(): Statement {
    const random = this.#random;
    const tag = this.#tag();
    const a = random.below(PAIR_KEYS);
    const b = `b${random.below(PAIR_KEYS)}`;
    switch (random.below(6)) {
      case 0:
        return write(PAIR, `DELETE FROM public.pair WHERE a = $1 AND b = $2`, a, b);
      case 1:
      case 2:
        return write(
          PAIR,
          `INSERT INTO public.pair VALUES ($1, $2, $3) ON CONFLICT (a, b) DO UPDATE SET tag = EXCLUDED.tag`,
          a,
          b,
          tag,
        );
      case 3:
        return write(
          PAIR,
          `UPDATE public.pair SET b = $4, tag = $3 WHERE a = $1 AND b = $2
           AND NOT EXISTS (SELECT FROM public.pair AS p WHERE p.a = $1 AND p.b = $4)`,
          a,
          b,
          tag,
          `b${random.below(PAIR_KEYS)}`,
        );
      default:
        return write(PAIR, `UPDATE public.pair SET tag = $3 WHERE a = $1 AND b = $2`, a, b, tag);
    }
  }

  #cleared(): Statement {
    const random = this.#random;
    const tag = this.#tag();
    const id = random.below(CLEARED_KEYS);
    if (random.chance(0.08)) {
      return { kind: 'truncate', table: CLEARED };
    }
    if (random.chance(0.2)) return write(CLEARED, `DELETE FROM public.cleared WHERE id = $1`, id);
    return write(
      CLEARED,
      `INSERT INTO public.cleared VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET tag = EXCLUDED.tag`,
      id,
      tag,
    );
  }

  /** Few values, so that nodes often give one to different rows; not one that a row has here, as far as the client sees. */
  #seat(): Statement {
    const random = this.#random;
    const tag = this.#tag();
    const id = random.below(SEAT_KEYS);
    const row = [id, tag, random.below(SEAT_PLACES), random.pick(SEAT_CODES)] as const;
    const free = /* sql */ `NOT EXISTS (
      SELECT FROM public.seat AS s WHERE s.id <> $1::integer AND (s.place = $3::integer OR lower(s.code) = lower($4))
    )`;
    const insert = /* sql */ `INSERT INTO public.seat SELECT $1::integer, $2, $3::integer, $4 WHERE ${free}`;
    switch (random.below(6)) {
      case 0:
      case 1:
        return write(SEAT, `DELETE FROM public.seat WHERE id = $1`, id);
      case 2:
        return write(
          SEAT,
          `UPDATE public.seat SET tag = $2, place = $3::integer, code = $4 WHERE id = $1::integer AND ${free}`,
          ...row,
        );
      case 3:
        return write(SEAT, `${insert} ON CONFLICT DO NOTHING`, ...row);
      default:
        return write(
          SEAT,
          `${insert} ON CONFLICT (id) DO UPDATE SET tag = EXCLUDED.tag, place = EXCLUDED.place, code = EXCLUDED.code`,
          ...row,
        );
    }
  }

  #tag(): string {
    this.#tags += 1;
    return `${this.#client}.${this.#tags}`;
  }
}

function write(
  table: ContendedTable,
  sql: string,
  ...params: readonly (string | number)[]
): Statement {
  return {
    kind: 'write',
    table,
    sql: `${sql} ${returning(table)}`,
    params: params.map(String),
  };
}

function journal(entry: string, parts: number): Statement {
  return {
    kind: 'journal',
    sql: `INSERT INTO public.${JOURNAL} SELECT $1, g, repeat('x', 100) FROM generate_series(1, $2::integer) AS g`,
    params: [entry, String(parts)],
  };
}
