import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { EmbeddedServer } from '../embedded/server.ts';
import { startServer } from '../../test/support/servers.ts';
import { requiredRolesSql } from './required-roles.ts';

let server: EmbeddedServer;
beforeAll(async () => {
  server = await startServer({ major: 18 });
});
afterAll(() => server[Symbol.asyncDispose]());

/** Runs statements in a database of their own and tells the roles that its schema needs then. */
async function requiredAfter(database: string, statements: string, user = 'postgres') {
  const at = (name: string) =>
    new pg.Client({ host: '127.0.0.1', port: server.port, user: 'postgres', database: name });
  const admin = at('postgres');
  await admin.connect();
  await admin.query(`create database ${database}`);
  await admin.end();
  const client = at(database);
  await client.connect();
  try {
    if (statements !== '') await client.query(statements);
    if (user !== 'postgres') await client.query(`set role ${user}`);
    const { rows } = await client.query(requiredRolesSql);
    return (rows as { role: string }[]).map(({ role }) => role);
  } finally {
    await client.end();
  }
}

test('an empty database needs none', async () => {
  expect(await requiredAfter('empty', '')).toEqual([]);
});

test('extensions need none, whoever made them, until their privileges are changed', async () => {
  const roles = await requiredAfter(
    'extended',
    `create role fdw_user; create role counter;
     create extension hstore; create extension postgres_fdw; create extension pg_stat_statements;
     grant usage on foreign data wrapper postgres_fdw to fdw_user;
     grant execute on function pg_stat_statements_reset to counter`,
  );
  expect(roles).toEqual(['counter', 'fdw_user']);
});

test("grants on the system's own objects need their grantees", async () => {
  const roles = await requiredAfter(
    'granted',
    `create role rotator; create role looker;
     grant execute on function pg_catalog.pg_rotate_logfile() to rotator;
     grant select (oid) on pg_catalog.pg_authid to looker;
     grant usage on schema public to pg_monitor`,
  );
  expect(roles).toEqual(['looker', 'pg_monitor', 'rotator']);
});

test('a new owner of schema public, and one of a server and its users, are needed', async () => {
  const roles = await requiredAfter(
    'owned',
    `create role boss; create role mapped; create role remote;
     alter schema public owner to boss;
     create extension postgres_fdw; create server far foreign data wrapper postgres_fdw;
     alter server far owner to remote; create user mapping for mapped server far`,
  );
  expect(roles).toEqual(['boss', 'mapped', 'remote']);
});

test('what is in schema bdr needs nobody', async () => {
  const roles = await requiredAfter(
    'replicated',
    `create role hidden; create schema bdr; create table bdr.t (); alter table bdr.t owner to hidden;
     grant select on bdr.t to hidden; create policy p on bdr.t to hidden;
     create function bdr.f() returns event_trigger language plpgsql as 'begin end';
     create event trigger bdr_x on sql_drop execute function bdr.f()`,
  );
  expect(roles).toEqual([]);
});

test('a role without privileges may ask', async () => {
  const roles = await requiredAfter(
    'asked',
    'create role nobody; create role somebody; create table t (); alter table t owner to somebody',
    'nobody',
  );
  expect(roles).toEqual(['somebody']);
});
