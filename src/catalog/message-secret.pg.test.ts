import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openNewDatabase } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import { SQLSTATE } from '../postgres/sqlstate.ts';
import type { Session } from '../postgres/session.ts';
import { readMessageSecret } from './message-secret.ts';
import { readNodeIdentity } from './nodes.ts';

describe.each([14, 18])('on PostgreSQL %i', (major) => {
  let server: EmbeddedServer;
  let session: Session;
  beforeAll(async () => {
    server = await startServer({ major });
    session = await openNewDatabase(server, 'app');
    await session.script('CREATE ROLE mallory');
  });
  afterAll(async () => {
    await session.close();
    await server[Symbol.asyncDispose]();
  });

  const value = async (sql: string, params: readonly (string | Buffer)[] = []) =>
    (await session.query<{ value: string }>(`SELECT ${sql} AS value`, params))[0]?.value;

  test('the HMAC of SQL is that of node:crypto, whatever the lengths', async () => {
    const bytes = (maxLength: number) =>
      fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));
    await fc.assert(
      fc.asyncProperty(bytes(150), bytes(500), async (secret, message) => {
        const made = await value(`encode(bdr.internal_hmac_sha256($1, $2), 'hex')`, [
          secret,
          message,
        ]);
        expect(made).toBe(createHmac('sha256', secret).update(message).digest('hex'));
      }),
      // Lengths around the block of SHA-256 have cases of their own.
      {
        numRuns: 200,
        examples: [63, 64, 65].map((length) => [Buffer.alloc(length, 255), Buffer.from('m')]),
      },
    );
  });

  test('a node without a secret says so, and a new one is like no other', async () => {
    await expect(session.query('SELECT bdr.internal_heartbeat($1)', ['{}'])).rejects.toMatchObject({
      code: SQLSTATE.objectNotInPrerequisiteState,
      message: 'this node has no secret to sign messages with',
    });
    await expect(readMessageSecret(session)).rejects.toMatchObject({ code: 'invalid_membership' });
    const seen = new Set<string>();
    for (let i = 0; i < 20; i++) {
      await session.query('SELECT bdr.internal_renew_secret()');
      const secret = await readMessageSecret(session);
      expect(secret).toHaveLength(32);
      seen.add(secret.toString('hex'));
    }
    expect(seen.size).toBe(20);
  });

  test('a message is signed with the secret, the node and the content', async () => {
    await session.query('SELECT bdr.internal_renew_secret()');
    const id = await readNodeIdentity(session);
    const content = '{"heartbeat": {"xid": 815}}';
    const signature = createHmac('sha256', await readMessageSecret(session))
      .update(`${id.sysid},${id.timeline},${id.dboid} ${content}`)
      .digest('hex');
    expect(await value('bdr.internal_sign_message($1)', [content])).toBe(`${signature} ${content}`);
  });

  test.each([
    'SELECT secret FROM bdr.message_secret',
    'DELETE FROM bdr.message_secret',
    'COPY bdr.message_secret TO STDOUT',
    'SELECT bdr.internal_renew_secret()',
    `SELECT bdr.internal_sign_message('{}')`,
    `SELECT bdr.internal_heartbeat('{}')`,
    `SELECT bdr.internal_hmac_sha256('', '')`,
  ])('an ordinary role may not: %s', async (sql) => {
    await session.script('ANALYZE bdr.message_secret; SET ROLE mallory');
    try {
      await expect(session.script(sql)).rejects.toMatchObject({
        code: SQLSTATE.insufficientPrivilege,
      });
      expect(
        await session.query(`SELECT FROM pg_stats WHERE tablename = 'message_secret'`),
      ).toEqual([]);
    } finally {
      await session.script('RESET ROLE');
    }
  });
});
