import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openNewDatabase, openSession } from '../../test/support/agents.ts';
import { becomeLoneNode } from '../../test/support/lone-node.ts';
import { startServer } from '../../test/support/servers.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Session } from '../postgres/session.ts';
import { readUnsettledTables, settlePublications } from './publications.ts';
import { registerNode } from './nodes.ts';
import { readCopyObstacles } from './replication-sets.ts';

let server: EmbeddedServer;
let session: Session;

beforeAll(async () => {
  server = await startServer();
  session = await openNewDatabase(server, 'app');
  await session.script(`
    CREATE TABLE public.item (id integer PRIMARY KEY, v text);
    CREATE TABLE public.line (id integer PRIMARY KEY, item integer REFERENCES public.item);
    CREATE TABLE public.other (id integer PRIMARY KEY);
    CREATE TABLE public.parts (id integer PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE public.part1 PARTITION OF public.parts FOR VALUES FROM (0) TO (10);
    CREATE TABLE public.part2 PARTITION OF public.parts FOR VALUES FROM (10) TO (20);
    CREATE UNLOGGED TABLE public.gone (id integer PRIMARY KEY);
    CREATE VIEW public.seen AS SELECT 1 AS one`);
});
afterAll(async () => {
  await session?.close();
  await server?.[Symbol.asyncDispose]();
});

const put = (table: string, sets: string) =>
  session.query(`SELECT bdr.table_set_replication_sets('${table}', ${sets})`);
const setsOf = async (table: string) => {
  const [row] = await session.query<{ sets: string }>(
    `SELECT bdr.table_get_replication_sets('${table}') AS sets`,
  );
  return row?.sets;
};
const get = (node: string, sets: string) =>
  session.query(`SELECT bdr.connection_set_replication_sets(${sets}, '${node}')`);
/** What of a table goes to a node: `iud`, by what the publications hold that its link asks for. */
const sent = async (table: string, dboid: number) => {
  const [row] = await session.query<{ sent: string }>(`
    SELECT concat(CASE WHEN bool_or(p.pubinsert) THEN 'i' END, CASE WHEN bool_or(p.pubupdate) THEN 'u' END,
                  CASE WHEN bool_or(p.pubdelete) THEN 'd' END, CASE WHEN bool_or(p.pubtruncate) THEN 't' END) AS sent
    FROM pg_publication AS p JOIN pg_publication_rel AS r ON r.prpubid = p.oid
    WHERE r.prrelid = '${table}'::regclass AND (p.pubname = 'bdr' OR p.pubname LIKE 'bdr_${dboid}_1_1_%')`);
  return row?.sent;
};

test('is refused while BDR is not active', async () => {
  await expect(put('public.item', `'{a}'`)).rejects.toThrow('BDR is not active');
  expect(await setsOf('public.item'), 'and told all the same').toBe('{default,all}');
});

