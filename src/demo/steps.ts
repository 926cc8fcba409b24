/** Runs one named step of something long; `note` says how far it is. What the step throws comes through. */
export type Steps = <T>(
  name: string,
  work: (note: (text: string) => void) => Promise<T>,
) => Promise<T>;
