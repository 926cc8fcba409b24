/**
 * What a run has besides the ordinary. Each is drawn and done only where it is on, so that a seed without it stays the run that it
 * was.
 */
export const SWITCHES = {
  unique: 'with a unique index besides the key',
  uniques: 'with two of them',
  join: 'a node joins in the middle',
  part: 'a node leaves',
  clocks: 'clocks step, forward and back',
  dense: 'few writes of few keys, close together; many commits are held',
} as const;

export type SwitchName = keyof typeof SWITCHES;

export type Switches = { readonly [Name in SwitchName]?: boolean | undefined };

/** Whether rows can lose to rows of other keys. */
export function hasUniqueIndex({ unique, uniques }: Switches): boolean {
  return unique === true || uniques === true;
}

/** All of them, in the order in which they are told. */
export const SWITCH_NAMES = Object.keys(SWITCHES) as readonly SwitchName[];

/** Those that are on, and nothing else of an object that has them among others. */
export function switchesIn(all: Switches): Switches {
  return Object.fromEntries(
    SWITCH_NAMES.filter((name) => all[name] === true).map((name) => [name, true]),
  );
}

/** As they are given on the command line. */
export function switchFlags(all: Switches): string[] {
  return SWITCH_NAMES.filter((name) => all[name] === true).map((name) => `--${name}`);
}
