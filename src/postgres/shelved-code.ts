import { quoteLiteral } from '../base/names.ts';
import type { Session } from './session.ts';

const FUNCTIONS = 'FUNCTION';
/** What may give a domain another constraint. */
const DOMAINS = ['DOMAIN', 'CHECK CONSTRAINT'];

/**
 * Takes the code of ordinary roles out of a database while a superuser makes definitions there, and puts it back.
 *
 * To make a definition can be enough to run the code that it names: what is constant in it is computed to see whether it may
 * change (`GENERATED ALWAYS AS (f(1))`, `PARTITION BY RANGE ((f(1) + id))`), CHECK constraints, indexes' predicates and statistics
 * are simplified to see what they imply or how to plan, a foreign key's rows are looked at by a query, and a value of a domain
 * is read, domains within arrays already by the parser. So functions of ordinary roles return nothing of theirs meanwhile, and the CHECK
 * constraints of their domains hold for everything: by their rows in the catalogs, because to make them anew would be to parse them.
 * Not taken out is what superusers have made: constraints of tables that call the server's own functions must meet no rows
 * while a superuser works.
 */
export class ShelvedCode {
  readonly #session: Session;
  readonly #shelve: string;
  #hasNewFunctions = false;
  #hasNewDomains = false;

  /**
   * Call it once in a session, in the transaction that makes the definitions: only `session` knows what is shelved. Where rows
   * are looked at, functions must return null, so that nothing follows from what they return. Where tables are made, they must
   * not, where that can be helped: an expression that is null whatever the row is no partition key.
   */
  static async open(session: Session, result: 'null' | 'not null'): Promise<ShelvedCode> {
    await session.script(OPEN);
    return new ShelvedCode(session, result);
  }

  private constructor(session: Session, result: 'null' | 'not null') {
    this.#session = session;
    this.#shelve = shelveSql(
      result === 'null'
        ? 'BEGIN RETURN NULL; END'
        : "BEGIN RETURN '0'; EXCEPTION WHEN OTHERS THEN RETURN NULL; END",
    );
  }

  /**
   * Call it before a definition of a kind, in pg_dump's words, is made: then nothing of those before can run. New functions are not
   * taken out one by one, because that would look through all functions each time.
   */
  async beforeMaking(kind: string): Promise<void> {
    if (this.#hasNewDomains || (this.#hasNewFunctions && kind !== FUNCTIONS)) await this.shelve();
    this.#hasNewFunctions ||= kind === FUNCTIONS;
    this.#hasNewDomains ||= DOMAINS.includes(kind);
  }

  /** Takes all out that is there. Returns whether anything is out. */
  async shelve(): Promise<boolean> {
    this.#hasNewFunctions = false;
    this.#hasNewDomains = false;
    const [row] = await this.#session.script<{ any: string }>(this.#shelve);
    return row?.any === 't';
  }

  /** Puts all back. */
  async unshelve(): Promise<void> {
    await this.#session.script(UNSHELVE);
  }
}

const OPEN = /* sql */ `
  CREATE TEMPORARY TABLE bdr_shelved_function AS
  SELECT p.oid, p.prolang, p.prosrc, p.prosqlbody, p.proconfig FROM pg_catalog.pg_proc AS p WITH NO DATA;
  CREATE TEMPORARY TABLE bdr_shelved_check AS
  SELECT x.oid, x.conbin FROM pg_catalog.pg_constraint AS x WITH NO DATA;
  -- Whose CHECK constraint holds for everything.
  CREATE DOMAIN pg_temp.bdr_anything AS pg_catalog.text CHECK (true)
`;

/** Functions that an ordinary role may have written: those in C are made by superusers only. */
const ORDINARY_FUNCTIONS = /* sql */ `
  pg_catalog.pg_proc AS p
  JOIN pg_catalog.pg_roles AS r ON r.oid = p.proowner AND NOT r.rolsuper
  JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang AND l.lanname NOT IN ('c', 'internal')`;

