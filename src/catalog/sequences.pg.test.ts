import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openNewDatabase, openSession } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Session } from '../postgres/session.ts';
import { readUserCode } from '../postgres/user-code.ts';
import { readUnconvertedSequences, takeOverSequences } from './sequences.ts';

const ME = 3;

describe.each([14, 18])('on PostgreSQL %i', (major) => {
  let server: EmbeddedServer;
  let session: Session;
  let users: Session;

  beforeAll(async () => {
    server = await startServer({ major });
    session = await openNewDatabase(server, 'app');
    users = await openSession(server, 'app');
    await session.script(`
      CREATE ROLE owner; CREATE ROLE app; CREATE ROLE mallory;
      GRANT CREATE ON SCHEMA public TO owner, mallory;
      SET ROLE owner;
      CREATE TABLE public.item (id bigserial PRIMARY KEY, v text);
      CREATE TABLE public.listed (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);
      CREATE TABLE public.small (id serial PRIMARY KEY, v text);
      CREATE TABLE public.odd (id bigint PRIMARY KEY);
      CREATE SEQUENCE public.odd_seq;
      ALTER TABLE public.odd ALTER id SET DEFAULT nextval('public.odd_seq') * 2;
      CREATE TABLE public."Parts" (id bigserial PRIMARY KEY, v text) PARTITION BY RANGE (id);
      CREATE TABLE public.part PARTITION OF public."Parts" FOR VALUES FROM (0) TO (MAXVALUE);
      CREATE SEQUENCE public.plain;
      CREATE SEQUENCE public.elsewhere;
      INSERT INTO public.listed (v) VALUES ('before');
      INSERT INTO public.item (v) VALUES ('before');
      GRANT INSERT ON public.item TO app;
      GRANT USAGE ON SEQUENCE public.item_id_seq, public.plain TO app;
      GRANT INSERT (v), SELECT ON public.listed TO app;
      RESET ROLE;
    `);
  });
  afterAll(async () => {
    await users?.close();
    await session?.close();
    await server?.[Symbol.asyncDispose]();
  });

  /** The rows of a statement as another role; of its texts, the values. */
  const as = async (role: string, sql: string): Promise<string[]> => {
    await users.script(`SET SESSION AUTHORIZATION ${role}`);
    try {
      return (await users.query<Record<string, string>>(sql)).flatMap((row) => Object.values(row));
    } finally {
      await users.script('RESET SESSION AUTHORIZATION');
    }
  };
  const values = async (sql: string): Promise<string[]> =>
    (await session.query<Record<string, string>>(sql)).flatMap((row) => Object.values(row));
  const partsOf = (id: string) => ({
    ms: BigInt(id) >> 24n,
    node: Number((BigInt(id) >> 14n) & 1023n),
    count: Number(BigInt(id) & 16383n),
  });
  const draw = (sequence: string, times = 1) =>
    `SELECT bdr.global_seq_nextval('${sequence}') AS id FROM generate_series(1, ${times})`;
  /** Sets a sequence to a millisecond of this node that lies so far from now, as if the clock had been there. */
  const begin = (sequence: string, fromNowMs: number, count: number) =>
    session.script(`
      SELECT setval('${sequence}', ((bdr.internal_snowflake_clock() + ${fromNowMs}) << 24) | (${ME} << 14) | ${count})`);

  test('nothing is given out or converted while the database is no node', async () => {
    for (const sql of [
      draw('public.plain'),
      `SELECT bdr.convert_sequence('public.plain', 'snowflake')`,
    ]) {
      await expect(session.query(sql)).rejects.toMatchObject({
        message: 'node sequence ID not allocated',
        code: '55000',
        detail: 'BDR is not active in this database.',
      });
    }
  });

  describe('in a node', () => {
    beforeAll(async () => {
      await session.script(`
        INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid)
        SELECT '7', 1, oid FROM pg_database WHERE datname = 'app';
        INSERT INTO bdr.bdr_nodes (
            node_sysid, node_timeline, node_dboid, node_status, node_name, node_seq_id, node_joined_at)
        SELECT '7', 1, oid, 'r', 'here', ${ME}, '2026-01-02' FROM pg_database WHERE datname = 'app';
        SELECT bdr.internal_make_guard(), bdr.internal_renew_secret();
        -- No agent is there to settle the lock.
        SET bdr.skip_ddl_locking = on`);
    });

    test('an id is the time, the number of the node and a count; the sequence holds it', async () => {
      const [clock] = await values('SELECT bdr.internal_snowflake_clock()');
      const [id, current, last] = await values(
        `SELECT bdr.global_seq_nextval('public.plain'), currval('public.plain'), lastval()`,
      );
      expect([current, last]).toEqual([id, id]);
      const { ms, node, count } = partsOf(id ?? '');
      expect([node, count]).toEqual([ME, 1]);
      expect(Number(ms - BigInt(clock ?? ''))).toBeLessThan(5000);
      // BDR 2 counts from there.
      const since2000 = BigInt(Date.now()) - 946_684_800_000n - 529_111_339_634n;
      expect(Math.abs(Number(ms - since2000))).toBeLessThan(5000);
    });

    const all = async (sequence: string, sessions: number, each: number) => {
      const opened = await Promise.all(
        Array.from({ length: sessions }, () => openSession(server, 'app')),
      );
      const drawn = await Promise.all(
        opened.map(async (one, index) => {
          // Half of them may not set sequences.
          if (index % 2 === 1) await one.script('SET SESSION AUTHORIZATION app');
          return (await one.query<{ id: string }>(draw(sequence, each))).map(({ id }) => id);
        }),
      );
      await Promise.all(opened.map((one) => one.close()));
      for (const ids of drawn) {
        expect(ids.toSorted((a, b) => (BigInt(a) < BigInt(b) ? -1 : 1))).toEqual(ids);
      }
      return drawn.flat();
    };
    const distinct = (ids: string[]) => new Set(ids).size;

    test.each([
      ['the clock goes on', 0],
      ['the clock has stepped back by an hour', 3_600_000],
      // So many counts are used up at once that sessions fall over each other at each end.
      ['the count is nearly used up, far in the future', 1e9],
    ])('many sessions are given no id twice where %s', async (_, fromNowMs) => {
      await begin('public.plain', fromNowMs, 4000);
      const before = partsOf((await values(draw('public.plain')))[0] ?? '');
      const ids = await all('public.plain', 4, 5000);
      expect(distinct(ids)).toBe(20_000);
      for (const id of ids) expect(partsOf(id).node).toBe(ME);
      // What the clock says is not waited for, and not used where it lies behind.
      const last = partsOf(ids.toSorted((a, b) => (BigInt(a) < BigInt(b) ? 1 : -1))[0] ?? '');
      if (fromNowMs > 0) {
        expect(last.ms - before.ms).toBeGreaterThanOrEqual(4n);
        expect(last.ms - before.ms).toBeLessThan(50n);
      }
      await begin('public.plain', -1000, 1);
    });

    test('ids go on below zero when the milliseconds come to their 40th bit, and end at the last', async () => {
      await session.script(`
        CREATE SEQUENCE public.late;
        SELECT bdr.convert_sequence('public.late', 'snowflake');
        SELECT setval('public.late', (549755813887 << 24) | (${ME} << 14) | 4095)`);
      const [id] = await values(draw('public.late'));
      expect(BigInt(id ?? '0')).toBe(-(2n ** 63n) + BigInt(ME << 14) + 1n);
      await session.script(
        `SELECT setval('public.late', (1099511627775 << 24) | (${ME} << 14) | 4095)`,
      );
      await expect(session.query(draw('public.late'))).rejects.toMatchObject({ code: '2200H' });
      await session.script(
        `DROP SEQUENCE public.late; DELETE FROM bdr.sequence_kind WHERE sequence_name = 'late'`,
      );
    });

    test('who is kept waiting for a millisecond and gives up leaves no lock behind', async () => {
      await begin('public.plain', 1e9, 5000);
      await using holder = await openSession(server, 'app');
      const key = `(1650749953::bigint << 32) | 'public.plain'::regclass::oid::bigint`;
      await holder.script(`SELECT pg_advisory_lock(${key})`);
      await using waiter = await openSession(server, 'app');
      await waiter.script(`SET statement_timeout = '100ms'`);
      await expect(waiter.query(draw('public.plain'))).rejects.toMatchObject({ code: '57014' });
      await holder.script(`SELECT pg_advisory_unlock(${key})`);
      expect(
        await values(
          `SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND classid = 1650749953`,
        ),
      ).toEqual(['0']);
      await waiter.script('SET statement_timeout = 0');
      expect(await waiter.query(draw('public.plain'))).toHaveLength(1);
      await begin('public.plain', -1000, 1);
    });

    test('a role that may draw from a sequence is given ids, and no right to set it or to spoil another', async () => {
      await as('owner', `SELECT bdr.convert_sequence('public.item_id_seq', 'snowflake')`);
      await as('app', `INSERT INTO public.item (v) VALUES ('mine')`);
      const [id] = await values(`SELECT id FROM public.item WHERE v = 'mine'`);
      expect(partsOf(id ?? '').node).toBe(ME);
      await expect(as('app', `SELECT setval('public.item_id_seq', 1)`)).rejects.toThrow('denied');
      // Apply goes on to write such a table as others: it runs no code of its owner.
      expect(await readUserCode(session, [{ schema: 'public', name: 'item' }])).toMatchObject([
        { places: [] },
      ]);
      await expect(
        as('app', `SELECT bdr.internal_set_millisecond('public.item_id_seq', 9)`),
      ).rejects.toThrow('permission denied');
      await session.script(
        'CREATE SEQUENCE public.ordinary; GRANT USAGE ON SEQUENCE public.ordinary TO app',
      );
      for (const sql of [
        draw('public.ordinary'),
        `SELECT bdr.internal_begin_millisecond('public.ordinary')`,
      ]) {
        await expect(as('app', sql)).rejects.toMatchObject({ code: '42501' });
      }
      const [last] = await values(`SELECT last_value FROM public.ordinary`);
      expect(last).toBe('1');
      await expect(as('mallory', draw('public.item_id_seq'))).rejects.toThrow('permission denied');
      await expect(
        as('mallory', `SELECT bdr.internal_next_snowflake('public.item_id_seq', 1)`),
      ).rejects.toThrow('permission denied');
    });

    test('what its owner has made a default may be drawn by others without being converted, as in BDR 2', async () => {
      await as(
        'owner',
        `CREATE TABLE public.old (id bigint PRIMARY KEY DEFAULT bdr.global_seq_nextval('public.elsewhere'))`,
      );
      await session.script(
        'GRANT INSERT ON public.old TO app; GRANT USAGE ON SEQUENCE public.elsewhere TO app',
      );
      await as('app', 'INSERT INTO public.old DEFAULT VALUES');
      const [id] = await values('SELECT id FROM public.old');
      expect(partsOf(id ?? '').node).toBe(ME);
    });

    test('a sequence that keeps values back in sessions, or leaves some out, gives out none', async () => {
      for (const change of ['CACHE 10', 'INCREMENT BY 2', 'AS integer MAXVALUE 1000']) {
        await session.script(`CREATE SEQUENCE public.unfit; ALTER SEQUENCE public.unfit ${change}`);
        await expect(session.query(draw('public.unfit'))).rejects.toMatchObject({
          message: 'sequence public.unfit cannot give out snowflake ids',
        });
        await session.script('DROP SEQUENCE public.unfit');
      }
    });

    test('of two nodes with one number the one that joined later gives out nothing; nor does a node that is not ready', async () => {
      const other = (joined: string) =>
        session.script(`
          INSERT INTO bdr.bdr_nodes (
              node_sysid, node_timeline, node_dboid, node_status, node_name, node_seq_id, node_joined_at)
          VALUES ('8', 1, 1, 'r', 'there', ${ME}, '${joined}')`);
      await other('2026-01-03');
      expect(await values(draw('public.plain'))).toHaveLength(1);
      await session.script(`DELETE FROM bdr.bdr_nodes WHERE node_name = 'there'`);
      await other('2026-01-01');
      // In a millisecond that is begun nobody looks at the number again.
      await begin('public.plain', -1000, 1);
      await expect(session.query(draw('public.plain'))).rejects.toMatchObject({
        message: 'node sequence ID not allocated',
        detail: `Node "there", which joined before, has the same number ${ME}.`,
      });
      await session.script(`DELETE FROM bdr.bdr_nodes WHERE node_name = 'there'`);
      for (const status of ['o', 'k']) {
        await session.script(`UPDATE bdr.bdr_nodes SET node_status = '${status}'`);
        await expect(session.query(draw('public.plain'))).rejects.toThrow(
          'node sequence ID not allocated',
        );
      }
      await session.script(`UPDATE bdr.bdr_nodes SET node_status = 'r', node_seq_id = 1024`);
      await expect(session.query(draw('public.plain'))).rejects.toMatchObject({
        code: '22003',
      });
      await session.script(`UPDATE bdr.bdr_nodes SET node_seq_id = ${ME}`);
    });

    const kinds = () =>
      values(
        `SELECT concat_ws(' ', sequence_name, kind, step, is_in_effect) FROM bdr.bdr_sequence_kinds ORDER BY 1`,
      );

    test('an identity becomes a default, with the rights that its table’s writers need', async () => {
      await as('owner', `SELECT bdr.convert_sequence('public.listed_id_seq', 'snowflake')`);
      await as('app', `INSERT INTO public.listed (v) VALUES ('mine')`);
      const [before, mine] = await values('SELECT id FROM public.listed ORDER BY id');
      expect([before, partsOf(mine ?? '').node]).toEqual(['1', ME]);
      expect(
        await values(`
          SELECT pg_get_serial_sequence('public.listed', 'id'), pg_get_userbyid(relowner) FROM pg_class
          WHERE oid = 'public.listed_id_seq'::regclass`),
      ).toEqual(['public.listed_id_seq', 'owner']);
      await expect(as('mallory', draw('public.listed_id_seq'))).rejects.toThrow(
        'permission denied',
      );
    });

    test('all columns of a partitioned table are converted, and back', async () => {
      const insert = async () => {
        const [id] = await values(`INSERT INTO public."Parts" (v) VALUES ('x') RETURNING id`);
        const [own] = await values(`INSERT INTO public.part (v) VALUES ('x') RETURNING id`);
        return [BigInt(id ?? ''), BigInt(own ?? '')] as const;
      };
      expect(await insert()).toEqual([1n, 2n]);
      const convert = (kind: string) =>
        values(`SELECT bdr.convert_sequence('public."Parts_id_seq"', '${kind}')`);
      await convert('snowflake');
      const ids = await insert();
      expect(ids.map((id) => partsOf(String(id)).node)).toEqual([ME, ME]);
      await convert('local');
      const [next, last] = await insert();
      expect(next).toBe(ids[1] + 1n);
      expect(last).toBe(next + 1n);
    });

    test('with steps each node leaves a remainder of its own, above what was given out', async () => {
      await session.script(`INSERT INTO public.small (id) VALUES (500)`);
      await as('owner', `SELECT bdr.convert_sequence('public.small_id_seq', 'step')`);
      await session.script(`INSERT INTO public.small (v) VALUES ('a'), ('b')`);
      // An integer takes steps of 128.
      expect(await values('SELECT id FROM public.small ORDER BY id')).toEqual([
        '500',
        '643',
        '771',
      ]);
      expect(await kinds()).toContain('small_id_seq step 128 t');
      // What somebody sets back is put right by the agent.
      await session.script(`ALTER SEQUENCE public.small_id_seq RESTART WITH 5`);
      expect(await readUnconvertedSequences(session)).toEqual(['public.small_id_seq']);
      await session.script('SELECT bdr.internal_carry_out_all()');
      expect(await values(`INSERT INTO public.small DEFAULT VALUES RETURNING id`)).toEqual(['899']);
      await as('owner', `SELECT bdr.convert_sequence('public.small_id_seq', 'local')`);
      expect(await values(`INSERT INTO public.small DEFAULT VALUES RETURNING id`)).toEqual(['900']);
    });

    test('with other nodes in the group, values begin above what those can give out meanwhile', async () => {
      await session.script(`
        INSERT INTO bdr.bdr_nodes (node_sysid, node_timeline, node_dboid, node_status, node_name, node_seq_id)
        VALUES ('9', 1, 1, 'r', 'third', 1)`);
      await as('owner', `SELECT bdr.convert_sequence('public.small_id_seq', 'step', 10)`);
      const [id] = await values(`INSERT INTO public.small DEFAULT VALUES RETURNING id`);
      expect(Number(id)).toBeGreaterThan(100_800);
      expect(Number(id) % 10).toBe(ME);
      await session.script(`DELETE FROM bdr.bdr_nodes WHERE node_name = 'third'`);
    });

    test.each([
      [
        'public.small_id_seq',
        `'snowflake'`,
        '42804',
        'do not fit into column "id" of table public.small',
      ],
      ['public.odd_seq', `'snowflake'`, '0A000', 'by an expression of its own'],
      ['public.plain', `'ring'`, '22023', 'kind "ring" of a sequence is not known'],
      ['public.plain', `'snowflake', 5`, '22023', 'a step is given for kind "step" alone'],
      [
        'public.plain',
        `'step', ${ME}`,
        '22023',
        `a step of ${ME} has no remainder for node number ${ME}`,
      ],
      ['public.item', `'step'`, '42809', 'is not a permanent sequence'],
      ['bdr.bdr_conflict_history_id_seq', `'step'`, '42501', 'is a sequence of BDR'],
    ])('%s, %s is refused', async (sequence, args, code, message) => {
      await expect(
        session.query(`SELECT bdr.convert_sequence('${sequence}', ${args})`),
      ).rejects.toMatchObject({ code, message: expect.stringContaining(message) as string });
    });

    test('nobody converts what is not his, by the function or by a row', async () => {
      for (const sql of [
        `SELECT bdr.convert_sequence('public.plain', 'step')`,
        `INSERT INTO bdr.sequence_kind VALUES ('public', 'plain', 'snowflake', NULL, NULL, 'mallory')`,
        `UPDATE bdr.sequence_kind SET kind = 'local', above = 0 RETURNING schema_name`,
      ]) {
        const done = as('mallory', sql);
        if (sql.startsWith('UPDATE')) expect(await done).toEqual([]);
        else await expect(done).rejects.toMatchObject({ code: '42501' });
      }
    });

    test('a row that arrives is carried out, unless the sequence of that name is another role’s or is not there yet', async () => {
      await session.script(`
        CREATE SEQUENCE public.hers; ALTER SEQUENCE public.hers OWNER TO mallory;
        SET session_replication_role = replica;
        INSERT INTO bdr.sequence_kind VALUES
            ('public', 'hers', 'step', 50, 0, 'owner'),
            ('public', 'plain', 'step', 50, 1000, 'owner'),
            ('public', 'to come', 'step', 50, 1000, 'owner');
        SET session_replication_role = origin`);
      expect(await readUnconvertedSequences(session)).toEqual(['public."to come"', 'public.hers']);
      expect(await values(`SELECT nextval('public.hers')`)).toEqual(['1']);
      const [next] = await values(`SELECT nextval('public.plain')`);
      expect(BigInt(next ?? '') % 50n).toBe(BigInt(ME));
      await session.script(
        `CREATE SEQUENCE public."to come"; ALTER SEQUENCE public."to come" OWNER TO owner`,
      );
      await session.script('SELECT bdr.internal_carry_out_all()');
      expect(await values(`SELECT nextval('public."to come"')`)).toEqual(['1053']);
      await session.script(
        `DELETE FROM bdr.sequence_kind WHERE sequence_name IN ('hers', 'to come')`,
      );
    });

    test('a node that has copied its sequences gives out ids and remainders of its own', async () => {
      // The source has number 1 and a clock ahead.
      await session.script(`
        SELECT setval('public.item_id_seq', ((bdr.internal_snowflake_clock() + 5000) << 24) | (1 << 14) | 7);
        SELECT setval('public.plain', 200001)`);
      await takeOverSequences(session);
      const [id] = await values(draw('public.item_id_seq'));
      expect(partsOf(id ?? '').node).toBe(ME);
      expect(await values(`SELECT nextval('public.plain')`)).toEqual(['200053']);
    });

    test('a node without a remainder of its own gives out nothing', async () => {
      await session.script(`UPDATE bdr.bdr_nodes SET node_seq_id = 60`);
      await takeOverSequences(session);
      await expect(session.query(`SELECT nextval('public.plain')`)).rejects.toMatchObject({
        code: '2200H',
      });
      await session.script(`UPDATE bdr.bdr_nodes SET node_seq_id = ${ME}`);
    });

    test('when BDR leaves, columns draw as they did before, from where they were', async () => {
      const [last] = await values(`INSERT INTO public.item DEFAULT VALUES RETURNING id`);
      await session.script('SELECT bdr.internal_make_sequences_local()');
      const [next] = await values(`INSERT INTO public.item DEFAULT VALUES RETURNING id`);
      expect(BigInt(next ?? '')).toBe(BigInt(last ?? '') + 1n);
      expect(
        await values(
          `SELECT count(*)::text FROM pg_attrdef WHERE pg_get_expr(adbin, adrelid) LIKE '%global_seq%'`,
        ),
      ).toEqual(['0']);
    });
  });
});
