import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import { becomeLoneNode } from '../../test/support/lone-node.ts';
import { startServer } from '../../test/support/servers.ts';
import type { Lsn } from '../base/lsn.ts';
import { sqlDir } from '../config/paths.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Session } from '../postgres/session.ts';
import { install } from './install.ts';
import { createLink } from './links.ts';
import { notePartedPosition, readPartedPositions } from './parted-positions.ts';
import { readSqlFiles } from './sql-files.ts';

// What a node says of its place in a parted node's log, and who lacks something by that.

let server: EmbeddedServer;
let session: Session;
const peer = { sysid: '8', timeline: 1, dboid: 1 };
const subscriber = { sysid: '', timeline: 1, dboid: 0 };
const link = { provider: peer, subscriber };
const lost = { name: 'lost', joinedAt: '2030-01-01 00:00:00+00' };
beforeAll(async () => {
  server = await startServer();
  session = await openSession(server);
  await install(session, readSqlFiles(sqlDir()));
  await becomeLoneNode(session, ['lost', 'other']);
  const [me] = await session.query<{ sysid: string; dboid: string }>(
    'SELECT sysid, dboid FROM bdr.bdr_get_local_nodeid()',
  );
  Object.assign(subscriber, { sysid: me?.sysid, dboid: Number(me?.dboid) });
});
afterAll(async () => {
  await session?.close();
  await server?.[Symbol.asyncDispose]();
});
beforeEach(async () => {
  await session.script('DELETE FROM bdr.parted_position; DELETE FROM bdr.bdr_links');
  await createLink(session, link, lost.joinedAt, { start: 0x100 as Lsn, skip: null });
});

const lastChange = (lsn: string | null) =>
  session.run('UPDATE bdr.bdr_links SET changes_lsn = $1::pg_lsn', [lsn]);
const stated = async () => {
  const [row] = await session.query<{ applied: string; changes: string }>(
    'SELECT applied_lsn AS applied, changes_lsn AS changes FROM bdr.parted_position',
  );
  return row;
};

test('what it says of the last change is never less than that', async () => {
  await lastChange('0/80');
  await notePartedPosition(session, link, lost, true);
  expect(await stated()).toEqual({ applied: '0/100', changes: '0/80' });
  // What an agent wrote down that is gone may be older than what it applied.
  await notePartedPosition(session, link, lost, false);
  expect(await stated()).toEqual({ applied: '0/100', changes: '0/100' });
  await lastChange(null);
  await notePartedPosition(session, link, lost, true);
  expect(await stated()).toEqual({ applied: '0/100', changes: '0/100' });
  // A crash of the server has undone what came behind.
  await lastChange('0/200');
  await notePartedPosition(session, link, lost, true);
  expect(await stated()).toEqual({ applied: '0/100', changes: '0/100' });
});

test('a link to another life of the node, or one that was never established, says nothing', async () => {
  await notePartedPosition(session, link, { ...lost, joinedAt: null }, true);
  await session.run('UPDATE bdr.bdr_links SET start_lsn = NULL');
  await notePartedPosition(session, link, lost, true);
  expect(await stated()).toBeUndefined();
});

test('who lacks what another one has is behind; heartbeats, former lives and those that are gone do not count', async () => {
  await lastChange('0/100');
  await notePartedPosition(session, link, lost, true);
  const other = (applied: string, changes: string, joinedAt: string, sysid = '9') =>
    session.run(
      `INSERT INTO bdr.parted_position
       VALUES ('8', 1, 1, $4, 'lost', $3, 1, 1, $1::pg_lsn, $2::pg_lsn, NULL)
       ON CONFLICT (node_sysid, node_timeline, node_dboid, at_sysid, at_timeline, at_dboid)
       DO UPDATE SET applied_lsn = EXCLUDED.applied_lsn, changes_lsn = EXCLUDED.changes_lsn, node_joined_at = EXCLUDED.node_joined_at`,
      [applied, changes, sysid, joinedAt],
    );
  const behind = async () =>
    (await readPartedPositions(session)).filter(({ isBehind }) => isBehind).map(({ at }) => at);
  await other('0/200', '0/100', lost.joinedAt);
  expect(await behind()).toEqual([]);
  await other('0/200', '0/101', lost.joinedAt);
  expect(await behind()).toEqual(['here']);
  await other('0/FF', '0/FF', lost.joinedAt);
  expect(await behind()).toEqual(['other']);
  await other('0/200', '0/200', '2031-01-01 00:00:00+00');
  expect(await behind()).toEqual([]);
  // Parted itself.
  await other('0/200', '0/200', lost.joinedAt, '7');
  expect(await behind()).toEqual([]);
});
