import { stripVTControlCharacters } from 'node:util';
import { colors } from './colors.ts';
import type { DemoView, LinkView } from '../../demo/observer.ts';
import { formatBytes, formatDuration } from './quantities.ts';
import { drawTable, oneLine } from './table.ts';

const EVENTS_SHOWN = 6;
const PLAIN_EVERY_MS = 2000;

/** The table of links, one line each, under a line of headings. */
export function linkTable(links: readonly LinkView[]): string[] {
  if (links.length === 0) return [];
  const head = ['link', 'status', 'durable after', 'behind', 'transactions', 'rows', 'conflicts'];
  return drawTable([
    head.map((text) => colors.dim(text)),
    ...links.map((link) => [
      linkName(link),
      colored(link.status),
      link.lagMs === null ? '-' : formatDuration(link.lagMs),
      link.behindBytes === null ? '-' : formatBytes(link.behindBytes),
      String(link.transactions),
      String(link.rows),
      link.conflicts > 0 ? colors.yellow(String(link.conflicts)) : '0',
    ]),
  ]);
}

/** What happened between two looks, a sentence each. */
export function news(before: DemoView | undefined, now: DemoView): string[] {
  const sentences: string[] = [];
  for (const node of now.nodes) {
    const was = before?.nodes.find(({ name }) => name === node.name);
    if (was?.serverRuns && !node.serverRuns) {
      sentences.push(`the server of ${node.name} has ended`);
    }
    if (node.agentEnd !== undefined && was?.agentEnd === undefined) {
      sentences.push(
        `the agent of ${node.name} has ended (${node.agentEnd}), see ${node.agentLogPath}`,
      );
    }
    if (was && !was.served && node.served) sentences.push(`an agent serves ${node.name} again`);
  }
  for (const link of now.links) {
    const was = before?.links.find((other) => linkName(other) === linkName(link));
    if (was?.status !== link.status) {
      const reason = link.error === null ? '' : `: ${oneLine(link.error)}`;
      const verb = link.status.startsWith('no ') ? 'has' : 'is';
      sentences.push(`${linkName(link)} ${verb} ${link.status}${reason}`);
    }
    if (!was) continue;
    const rows = link.rows - was.rows;
    if (rows > 0) {
      const lag = link.lagMs === null ? '' : `, durable after ${formatDuration(link.lagMs)}`;
      sentences.push(`${link.subscriber} applied ${count(rows, 'row')} of ${link.provider}${lag}`);
    }
    const conflicts = link.conflicts - was.conflicts;
    if (conflicts > 0) {
      sentences.push(
        `${link.subscriber} resolved ${count(conflicts, 'conflict')} with ${link.provider}`,
      );
    }
  }
  return sentences;
}

/**
 * Shows one look after the other: in a terminal a table that is drawn anew, with the last events below; elsewhere a line for each
 * event, and the state of a link that is behind at most every few seconds.
 */
export class LiveScreen {
  readonly #events: string[] = [];
  #before: DemoView | undefined;
  #linesDrawn = 0;
  #toldAt = 0;

  show(view: DemoView): void {
    const time = new Date().toTimeString().slice(0, 8);
    const happened = news(this.#before, view).map((sentence) => `${time}  ${sentence}`);
    this.#before = view;
    if (process.stdout.isTTY) return this.#draw(view, happened);
    for (const line of happened) process.stdout.write(`${line}\n`);
    if (performance.now() - this.#toldAt < PLAIN_EVERY_MS) return;
    const late = view.links.filter(({ behindBytes }) => (behindBytes ?? 0) > 1024 * 1024);
    if (late.length === 0) return;
    this.#toldAt = performance.now();
    for (const link of late) {
      const behind = formatBytes(link.behindBytes ?? 0);
      process.stdout.write(`${time}  ${linkName(link)} is ${behind} behind\n`);
    }
  }

  #draw(view: DemoView, happened: readonly string[]): void {
    this.#events.push(...happened);
    this.#events.splice(0, this.#events.length - EVENTS_SHOWN);
    const table = linkTable(view.links);
    const events = this.#events.map((line) => `  ${colors.dim(line)}`);
    const lines = [...table, ...(table.length > 0 && events.length > 0 ? [''] : []), ...events];
    // A line that wraps would make the count of lines wrong.
    const width = process.stdout.columns ?? 80;
    const text = lines.map((line) => `${clip(line, width)}\n`).join('');
    const back = this.#linesDrawn > 0 ? `\x1b[${this.#linesDrawn}A\x1b[J` : '';
    process.stdout.write(back + text);
    this.#linesDrawn = lines.length;
  }
}

function linkName({ provider, subscriber }: LinkView): string {
  return `${oneLine(provider)} → ${oneLine(subscriber)}`;
}

function colored(status: string): string {
  if (status === 'streaming') return colors.green(status);
  return ['paused', 'connecting'].includes(status) ? colors.yellow(status) : colors.red(status);
}

function clip(line: string, width: number): string {
  const plain = stripVTControlCharacters(line);
  return plain.length < width ? line : plain.slice(0, width - 1);
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}
