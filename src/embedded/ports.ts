import { randomInt } from 'node:crypto';
import net from 'node:net';

const FIRST = 20_000;
const LAST = 29_999;

/**
 * A TCP port of the loopback that nobody listens on at this moment.
 *
 * Taken from below the range that systems use for outgoing connections: while a server is down, a client that keeps trying a
 * port of that range can be given the very same port as its own and so connect to itself, and the server cannot come back.
 */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < 50; tries += 1) {
    const port = randomInt(FIRST, LAST + 1);
    if (await isPortFree(port)) return port;
  }
  const any = await listenOnce(0);
  if (any === undefined) throw new Error('no free TCP port on 127.0.0.1');
  return any;
}

/** Whether a server could listen on the port now. */
export async function isPortFree(port: number): Promise<boolean> {
  return (await listenOnce(port)) !== undefined;
}

function listenOnce(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once('error', () => resolve(undefined));
    server.listen({ host: '127.0.0.1', port, exclusive: true }, () => {
      const address = server.address() as net.AddressInfo;
      server.close(() => resolve(address.port));
    });
  });
}
