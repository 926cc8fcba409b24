/** What `--since` asks for: so long ago, or a moment in any way that PostgreSQL reads. */
export type Since = { readonly ago: string } | { readonly at: string };

const UNIT =
  '(?:s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?|mons?|months?|y|yrs?|years?)';
const AMOUNTS = new RegExp(`^\\s*((?:\\d+(?:\\.\\d+)?\\s*${UNIT}\\s*)+)(?:ago\\s*)?$`, 'i');

/** Tells an amount of time (`2d`, `1 hour`, `1h 30min ago`) from a moment. What is neither is for the server to refuse. */
export function parseSince(text: string): Since {
  const [, amounts] = AMOUNTS.exec(text) ?? [];
  return amounts === undefined ? { at: text.trim() } : { ago: amounts.trim() };
}
