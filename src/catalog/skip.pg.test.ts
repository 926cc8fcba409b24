import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openNewDatabase } from '../../test/support/agents.ts';
import { startServer } from '../../test/support/servers.ts';
import { parseLsn } from '../base/lsn.ts';
import { LONG_AGO } from '../base/pg-time.ts';
import type { EmbeddedServer } from '../embedded/server.ts';
import type { Session } from '../postgres/session.ts';
import { createLink, readLinks, reportLink, type LinkReport, type LinkStatus } from './links.ts';
import { readNodeIdentity } from './nodes.ts';

const PEER = { sysid: '7000', timeline: 1, dboid: 5 };
const counts = {
  nr_commit: 0,
  nr_rollback: 0,
  nr_insert: 0,
  nr_insert_conflict: 0,
  nr_update: 0,
  nr_update_conflict: 0,
  nr_delete: 0,
  nr_delete_conflict: 0,
  nr_disconnect: 0,
};
const IDLE: LinkReport = {
  status: 'down',
  error: null,
  failed: null,
  applyPid: null,
  received: null,
  applied: null,
  lastChange: null,
  appliedCommitTime: null,
  caughtUp: false,
  knownThere: LONG_AGO,
  settledThere: LONG_AGO,
  watermark: LONG_AGO,
  counts,
};

describe('bdr.skip_changes_upto()', () => {
  let server: EmbeddedServer;
  let session: Session;
  beforeAll(async () => {
    server = await startServer();
    session = await openNewDatabase(server, 'app');
    const me = await readNodeIdentity(session);
    await session.script(`
      INSERT INTO bdr.bdr_nodes (node_sysid, node_timeline, node_dboid, node_status, node_name)
      VALUES ('7000', 1, 5, 'r', 'peer');
      INSERT INTO bdr.bdr_local_node (node_sysid, node_timeline, node_dboid)
      SELECT sysid, timeline, dboid FROM bdr.bdr_get_local_nodeid();
      CREATE ROLE operator;
      GRANT EXECUTE ON FUNCTION bdr.skip_changes_upto(text, oid, oid, pg_lsn) TO operator`);
    await createLink(session, { provider: PEER, subscriber: me }, null, {
      start: parseLsn('0/5000'),
      skip: null,
    });
  });
  afterAll(async () => {
    await session.close();
    await server[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    await session.script(
      'SET bdr.permit_unsafe_ddl_commands = on; UPDATE bdr.bdr_links SET skip_upto_lsn = NULL',
    );
    await reports('failed');
  });

  const reports = (status: LinkStatus, more: Partial<LinkReport> = {}) =>
    reportLink(session, PEER, { ...IDLE, status, ...more });
  const skip = (
    sysid: string | null = '7000',
    timeline: number | null = 1,
    dboid: number | null = 5,
    lsn: string | null = '0/6000',
  ) =>
    session.query('SELECT bdr.skip_changes_upto($1, $2::oid, $3::oid, $4)', [
      sysid,
      timeline,
      dboid,
      lsn,
    ]);

  test.each(['off', ''])('needs the permission of BDR, not "%s"', async (value) => {
    await session.script(`SET bdr.permit_unsafe_ddl_commands = '${value}'`);
    await expect(skip()).rejects.toMatchObject({
      code: '55000',
      message: 'skipping changes is unsafe and will cause replicas to be out of sync',
      hint: 'Set bdr.permit_unsafe_ddl_commands if you are sure you want to do this',
    });
  });

  test('does not take that permission from a role that is no superuser', async () => {
    await session.script('SET SESSION AUTHORIZATION operator');
    await expect(skip()).rejects.toMatchObject({
      code: '42501',
      message: 'permission denied to set parameter "bdr.permit_unsafe_ddl_commands"',
    });
    await session.script('RESET SESSION AUTHORIZATION');
  });

  test.each(['0/0', null])('refuses the position %s as BDR does', async (lsn) => {
    await expect(skip('7000', 1, 5, lsn)).rejects.toMatchObject({
      code: '22003',
      message: 'Target LSN must be nonzero',
    });
  });

  test('refuses the local node as BDR does', async () => {
    const { sysid, timeline, dboid } = await readNodeIdentity(session);
    await expect(skip(sysid, timeline, dboid)).rejects.toMatchObject({
      code: 'XX000',
      message: "the passed ID is for the local node, can't skip changes from self",
    });
  });

  test.each([
    ['7001', 1, 5],
    ['7000', 2, 5],
    ['7000', 1, 6],
    ['7000', null, 5],
  ] as const)('refuses a node that it does not read from: %s %s %s', async (...id) => {
    const [sysid, timeline, dboid] = id;
    await expect(skip(sysid, timeline, dboid)).rejects.toMatchObject({
      code: '42704',
      message: 'no replication identifier found for node',
    });
  });

  test.each(['x', '', '-1', null])('refuses %j for an identifier as BDR does', async (sysid) => {
    await expect(skip(sysid)).rejects.toMatchObject({
      code: 'XX000',
      message: 'Parsing of remote sysid as uint64 failed',
    });
  });

  test.each(['streaming', 'connecting'] as const)('refuses a link that is %s', async (status) => {
    await reports(status);
    await expect(skip()).rejects.toMatchObject({
      code: '55006',
      message: 'replication from node peer is not stopped',
      detail: `The link is ${status}.`,
    });
  });

  test('refuses a position that is applied already', async () => {
    await expect(skip('7000', 1, 5, '0/4FFF')).rejects.toMatchObject({
      code: '22003',
      message: 'changes of node peer up to 0/5000 are applied already',
    });
  });

  test.each(['failed', 'paused', 'down'] as const)('takes a link that is %s', async (status) => {
    await reports(status);
    await skip();
    const [link] = await readLinks(session);
    expect(link?.skipRequest).toMatchObject({ upto: parseLsn('0/6000'), by: 'postgres' });
  });

  test('takes a link that streams only because a failing transaction is tried again', async () => {
    const failed = { xid: 815, commitLsn: parseLsn('0/6000'), commitTime: 0 as never };
    await reports('streaming', { failed });
    await skip();
    expect((await readLinks(session))[0]?.skipRequest).not.toBeNull();
  });

  test('is forgotten once the link is past it, and not before', async () => {
    await skip();
    await reports('streaming', { applied: parseLsn('0/6000') });
    expect((await readLinks(session))[0]?.skipRequest).not.toBeNull();
    await reports('streaming', { applied: parseLsn('0/6001') });
    expect((await readLinks(session))[0]?.skipRequest).toBeNull();
  });
});
