import pg from 'pg';

export type QueryCallback = (error: Error | null, result?: { rowCount: number | null }) => void;

/**
 * The driver's own class of queries: in a pipeline it takes no other. It calls `submit` once, and the rest as the server's
 * messages arrive: `handleError` or `handleReadyForQuery` ends it.
 */
export const DriverQuery = pg.Query as unknown as new (
  query: string | { readonly name: string; readonly text: string },
  values: undefined,
  callback: QueryCallback,
) => {
  readonly name: string;
  readonly text: string;
  submit(connection: pg.Connection): void;
  handleRowDescription(message: unknown): void;
  handleDataRow(message: unknown): void;
  handleCommandComplete(message: unknown, connection: pg.Connection): void;
  handleError(error: Error): void;
  handleReadyForQuery(): void;
};
