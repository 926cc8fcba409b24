import path from 'node:path';
import { colors } from './colors.ts';
import type { Demo } from '../../demo/demo.ts';
import type { DemoNode } from '../../demo/demo-node.ts';
import type { FirstWrite } from '../../demo/first-writes.ts';

/** How to call this program from the current directory. */
export function programCall(programPath: string): string {
  const installed = programPath.includes(`${path.sep}node_modules${path.sep}`);
  return installed ? 'bdr' : `node ${path.relative(process.cwd(), programPath)}`;
}

/** What stands on the screen once a group is there: how to connect, and what to try. */
export function groupText(demo: Demo, bdr: string): string {
  const [one, two] = demo.nodes as [DemoNode, DemoNode, ...DemoNode[]];
  const both = (sql: string) => `${on(one, sql)}; ${on(two, sql)}`;
  return section([
    `${demo.nodes.length} nodes, one group. Connect to any of them:`,
    ...demo.nodes.map((node) => `  ${psql(node)}`),
    '',
    'Try:',
    `  ${variable(one)}="${one.dsn}"`,
    `  ${variable(two)}="${two.dsn}"`,
    ...step(
      'write on one node, read on another',
      on(one, `INSERT INTO accounts (name) VALUES ('Zoe')`),
      on(two, 'SELECT * FROM accounts'),
    ),
    ...step(
      'change the same row on both nodes before either knows: the later change wins, both are in the history',
      both('SELECT bdr.bdr_apply_pause()'),
      on(one, `UPDATE accounts SET balance = 1 WHERE name = 'Ada'`),
      on(two, `UPDATE accounts SET balance = 2 WHERE name = 'Ada'`),
      both('SELECT bdr.bdr_apply_resume()'),
      both('SELECT * FROM accounts'),
      both('SELECT conflict_type, local_tuple, remote_tuple FROM bdr.bdr_conflict_history'),
    ),
    ...step('ask how it is', `${bdr} status --dsn "$${variable(one)}"`),
    ...step(
      `kill the agent of ${two.name}, write on both, start it again`,
      `kill -9 ${two.agent?.pid}`,
      `${bdr} agent --dsn "$${variable(two)}"`,
    ),
    '',
    placeText(demo),
  ]);
}

/** What stands on the screen with --bare: the walk-through, with this demo's addresses. */
export function bareText(demo: Demo): string {
  const [one, two] = demo.nodes as [DemoNode, DemoNode, ...DemoNode[]];
  const dsn = (node: DemoNode) => node.server.dsn('test_db');
  return section([
    `${demo.nodes.length} servers, each with an agent. No group yet.`,
    ...demo.nodes.map((node) => `  ${psql(node)}`),
    '',
    'Try, in each of them:',
    '  CREATE DATABASE test_db;',
    '  \\c test_db',
    '  CREATE EXTENSION bdr;',
    `Then on ${one.name}:`,
    `  SELECT bdr.bdr_group_create(local_node_name := '${one.name}', node_external_dsn := '${dsn(one)}');`,
    '  SELECT bdr.bdr_node_join_wait_for_ready();',
    `and on ${two.name}:`,
    `  SELECT bdr.bdr_group_join(local_node_name := '${two.name}', node_external_dsn := '${dsn(two)}', join_using_dsn := '${dsn(one)}');`,
    '  SELECT bdr.bdr_node_join_wait_for_ready();',
    '  SELECT * FROM bdr.bdr_nodes;',
    '',
    placeText(demo),
  ]);
}

/** One write of the little show at the start. */
export function firstWriteText({ writer, name, readers, ms }: FirstWrite): string {
  return `    ${writer}: INSERT … '${name}'  →  on ${readers.join(' and ')} after ${ms.toFixed(0)} ms`;
}

function psql(node: DemoNode): string {
  return `psql "${node.dsn}"`;
}

/** A shell variable that holds the node's connection string. */
function variable(node: DemoNode): string {
  return node.name.toUpperCase();
}

function on(node: DemoNode, sql: string): string {
  return `psql "$${variable(node)}" -c "${sql}"`;
}

function step(what: string, ...commands: string[]): string[] {
  return [`  ${colors.dim(`# ${what}`)}`, ...commands.map((command) => `  ${command}`)];
}

function placeText({ directory }: Demo): string {
  return directory.temporary
    ? `Files and logs are in ${directory.path} until this ends. Ctrl-C ends all of it.`
    : `Files and logs are in ${directory.path}, kept for the next start. Ctrl-C ends servers and agents.`;
}

function section(lines: readonly string[]): string {
  return ['', ...lines, ''].join('\n');
}
