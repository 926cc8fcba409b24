import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

/** A thread that is given one task after the other. */
export class Thread<Task, Result> implements AsyncDisposable {
  readonly #worker: Worker;

  /** `file`: what it runs, of this folder. */
  constructor(file: string) {
    this.#worker = new Worker(new URL(file, import.meta.url));
  }

  async run(task: Task): Promise<Result> {
    // Fails with what the thread fails with.
    const answer = once(this.#worker, 'message') as Promise<[Result]>;
    this.#worker.postMessage(task);
    const [result] = await answer;
    return result;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }
}