describe('in a node with two peers', () => {
  beforeAll(async () => {
    await becomeLoneNode(session, ['there', 'yonder']);
  });
  beforeEach(async () => {
    await session.script(`
      DELETE FROM bdr.table_replication_sets;
      DELETE FROM bdr.bdr_replication_set_config;
      DELETE FROM bdr.bdr_connections WHERE conn_origin_sysid <> '0';
      UPDATE bdr.bdr_connections SET conn_replication_sets = '{default}';
      SELECT bdr.internal_sync_publication();
      DELETE FROM bdr.bdr_queued_commands`);
  });

  test('a table is in default, in the sets that it was put into, or in none but all', async () => {
    expect(await setsOf('public.item')).toBe('{default,all}');
    await put('public.item', `'{b,a,b}'`);
    expect(await setsOf('public.item')).toBe('{a,b,all}');
    await put('public.item', `'{}'`);
    expect(await setsOf('public.item')).toBe('{all}');
    await put('public.item', 'NULL');
    expect(await setsOf('public.item')).toBe('{default,all}');
  });

  test.each([
    [`'{""}'`, '42602', 'replication set name "" is too short'],
    [`'{a,NULL}'`, '42602', 'replication set name "" is too short'],
    [`ARRAY[repeat('a', 64)]`, '42622', `replication set name "${'a'.repeat(64)}" is too long`],
    [`'{A}'`, '42602', 'replication set name "A" contains invalid character'],
    [`'{"a b"}'`, '42602', 'replication set name "a b" contains invalid character'],
    [`'{default}'`, '42622', 'replication set name "default" is reserved'],
    [`'{all}'`, '42622', 'replication set name "all" is reserved'],
  ])('a table cannot be put into %s', async (sets, code, message) => {
    await expect(put('public.item', sets)).rejects.toMatchObject({ code, message });
  });

  test('a node can get the sets default and all, but none of another name than tables', async () => {
    await get('there', `'{default,all,a-b_9}'`);
    const [row] = await session.query(`
      SELECT bdr.connection_get_replication_sets('there') AS a,
             bdr.connection_get_replication_sets('8', 1, 1) AS b`);
    expect(row).toEqual({ a: '{default,all,a-b_9}', b: '{default,all,a-b_9}' });
    await expect(get('there', `'{A}'`)).rejects.toMatchObject({ code: '42602' });
  });

  test('what is no table that is replicated cannot be put anywhere', async () => {
    for (const name of ['public.gone', 'public.seen', 'bdr.bdr_nodes', 'pg_catalog.pg_class']) {
      await expect(put(name, `'{a}'`), name).rejects.toMatchObject({ code: '42809' });
    }
  });

  test('the set follows the table when it is renamed, and goes with it', async () => {
    await put('public.other', `'{a}'`);
    await session.script('ALTER TABLE public.other RENAME TO renamed');
    expect(await setsOf('public.renamed')).toBe('{a,all}');
    await session.script(
      'DROP TABLE public.renamed; CREATE TABLE public.other (id integer PRIMARY KEY)',
    );
    expect(await session.query('SELECT * FROM bdr.table_replication_sets')).toEqual([]);
    expect(await sent('public.other', 8)).toBe('iudt');
  });

  test('partitions are in the sets of the table above them, unless they have sets of their own', async () => {
    await put('public.part2', `'{mine}'`);
    await put('public.parts', `'{a}'`);
    expect([await setsOf('public.part1'), await setsOf('public.part2')]).toEqual([
      '{a,all}',
      '{mine,all}',
    ]);
    await get('there', `'{a}'`);
    expect([await sent('public.part1', 8), await sent('public.part2', 8)]).toEqual(['iudt', '']);
    await session.script(
      `CREATE TABLE public.part3 PARTITION OF public.parts FOR VALUES FROM (20) TO (30)`,
    );
    expect([await sent('public.part3', 8), await sent('public.part3', 9)]).toEqual(['iudt', '']);
    await session.script(`ALTER TABLE public.parts DETACH PARTITION public.part3`);
    expect([await sent('public.part3', 8), await sent('public.part3', 9)]).toEqual(['', 'iudt']);
    await session.script('DROP TABLE public.part3');
  });

  test('a change is sent where a shared set sends it, TRUNCATE with deletions', async () => {
    expect([await sent('public.item', 8), await sent('public.item', 9)]).toEqual(['iudt', 'iudt']);
    await put('public.item', `'{a,b}'`);
    expect([await sent('public.item', 8), await sent('public.item', 9)]).toEqual(['', '']);
    await get('there', `'{a,default}'`);
    await get('yonder', `'{all}'`);
    expect([await sent('public.item', 8), await sent('public.item', 9)]).toEqual(['iudt', 'iudt']);
    await session.script(
      `INSERT INTO bdr.bdr_replication_set_config VALUES ('a', true, false, false)`,
    );
    expect([await sent('public.item', 8), await sent('public.item', 9)]).toEqual(['i', 'iudt']);
    await session.script(
      `INSERT INTO bdr.bdr_replication_set_config VALUES ('b', false, true, false)`,
    );
    await get('there', `'{a,b}'`);
    expect(await sent('public.item', 8), 'either set').toBe('iu');
    await get('there', `'{c}'`);
    expect([await sent('public.item', 8), await sent('public.other', 8)]).toEqual(['', '']);
    for (const everything of ['NULL', `'{}'`]) {
      await get('there', everything);
      expect(await sent('public.item', 8)).toBe('iudt');
    }
  });

  test('a row with an origin says what a node gets from that node', async () => {
    await session.script(`
      INSERT INTO bdr.bdr_connections (conn_sysid, conn_timeline, conn_dboid, conn_origin_sysid, conn_origin_timeline,
          conn_origin_dboid, conn_dsn)
      SELECT '8', 1, 1, sysid, timeline, dboid, 'x' FROM bdr.bdr_get_local_nodeid();
      INSERT INTO bdr.bdr_connections (conn_sysid, conn_timeline, conn_dboid, conn_origin_sysid, conn_origin_timeline,
          conn_origin_dboid, conn_dsn)
      VALUES ('9', 1, 1, '8', 1, 1, 'x')`);
    await session.query(`
      SELECT bdr.connection_set_replication_sets('{a}', '8', 1, 1, sysid, timeline, dboid) FROM bdr.bdr_get_local_nodeid()`);
    await session.query(`SELECT bdr.connection_set_replication_sets('{a}', '9', 1, 1, '8', 1, 1)`);
    expect([await sent('public.item', 8), await sent('public.item', 9)]).toEqual(['', 'iudt']);
    expect(
      await session.query(
        `SELECT * FROM bdr.replication_set_nodes WHERE origin_node_name IS NOT NULL ORDER BY 1`,
      ),
    ).toEqual([
      { node_name: 'there', conn_replication_sets: '{a}', origin_node_name: 'here' },
      { node_name: 'yonder', conn_replication_sets: '{a}', origin_node_name: 'there' },
    ]);
  });

  test('a row with an origin ends with the life of either node', async () => {
    const register = () =>
      registerNode(
        session,
        {
          id: { sysid: '7', timeline: 1, dboid: 1 },
          name: 'gone',
          dsn: 'x',
          localDsn: null,
          initFromDsn: null,
          applyDelayMs: null,
          replicationSets: ['default'],
        },
        18,
        () => undefined,
      );
    const addRows = () =>
      session.script(`
        INSERT INTO bdr.bdr_connections (conn_sysid, conn_timeline, conn_dboid, conn_origin_sysid, conn_origin_timeline, conn_origin_dboid, conn_dsn)
        VALUES ('7', 1, 1, '8', 1, 1, 'x'), ('8', 1, 1, '7', 1, 1, 'x'), ('9', 1, 1, '8', 1, 1, 'x')
        ON CONFLICT DO NOTHING`);
    const rows = async () =>
      (
        await session.query<{ row: string }>(`
          SELECT conn_origin_sysid || ' to ' || conn_sysid AS row FROM bdr.bdr_connections WHERE conn_origin_sysid <> '0' ORDER BY 1`)
      ).map(({ row }) => row);
    await addRows();
    await register();
    expect(await rows()).toEqual(['8 to 9']);
    await addRows();
    await register();
    expect(await rows(), 'of the life that it has').toEqual(['7 to 8', '8 to 7', '8 to 9']);
    await session.script(`UPDATE bdr.bdr_nodes SET node_status = 'k' WHERE node_sysid = '7'`);
  });

  test('nodes and connections that are not there', async () => {
    const none = { code: 'P0002' };
    await expect(get('gone', `'{a}'`)).rejects.toMatchObject({
      ...none,
      message: 'No node with name gone found in bdr.bdr_nodes',
    });
    await expect(
      session.query(`SELECT bdr.connection_get_replication_sets('8', 1, 2)`),
    ).rejects.toMatchObject({
      ...none,
      message: 'No bdr.bdr_connections entry found for (8,1,2) with default origin (0,0,0)',
    });
    await expect(
      session.query(`SELECT bdr.connection_set_replication_sets('{a}', '8', 1, 1, '9', 1, 1)`),
    ).rejects.toMatchObject({
      ...none,
      message: 'No bdr.bdr_connections entry found from origin (9,1,1) to (8,1,1)',
    });
  });

  test('the view shows what each table is in, and what that lets through', async () => {
    await put('public.item', `'{a,b}'`);
    await session.script(
      `INSERT INTO bdr.bdr_replication_set_config VALUES ('a', true, false, false), ('b', false, false, true)`,
    );
    expect(
      await session.query(
        `SELECT * FROM bdr.replication_set_tables WHERE relname IN ('item', 'line') ORDER BY relname`,
      ),
    ).toEqual([
      {
        node_name: 'here',
        nspname: 'public',
        relname: 'item',
        memberships: '{a,b,all}',
        replicate_inserts: 't',
        replicate_updates: 'f',
        replicate_deletes: 't',
      },
      {
        node_name: 'here',
        nspname: 'public',
        relname: 'line',
        memberships: '{default,all}',
        replicate_inserts: 't',
        replicate_updates: 't',
        replicate_deletes: 't',
      },
    ]);
  });

  test('a call goes to the other nodes as a command of the table’s owner', async () => {
    await put('public.item', `'{a}'`);
    await put('public.item', 'NULL');
    await session.script(`SET bdr.skip_ddl_replication = on`);
    await put('public.item', `'{b}'`);
    await session.script(`RESET bdr.skip_ddl_replication; SET session_replication_role = replica`);
    await put('public.item', `'{c}'`);
    await session.script(`SET session_replication_role = origin`);
    expect(await sent('public.item', 8), 'published there too').toBe('');
    const queued = await session.query<{ command: string }>(
      `SELECT perpetrator, command_tag, command FROM bdr.bdr_queued_commands ORDER BY queued_at`,
    );
    expect(queued).toEqual([
      {
        perpetrator: 'postgres',
        command_tag: 'DO',
        command: expect.stringContaining('{a}') as string,
      },
      {
        perpetrator: 'postgres',
        command_tag: 'DO',
        command: expect.stringContaining('NULL') as string,
      },
    ]);
    await session.script(
      `SET session_replication_role = replica; ${queued[0]?.command}; SET session_replication_role = origin`,
    );
    expect(await setsOf('public.item')).toBe('{a,all}');
  });

  /** As it comes from a peer: the agent has to see to it. */
  const stopDeletions = () =>
    session.script(`
      SET session_replication_role = replica;
      INSERT INTO bdr.bdr_replication_set_config VALUES ('default', true, true, false);
      SET session_replication_role = origin`);

  test('a table that somebody writes to is left for later, and the others are not', async () => {
    await using writer = await openSession(server, 'app');
    await writer.script('BEGIN; INSERT INTO public.item VALUES (1)');
    await stopDeletions();
    expect(await settlePublications(session)).toEqual(['public.item']);
    expect(await readUnsettledTables(session)).toEqual([{ name: 'public.item', isUnknown: false }]);
    expect([await sent('public.item', 8), await sent('public.other', 8)]).toEqual(['iudt', 'iu']);
    await session.script('CREATE TABLE public.more (id integer PRIMARY KEY)');
    expect(await sent('public.more', 8), 'nobody waits for it').toBe('iu');
    await writer.script('ROLLBACK');
    expect(await settlePublications(session)).toEqual([]);
    expect(await sent('public.item', 8)).toBe('iu');
    await session.script('DROP TABLE public.more');
  });

  test('a table that the server refuses is told, and the others are settled', async () => {
    await session.script(`
      CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$
      BEGIN
          IF EXISTS (SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'public.item'::regclass) THEN
              RAISE EXCEPTION 'refused' USING ERRCODE = 'undefined_table';
          END IF;
      END $$;
      CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('ALTER PUBLICATION') EXECUTE FUNCTION public.refuse()`);
    await stopDeletions();
    await expect(settlePublications(session)).rejects.toThrow('refused');
    const refused: string[] = [];
    expect(
      await settlePublications(session, { onRefused: (table) => refused.push(table) }),
    ).toEqual(['public.item']);
    expect(refused).toEqual(['public.item']);
    expect([await sent('public.item', 8), await sent('public.other', 8)]).toEqual(['iudt', 'iu']);
    await session.script('DROP EVENT TRIGGER refuse; DROP FUNCTION public.refuse()');
    expect(await settlePublications(session)).toEqual([]);
  });

  test('tables are settled bit by bit, and those that are held do not keep others from it', async () => {
    await using writer = await openSession(server, 'app');
    await writer.script('BEGIN; INSERT INTO public.item VALUES (1)');
    await stopDeletions();
    const unsettled = await readUnsettledTables(session);
    expect(unsettled[0]?.name).toBe('public.item');
    const counts: number[] = [];
    let left: readonly string[] = [];
    for (const _ of unsettled) {
      left = await settlePublications(session, { mostMs: 0, before: left });
      counts.push(left.length);
    }
    expect(left).toEqual(['public.item']);
    // What is held was looked at once, and stays.
    expect(counts).toEqual(unsettled.map((_, index) => unsettled.length - index));
  });

  test('a table that no event trigger has seen is not published: other nodes do not have it', async () => {
    await session.script('EXPLAIN ANALYZE CREATE TABLE public.unseen AS SELECT 1 AS n');
    expect(await readUnsettledTables(session)).toEqual([
      { name: 'public.unseen', isUnknown: true },
    ]);
    expect(await settlePublications(session, { takesUnknown: false })).toEqual([]);
    expect(await sent('public.unseen', 8)).toBe('');
    await session.script('DROP TABLE public.unseen');
  });

  test('a user’s command handles the tables that it has locked, and takes no locks on others', async () => {
    await stopDeletions();
    const strong = `
      SELECT count(*)::integer FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
      WHERE l.pid = pg_backend_pid() AND c.relname IN ('item', 'other', 'line') AND l.mode LIKE '%Exclusive%'`;
    await session.script('BEGIN; CREATE TABLE public.more (id integer PRIMARY KEY)');
    expect(await session.query(strong)).toEqual([{ count: '0' }]);
    expect([await sent('public.more', 8), await sent('public.item', 8)]).toEqual(['iu', 'iudt']);
    await session.script(`
      ROLLBACK;
      BEGIN;
      ALTER TABLE public.item SET (fillfactor = 90)`);
    expect(await sent('public.item', 8), 'locked, but not against writers').toBe('iudt');
    await session.script(`
      ROLLBACK;
      BEGIN;
      ALTER TABLE public.item ALTER v SET DEFAULT ''`);
    expect([await sent('public.item', 8), await sent('public.other', 8)]).toEqual(['iu', 'iudt']);
    await session.script('ROLLBACK');
  });

  test('what keeps a node from being filled from here', async () => {
    expect(await readCopyObstacles(session, ['default'])).toEqual({ incomplete: [], dangling: [] });
    await put('public.item', `'{a}'`);
    expect(await readCopyObstacles(session, ['default'])).toEqual({
      incomplete: [],
      dangling: ['line_item_fkey of table public.line'],
    });
    expect(await readCopyObstacles(session, ['default', 'a'])).toEqual({
      incomplete: ['public.item'],
      dangling: [],
    });
    expect((await readCopyObstacles(session, [])).incomplete).toEqual(['public.item']);
    await get('here', 'NULL');
    expect(await readCopyObstacles(session, null)).toEqual({ incomplete: [], dangling: [] });
  });

  test('rows can be sent only by a node that has them all, to nodes that get updates', async () => {
    const send = (table: string, sets: string) =>
      session.query(
        `SELECT bdr.table_set_replication_sets('${table}', ${sets}, synchronize := true)`,
      );
    await put('public.item', `'{a}'`);
    await put('public.parts', `'{a}'`);
    for (const [table, leaf] of [
      ['public.item', 'public.item'],
      ['public.parts', 'public.part1'],
    ] as const) {
      await expect(send(table, 'NULL')).rejects.toMatchObject({
        code: '55000',
        message: `this node does not get all changes of table ${leaf}, before and after`,
      });
    }
    await get('here', 'NULL');
    await get('there', `'{a}'`);
    await session.script(
      `INSERT INTO bdr.bdr_replication_set_config VALUES ('a', true, false, true)`,
    );
    await expect(send('public.item', 'NULL')).rejects.toThrow(
      'rows of table public.item cannot be sent to nodes that get no updates of it',
    );
  });

  describe('an ordinary role', () => {
    let hers: Session;
    beforeAll(async () => {
      await session.script(`
        CREATE ROLE mallory LOGIN; CREATE SCHEMA hers AUTHORIZATION mallory;
        SET ROLE mallory; CREATE TABLE hers.item (id integer PRIMARY KEY); RESET ROLE`);
      hers = await openSession(server, 'app');
      // No agent is there to settle the lock, which only a superuser's session passes over.
      await hers.script('SET bdr.skip_ddl_locking = on; SET ROLE mallory');
    });
    afterAll(() => hers?.close());
    const putAs = (table: string) =>
      hers.query(`SELECT bdr.table_set_replication_sets('${table}', '{a}')`);

    test('puts its own tables into sets', async () => {
      await putAs('hers.item');
      expect(await sent('hers.item', 8)).toBe('');
      expect(await session.query(`SELECT perpetrator FROM bdr.bdr_queued_commands`)).toEqual([
        { perpetrator: 'mallory' },
      ]);
      await hers.query(`SELECT bdr.table_set_replication_sets('hers.item', NULL)`);
      expect(await sent('hers.item', 8)).toBe('iudt');
    });

    test('but no others, by whatever way', async () => {
      await expect(putAs('public.item')).rejects.toMatchObject({
        code: '42501',
        message: 'must be owner of table public.item',
      });
      await put('public.item', `'{a}'`);
      expect(await hers.query(`DELETE FROM bdr.table_replication_sets RETURNING sets`)).toEqual([]);
      await expect(
        hers.query(
          `INSERT INTO bdr.table_replication_sets VALUES ('public.other'::regclass, '{a}')`,
        ),
      ).rejects.toThrow('row-level security');
      await expect(
        hers.query(
          `INSERT INTO bdr.table_replication_sets VALUES ('hers.item'::regclass, '{all}')`,
        ),
      ).rejects.toThrow('is reserved');
      await expect(
        hers.query(`UPDATE bdr.table_replication_sets SET relation = 0`),
      ).rejects.toThrow('permission denied');
      await expect(
        hers.query(`SELECT bdr.connection_set_replication_sets('{a}', 'there')`),
      ).rejects.toThrow('permission denied for function');
      await expect(
        hers.query(`INSERT INTO bdr.bdr_replication_set_config VALUES ('a')`),
      ).rejects.toThrow('permission denied for table');
    });
  });
});
