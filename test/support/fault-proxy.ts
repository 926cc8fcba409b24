import { createServer, connect, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';

/** A TCP proxy in front of a server, which can do what networks do. */
export class FaultProxy implements AsyncDisposable {
  readonly port: number;
  readonly #server: Server;
  readonly #pairs = new Set<[Socket, Socket]>();
  #silent = false;
  #refusing = false;
  #cutAfterBytes: number | undefined;
  /** How often a connection was broken in the middle of what the server sent. */
  cuts = 0;

  private constructor(server: Server, targetPort: number) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    server.on('connection', (client) => this.#accept(client, targetPort));
  }

  static async before(targetPort: number): Promise<FaultProxy> {
    const server = createServer({ pauseOnConnect: true });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new FaultProxy(server, targetPort);
  }

  /** Breaks every connection, and lets no new one through until heal(). */
  cut(): void {
    this.#refusing = true;
    this.#destroyAll();
  }

  /** Carries nothing any more, without telling either side. */
  silence(): void {
    this.#silent = true;
    for (const pair of this.#pairs) for (const socket of pair) socket.pause();
  }

  /** Breaks the connection that carries the next so many bytes from the server: in the middle of a frame, most likely. */
  cutAfter(bytes: number): void {
    this.#cutAfterBytes = bytes;
  }

  /** Works again, for new connections. */
  heal(): void {
    this.#refusing = false;
    if (this.#silent) this.#destroyAll();
    this.#silent = false;
  }

  #accept(client: Socket, targetPort: number): void {
    if (this.#refusing) {
      client.destroy();
      return;
    }
    const server = connect(targetPort, '127.0.0.1');
    const pair: [Socket, Socket] = [client, server];
    this.#pairs.add(pair);
    const end = () => {
      this.#pairs.delete(pair);
      client.destroy();
      server.destroy();
    };
    for (const socket of pair) socket.on('error', end).on('close', end);
    client.on('data', (chunk) => server.write(chunk));
    server.on('data', (chunk) => {
      if (this.#cutAfterBytes !== undefined && chunk.length > this.#cutAfterBytes) {
        client.end(chunk.subarray(0, this.#cutAfterBytes));
        this.#cutAfterBytes = undefined;
        this.cuts += 1;
        server.destroy();
        return;
      }
      if (this.#cutAfterBytes !== undefined) this.#cutAfterBytes -= chunk.length;
      client.write(chunk);
    });
    if (this.#silent) server.pause();
    else client.resume();
  }

  #destroyAll(): void {
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#destroyAll();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
