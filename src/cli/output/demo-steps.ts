import { colors } from './colors.ts';
import type { Steps } from '../../demo/steps.ts';
import { oneLine } from './table.ts';

export interface StepResult {
  readonly name: string;
  readonly ok: boolean;
  readonly ms: number;
  readonly note: string;
}

const SHOW_AFTER_MS = 1000;
const REPEAT_MS = 5000;
const NAME_WIDTH = 58;

/** Runs the demo's steps and prints a line for each, with its time. What takes longer than a second is shown while it runs. */
export class StepPrinter {
  readonly results: StepResult[] = [];
  readonly #quiet: boolean;
  readonly #signal: AbortSignal;

  /** A step that ends by the signal is given up, it has not failed. */
  constructor({ quiet, signal }: { readonly quiet: boolean; readonly signal: AbortSignal }) {
    this.#quiet = quiet;
    this.#signal = signal;
  }

  readonly run: Steps = async (name, work) => {
    const startedAt = performance.now();
    let note = '';
    let told = '';
    const tell = () => {
      const text = note === '' ? `${name} …` : `${name}: ${note} …`;
      if (process.stdout.isTTY) rewrite(`${colors.dim('..')}  ${clip(text)}`);
      else if (text !== told) process.stdout.write(`..  ${text}\n`);
      told = text;
    };
    const timers = this.#quiet
      ? []
      : [
          setTimeout(tell, process.stdout.isTTY ? 0 : SHOW_AFTER_MS),
          setInterval(tell, process.stdout.isTTY ? 250 : REPEAT_MS),
        ];
    const end = (ok: boolean) => {
      for (const timer of timers) clearTimeout(timer);
      const ms = performance.now() - startedAt;
      this.results.push({ name, ok, ms: Math.round(ms), note });
      if (this.#quiet) return;
      const failed = this.#signal.aborted ? colors.yellow('--') : colors.red('FAIL');
      const word = ok ? colors.green('ok') : failed;
      const label = ok && note !== '' ? `${name} (${note})` : name;
      if (process.stdout.isTTY) rewrite('');
      process.stdout.write(`${word}  ${label.padEnd(NAME_WIDTH)}  ${(ms / 1000).toFixed(2)} s\n`);
    };
    try {
      const result = await work((text) => (note = oneLine(text)));
      end(true);
      return result;
    } catch (error) {
      end(false);
      throw error;
    }
  };
}

function rewrite(text: string): void {
  process.stdout.write(`\r\x1b[K${text}`);
}

function clip(text: string): string {
  return text.slice(0, Math.max(20, (process.stdout.columns ?? 80) - 6));
}
