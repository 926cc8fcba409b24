import type { Relation } from './transaction.ts';

interface Described {
  readonly relation: Relation;
  /** Counts relation messages, to tell which of two descriptions is the later. */
  readonly arrival: number;
}

/**
 * The relations that the provider has described, and for whom it counts them as known; manual: "Logical Streaming Replication
 * Protocol", Logical Replication Protocol Message Flow.
 *
 * The provider describes a table before its first change and again after the table has changed. It keeps apart what it has
 * described in a streamed transaction: only once that has committed may later transactions rely on it. So a streamed
 * transaction has a scope of its own, within the scope of the stream, which takes it over on commit.
 */
export class RelationScope {
  readonly #outer: RelationScope | null;
  readonly #described = new Map<number, Described>();

  constructor(outer: RelationScope | null = null) {
    this.#outer = outer;
  }

  /** Takes in a description. One that says what is known already leaves the object in place, so that it can serve as a key. */
  describe(relation: Relation, arrival: number): void {
    const known = this.find(relation.id);
    const same = known !== undefined && sameRelation(known, relation);
    this.#described.set(relation.id, { relation: same ? known : relation, arrival });
  }

  find(id: number): Relation | undefined {
    return this.#described.get(id)?.relation ?? this.#outer?.find(id);
  }

  /** Takes over what a scope within this one has, where it is the later description. */
  adopt(inner: RelationScope): void {
    for (const [id, described] of inner.#described) {
      const own = this.#described.get(id);
      if (own === undefined || own.arrival < described.arrival) this.#described.set(id, described);
    }
  }
}

function sameRelation(a: Relation, b: Relation): boolean {
  return (
    a.id === b.id &&
    a.schema === b.schema &&
    a.name === b.name &&
    a.replicaIdentity === b.replicaIdentity &&
    a.columns.length === b.columns.length &&
    a.columns.every((column, i) => {
      const other = b.columns[i];
      return (
        column.name === other?.name &&
        column.typeOid === other.typeOid &&
        column.typmod === other.typmod &&
        column.isKey === other.isKey
      );
    })
  );
}
