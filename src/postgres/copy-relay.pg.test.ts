import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { startServer } from '../../test/support/servers.ts';
import { readEnvironment } from '../config/environment.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { resolveConninfo } from './conninfo.ts';
import { relayCopy } from './copy-relay.ts';
import { Session } from './session.ts';

const TLS = fileURLToPath(new URL('../../test/support/tls/', import.meta.url));
const ROWS = 100_000;

let server: EmbeddedServer;
beforeAll(async () => {
  server = await startServer({
    tls: { certFile: `${TLS}server.crt`, keyFile: `${TLS}server.key` },
  });
  await using session = await connect('disable');
  await session.script(`
    CREATE TABLE public.source AS SELECT i AS id, repeat(md5(i::text), 1 + i % 9) AS body FROM generate_series(1, ${ROWS}) AS i;
    CREATE TABLE public.target (id integer CHECK (id <> -1), body text, place serial);
    CREATE FUNCTION public.warn(i integer) RETURNS integer LANGUAGE plpgsql AS
      $$ BEGIN IF i % 1000 = 0 THEN RAISE WARNING 'at %', i; END IF; RETURN i; END $$;
    CREATE FUNCTION public.linger() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN IF NEW.id % 5000 = 0 THEN PERFORM pg_sleep(0.01); END IF; RETURN NEW; END $$;
  `);
});
afterAll(() => server?.[Symbol.asyncDispose]());

const connect = (sslmode: string) =>
  Session.connect(resolveConninfo(`${server.dsn()} sslmode=${sslmode}`, readEnvironment()), {
    applicationName: 'test',
  });

const INTO = 'COPY public.target (id, body) FROM STDIN';
const ALL = 'COPY (SELECT id, body FROM public.source) TO STDOUT';
/** Rows without end, from the first on. (As a function in FROM, generate_series() would make all of them first.) */
const SERIES = '(SELECT generate_series(1, 2000000000) AS i) AS s';
const ENDLESS = `COPY (SELECT i, repeat('x', 1000) FROM ${SERIES}) TO STDOUT`;

/** In the order in which they were written, so that rows that changed places show. */
const SENT = `SELECT count(*) AS count, md5(string_agg(id || body, ',' ORDER BY id)) AS sum FROM public.source`;
const TAKEN = `SELECT count(*) AS count, md5(string_agg(id || body, ',' ORDER BY place)) AS sum FROM public.target`;

