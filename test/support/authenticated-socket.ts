import type { Socket } from 'node:net';
import pg from 'pg';
import type { AuthenticatedSocket } from '../../src/snapshot/pg-dump-wasm.ts';

interface Internals {
  readonly processID: number;
  readonly secretKey: number;
  readonly connection: {
    readonly stream: Socket;
    on(
      event: 'parameterStatus',
      listener: (message: { parameterName: string; parameterValue: string }) => void,
    ): void;
  };
}

/** Lets the driver connect and authenticate, then takes its socket away from it. */
export async function authenticatedSocket(config: pg.ClientConfig): Promise<AuthenticatedSocket> {
  const client = new pg.Client(config);
  client.on('error', () => undefined); // the driver is out of it; whoever owns the socket hears of errors itself
  const { connection } = client as unknown as Internals;
  const parameters: Record<string, string> = {};
  connection.on('parameterStatus', ({ parameterName, parameterValue }) => {
    parameters[parameterName] = parameterValue;
  });
  await client.connect();
  await client.query('select'); // until its answer is there, something of the start-up may be under way
  const { processID, secretKey } = client as unknown as Internals;
  const socket = connection.stream;
  for (const event of ['data', 'end', 'close', 'error']) socket.removeAllListeners(event);
  return { socket, parameters, processId: processID, secretKey };
}
