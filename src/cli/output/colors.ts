import picocolors from 'picocolors';

/** Colours for people: where stdout is a terminal, and the environment does not forbid them. A file or a script gets plain text. */
export const colors = picocolors.createColors(
  picocolors.isColorSupported && process.stdout.isTTY === true,
);
