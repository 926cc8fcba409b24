import type { OriginMap } from '../apply/writers.ts';
import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { SharedTime } from '../base/shared-time.ts';
import type { Node } from '../model/node.ts';
import type { Edition } from './edition.ts';

/** One edition of what a link is told about the group that it is in. */
export interface GroupView {
  /** Of the edition. */
  readonly number: number;
  readonly nodes: readonly Node[];
  readonly origins: OriginMap;
  /** The watermark of the node's own stream: a SharedTime. */
  readonly own: SharedArrayBuffer;
  /** The clock of the last heartbeat that the own stream has come to: a SharedTime. */
  readonly ownHeard: SharedArrayBuffer;
  /** Those of its other links, whether they run or not. */
  readonly others: readonly SharedArrayBuffer[];
}

/** What a link's thread knows of the group: the last view that it was told, and whether that still holds. */
export class KnownGroup {
  readonly #edition: Edition;
  #view: GroupView;
  #own: SharedTime;
  #ownHeard: SharedTime;
  #others: readonly SharedTime[];

  constructor(edition: Edition, view: GroupView) {
    this.#edition = edition;
    this.#view = view;
    this.#own = new SharedTime(view.own);
    this.#ownHeard = new SharedTime(view.ownHeard);
    this.#others = shared(view);
  }

  told(view: GroupView): void {
    this.#view = view;
    this.#own = new SharedTime(view.own);
    this.#ownHeard = new SharedTime(view.ownHeard);
    this.#others = shared(view);
  }

  get nodes(): readonly Node[] {
    return this.#view.nodes;
  }

  get origins(): OriginMap {
    return this.#view.origins;
  }

  /** LinkContext.ownLimit. */
  get ownLimit(): PgTime {
    return this.#own.get();
  }

  /** LinkContext.ownHeard. */
  get ownHeard(): PgTime {
    return this.#ownHeard.get();
  }

  /** LinkContext.groupLimit. */
  get limit(): PgTime {
    const times = [this.#own.get(), ...this.#others.map((time) => time.get())];
    // Looked at last: what was read is good only if nothing came meanwhile.
    return this.#view.number === this.#edition.number ? (Math.min(...times) as PgTime) : LONG_AGO;
  }
}

function shared({ others }: GroupView): SharedTime[] {
  return others.map((one) => new SharedTime(one));
}