const ORDINARY_DOMAINS = /* sql */ `
  pg_catalog.pg_type AS t
  JOIN pg_catalog.pg_roles AS r ON r.oid = t.typowner AND NOT r.rolsuper AND t.typtype = 'd'`;

const shelveSql = (body: string) => /* sql */ `
  WITH new AS (
      INSERT INTO pg_temp.bdr_shelved_function
      SELECT p.oid, p.prolang, p.prosrc, p.prosqlbody, p.proconfig
      FROM ${ORDINARY_FUNCTIONS}
      WHERE p.prokind <> 'a' AND NOT EXISTS (SELECT FROM pg_temp.bdr_shelved_function AS s WHERE s.oid = p.oid)
      RETURNING oid
  )
  UPDATE pg_catalog.pg_proc AS p
  SET prolang = (SELECT l.oid FROM pg_catalog.pg_language AS l WHERE l.lanname = 'plpgsql'),
      prosrc = CASE WHEN p.proretset OR p.proargmodes && '{o,b,t}'::"char"[] OR p.prorettype = 'pg_catalog.void'::regtype
               THEN 'BEGIN RETURN; END' ELSE ${quoteLiteral(body)} END,
      prosqlbody = NULL, proconfig = NULL
  FROM new
  WHERE p.oid = new.oid;
  WITH new AS (
      INSERT INTO pg_temp.bdr_shelved_check
      SELECT x.oid, x.conbin
      FROM ${ORDINARY_DOMAINS}
      JOIN pg_catalog.pg_constraint AS x ON x.contypid = t.oid AND x.contype = 'c'
      WHERE NOT EXISTS (SELECT FROM pg_temp.bdr_shelved_check AS s WHERE s.oid = x.oid)
      RETURNING oid
  )
  UPDATE pg_catalog.pg_constraint AS x
  SET conbin = (SELECT a.conbin FROM pg_catalog.pg_constraint AS a WHERE a.contypid = 'pg_temp.bdr_anything'::regtype)
  FROM new
  WHERE x.oid = new.oid;
  SELECT EXISTS (SELECT FROM pg_temp.bdr_shelved_function) OR EXISTS (SELECT FROM pg_temp.bdr_shelved_check) AS any
`;

const UNSHELVE = /* sql */ `
  UPDATE pg_catalog.pg_proc AS p
  SET prolang = s.prolang, prosrc = s.prosrc, prosqlbody = s.prosqlbody, proconfig = s.proconfig
  FROM pg_temp.bdr_shelved_function AS s
  WHERE s.oid = p.oid;
  UPDATE pg_catalog.pg_constraint AS x
  SET conbin = s.conbin
  FROM pg_temp.bdr_shelved_check AS s
  WHERE s.oid = x.oid;
  DELETE FROM pg_temp.bdr_shelved_function;
  DELETE FROM pg_temp.bdr_shelved_check
`;

const PRESENT = /* sql */ `
  SELECT format('function %s of role "%s"', p.oid::regprocedure, r.rolname) AS what FROM ${ORDINARY_FUNCTIONS}
  WHERE p.pronamespace::regnamespace::text !~ '^pg_temp'
  UNION ALL
  SELECT format('domain %s of role "%s"', t.oid::regtype, r.rolname) FROM ${ORDINARY_DOMAINS}
  WHERE t.typnamespace::regnamespace::text !~ '^pg_temp'
  ORDER BY 1 LIMIT 10
`;

/** Whether a definition of a kind, in pg_dump's words, may be code of an ordinary role. */
export function mayBeCode(kind: string): boolean {
  return kind === FUNCTIONS || DOMAINS.includes(kind);
}

/** Functions and domains of ordinary roles that the database holds, a few of them, for people. */
export async function presentCode(session: Session): Promise<string[]> {
  const rows = await session.query<{ what: string }>(PRESENT);
  return rows.map(({ what }) => what);
}
