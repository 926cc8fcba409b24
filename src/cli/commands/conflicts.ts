import type { Command } from 'commander';
import { BdrError, messageOf } from '../../base/errors.ts';
import { pause } from '../../base/wait.ts';
import {
  readConflicts,
  readHistoryHorizon,
  readMoment,
  readNumberBefore,
  readTableName,
  type ConflictEntry,
  type ConflictFilter,
} from '../../catalog/read-conflicts.ts';
import { ConflictFeed } from '../../node/conflict-feed.ts';
import { readStatus } from '../../node/status.ts';
import type { Conninfo } from '../../postgres/conninfo.ts';
import type { Session } from '../../postgres/session.ts';
import { sqlstateOf } from '../../postgres/sqlstate.ts';
import { notANode } from '../not-a-node.ts';
import { openSession, readDsn } from '../open-session.ts';
import { drawConflict } from '../output/conflicts.ts';
import { describeFailure } from '../output/errors.ts';
import { parseSince } from '../since.ts';

const PAGE = 1000;
const FOLLOW_INTERVAL_MS = 500;

interface ConflictsOptions {
  readonly dsn: string;
  readonly table?: string;
  readonly since?: string;
  readonly json?: true;
  readonly follow?: true;
}

export function addConflictsCommand(program: Command): void {
  program
    .command('conflicts')
    .summary('show the conflicts that a node has resolved')
    .description(
      "Shows the node's conflict history, the oldest first, one line for each conflict: when it was resolved, the table, the key, the kind, what was done, and who won over whom. Times are in UTC.",
    )
    .requiredOption('--dsn <dsn>', 'the database of a node, as a superuser')
    .option('--table <name>', 'only of this table: name, or schema.name')
    .option('--since <time>', 'only from then on: a time, or so long ago (2d, 1 hour)')
    .option('--follow', 'go on with new ones, until Ctrl-C; without --since only those')
    .option('--json', 'print as JSON; with --follow one line for each')
    .addHelpText(
      'after',
      `
Examples:
  bdr conflicts --dsn "host=db1 user=postgres dbname=app" --since "1 hour"
  bdr conflicts --dsn "host=db1 user=postgres dbname=app" --table accounts --since 2030-01-31T08:00Z
  bdr conflicts --dsn "host=db1 user=postgres dbname=app" --follow
  bdr conflicts --dsn "host=db1 user=postgres dbname=app" --since 2d --json | jq '.[] | select(.action == "skip") | .remote.row'`,
    )
    .action(async (options: ConflictsOptions) => {
      const conninfo = readDsn(options.dsn);
      const { json } = options;
      if (options.follow) return follow(conninfo, options);
      await using session = await openSession(conninfo, 'conflicts');
      await show(session, await readFilter(session, options), json === true);
    });
}

/** Reads what was asked for. Throws BdrError where the database is no node, or where it means nothing. */
async function readFilter(
  session: Session,
  { table, since }: ConflictsOptions,
): Promise<ConflictFilter> {
  const report = await readStatus(session);
  if (!report.active) throw notANode(report);
  return {
    table: table === undefined ? undefined : await readTable(session, table),
    since: since === undefined ? undefined : await readSince(session, since),
  };
}

async function readTable(
  session: Session,
  text: string,
): Promise<NonNullable<ConflictFilter['table']>> {
  const hint = 'As in SQL: accounts, sales.accounts, sales."Accounts".';
  const name = await orUsage(`"${text}" is not the name of a table`, hint, () =>
    readTableName(session, text),
  );
  if (name) return name;
  throw new BdrError('usage', {
    message: `there is no table ${text} in this database, and no conflict of one`,
    hint,
  });
}

async function readSince(session: Session, text: string): Promise<string> {
  const hint =
    'A time such as 2030-01-31 08:00, in UTC unless it has a zone, or so long ago: 30min, 1 hour, 2d.';
  return orUsage(`"${text}" is neither a time nor an amount of time`, hint, () =>
    readMoment(session, parseSince(text)),
  );
}

/** Runs what the server refuses if the command line is wrong. */
async function orUsage<T>(message: string, hint: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    // Class 22: data exceptions.
    if (!sqlstateOf(error)?.startsWith('22')) throw error;
    throw new BdrError('usage', { message, detail: messageOf(error), hint, cause: error });
  }
}

/** Prints all there are, a page at a time: they may be very many. */
async function show(session: Session, filter: ConflictFilter, json: boolean): Promise<void> {
  let after = filter.since === undefined ? 0 : await readNumberBefore(session, filter.since);
  let count = 0;
  for (;;) {
    const page = await readConflicts(session, filter, { after, except: [], most: PAGE });
    for (const conflict of page) {
      if (!json) console.log(drawConflict(conflict));
      else console.log(`${count === 0 ? '[' : ','}\n  ${conflict.json}`);
      count += 1;
      after = conflict.id;
    }
    if (page.length < PAGE) break;
  }
  if (json) console.log(count === 0 ? '[]' : ']');
  else if (count === 0) console.error('bdr: no conflicts');
}

/** Prints each conflict once, as they turn up, until Ctrl-C. A server that goes away is waited for. */
async function follow(conninfo: Conninfo, options: ConflictsOptions): Promise<void> {
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort());
  process.once('SIGTERM', () => stop.abort());
  const { signal } = stop;
  let session = await openSession(conninfo, 'conflicts', signal);
  try {
    // A wrong command line, or a database that is no node, ends it here.
    const asked = await readFilter(session, options);
    const since = asked.since ?? (await readMoment(session, { ago: '0' }));
    const filter = { ...asked, since };
    const feed = new ConflictFeed(await readNumberBefore(session, since));
    let isAway = false;
    const away = (reason: unknown) => {
      if (!isAway) console.error(`${describeFailure(reason).text}\nbdr: trying again`);
      isAway = true;
    };
    while (!signal.aborted) {
      try {
        if (session.lost.aborted) {
          away(session.lost.reason);
          session = await openSession(conninfo, 'conflicts', signal);
        }
        const found = await feed.look({
          horizon: () => readHistoryHorizon(session),
          read: (after, except) => readConflicts(session, filter, { after, except, most: PAGE }),
        });
        if (isAway) console.error('bdr: connected again');
        isAway = false;
        for (const conflict of found) print(conflict, options.json === true);
        if (found.length === PAGE) continue;
      } catch (error) {
        if (signal.aborted) break;
        away(error);
        await session.close();
      }
      await pause(FOLLOW_INTERVAL_MS, signal);
    }
  } finally {
    await session.close();
  }
}

function print(conflict: ConflictEntry, json: boolean): void {
  console.log(json ? conflict.json : drawConflict(conflict));
}
