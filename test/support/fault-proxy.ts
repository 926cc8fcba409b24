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
  #delayMs = 0;
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

  /** Carries everything so much later, until heal(). */
  slow(delayMs: number): void {
    this.#delayMs = delayMs;
  }

  /** Breaks the connection that carries the next so many bytes from the server: in the middle of a frame, most likely. */
  cutAfter(bytes: number): void {
    this.#cutAfterBytes = bytes;
  }

  /** Works again; connections that were silent are broken, to be made anew. */
  heal(): void {
    this.#refusing = false;
    this.#delayMs = 0;
    this.#cutAfterBytes = undefined;
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
    const toServer = new Line(server, () => this.#delayMs);
    const toClient = new Line(client, () => this.#delayMs);
    client.on('data', (chunk) => toServer.carry(chunk));
    server.on('data', (chunk) => {
      if (this.#cutAfterBytes !== undefined && chunk.length > this.#cutAfterBytes) {
        client.end(chunk.subarray(0, this.#cutAfterBytes));
        this.#cutAfterBytes = undefined;
        this.cuts += 1;
        server.destroy();
        return;
      }
      if (this.#cutAfterBytes !== undefined) this.#cutAfterBytes -= chunk.length;
      toClient.carry(chunk);
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

/** One direction of a connection. What was taken later arrives later, also when the delay has become shorter meanwhile. */
class Line {
  readonly #to: Socket;
  readonly #delayMs: () => number;
  readonly #waiting: Buffer[] = [];

  constructor(to: Socket, delayMs: () => number) {
    this.#to = to;
    this.#delayMs = delayMs;
  }

  carry(chunk: Buffer): void {
    const delayMs = this.#delayMs();
    if (delayMs === 0 && this.#waiting.length === 0) {
      this.#to.write(chunk);
      return;
    }
    this.#waiting.push(chunk);
    // A timer for each chunk: whichever fires first carries the one that has waited longest.
    setTimeout(() => {
      const next = this.#waiting.shift();
      if (next && !this.#to.destroyed) this.#to.write(next);
    }, delayMs);
  }
}