describe.each(['disable', 'require'])('with sslmode %s', (sslmode) => {
  let source: Session;
  let target: Session;
  beforeEach(async () => {
    source = await connect(sslmode);
    target = await connect(sslmode);
    // Rows are to be read in their order.
    await source.script('SET synchronize_seqscans = off');
    await target.script('TRUNCATE public.target');
    return async () => {
      await source.close();
      await target.close();
    };
  });

  const relay = (sourceSql: string, signal = new AbortController().signal, onBytes?: () => void) =>
    target.transaction(() =>
      relayCopy(source, sourceSql, target, INTO, { signal, ...(onBytes ? { onBytes } : {}) }),
    );
  const isUsable = async (session: Session) =>
    expect(await session.query('SELECT 1 AS answer')).toEqual([{ answer: '1' }]);
  const isEmpty = async () =>
    expect(await target.query('SELECT FROM public.target LIMIT 1')).toEqual([]);

  test('all rows arrive in their order, and both sessions go on', async () => {
    expect(await relay(ALL)).toBe(ROWS);
    expect(await target.query(TAKEN)).toEqual(await source.query(SENT));
    // The driver has its socket back.
    expect(await relay(ALL)).toBe(ROWS);
    await isUsable(source);
  });

  test('the binary format passes as well', async () => {
    const binary = 'WITH (FORMAT binary)';
    const signal = new AbortController().signal;
    await relayCopy(source, `${ALL} ${binary}`, target, `${INTO} ${binary}`, { signal });
    expect(await target.query(TAKEN)).toEqual(await source.query(SENT));
  });

  test('a table without rows is copied', async () => {
    expect(await relay('COPY (SELECT id, body FROM public.source LIMIT 0) TO STDOUT')).toBe(0);
    await isUsable(source);
  });

  test('statements that wait behind the copy get their answers', async () => {
    const copied = relayCopy(source, ALL, target, INTO, { signal: new AbortController().signal });
    const [waited] = await Promise.all([target.query('SELECT 1 AS answer'), copied]);
    expect(waited).toEqual([{ answer: '1' }]);
    const again = relay(ALL);
    await target.query('SELECT'); // the copy has begun on the source
    const behind = source.query('SELECT 2 AS answer');
    await again;
    expect(await behind).toEqual([{ answer: '2' }]);
  });

  test('warnings among the rows are no rows', async () => {
    const sql = 'COPY (SELECT public.warn(id), body FROM public.source) TO STDOUT';
    expect(await relay(sql)).toBe(ROWS);
    expect(await target.query(TAKEN)).toEqual(await source.query(SENT));
  });

  test('a row of many megabytes passes', async () => {
    const sql = `COPY (SELECT 1, repeat('0123456789', 3000000)) TO STDOUT`;
    expect(await relay(sql)).toBe(1);
    expect(await target.query('SELECT md5(body) AS sum FROM public.target')).toEqual(
      await source.query(`SELECT md5(repeat('0123456789', 3000000)) AS sum`),
    );
  });

  test('a slow target holds the source up, and loses nothing', async () => {
    await target.script(
      'CREATE TRIGGER linger BEFORE INSERT ON public.target FOR EACH ROW EXECUTE FUNCTION public.linger()',
    );
    try {
      expect(await relay(ALL)).toBe(ROWS);
    } finally {
      await target.script('DROP TRIGGER linger ON public.target');
    }
    expect(await target.query(TAKEN)).toEqual(await source.query(SENT));
  });

  test('an error of the source among the rows leaves both sessions usable', async () => {
    const sql = `COPY (SELECT id / (CASE id WHEN 70000 THEN 0 ELSE 1 END), body FROM public.source) TO STDOUT`;
    await expect(relay(sql)).rejects.toMatchObject({ code: '22012' });
    await isEmpty();
    await isUsable(source);
  });

  test('an error of the target among the rows ends the source, and the target goes on', async () => {
    const sql = `COPY (SELECT CASE i WHEN 70000 THEN -1 ELSE i END, repeat('x', 1000) FROM ${SERIES}) TO STDOUT`;
    await expect(relay(sql)).rejects.toMatchObject({ code: '23514' });
    await isEmpty();
    expect(source.lost.aborted).toBe(true);
  });

  test('a target that does not begin leaves both sessions usable', async () => {
    const signal = new AbortController().signal;
    const nowhere = relayCopy(source, ALL, target, 'COPY public.nowhere FROM STDIN', { signal });
    await expect(nowhere).rejects.toMatchObject({ code: '42P01' });
    await isUsable(target);
    await isUsable(source);
  });

  test('a source that does not begin leaves both sessions usable', async () => {
    await expect(relay('COPY public.nowhere TO STDOUT')).rejects.toMatchObject({ code: '42P01' });
    await isEmpty();
    await isUsable(source);
  });

  test('a source that is lost among the rows leaves the target able to roll back', async () => {
    await using other = await connect(sslmode);
    let ending: Promise<unknown> | undefined;
    const onBytes = () => {
      ending ??= other.query('SELECT pg_terminate_backend($1)', [source.pid]);
    };
    await expect(relay(ENDLESS, undefined, onBytes)).rejects.toThrow();
    await isEmpty();
    await ending;
  });

  test('a target that is lost among the rows ends the copy', async () => {
    await using other = await connect(sslmode);
    let ending: Promise<unknown> | undefined;
    const onBytes = () => {
      ending ??= other.query('SELECT pg_terminate_backend($1)', [target.pid]);
    };
    await expect(relay(ENDLESS, undefined, onBytes)).rejects.toThrow();
    await ending;
    expect(target.lost.aborted).toBe(true);
    expect(source.lost.aborted).toBe(true);
  });

  test('an aborted copy ends at once, and the target goes on', async () => {
    const stop = new AbortController();
    const reason = new Error('enough');
    await expect(relay(ENDLESS, stop.signal, () => stop.abort(reason))).rejects.toBe(reason);
    await isEmpty();
  });
});
