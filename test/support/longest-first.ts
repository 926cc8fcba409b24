import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** The files that take a minute and more, the longest first. */
const LONGEST = [
  'test/matrix/majors.matrix.test.ts',
  'test/cluster/join.cluster.test.ts',
  'test/cluster/migrations.cluster.test.ts',
  'test/cluster/user-code.cluster.test.ts',
  'test/cluster/row-filters.cluster.test.ts',
  'test/cluster/ddl.cluster.test.ts',
  'test/cluster/membership.cluster.test.ts',
  'test/cluster/early-apply.cluster.test.ts',
  'test/e2e/demo.e2e.test.ts',
  'test/cluster/join-errors.cluster.test.ts',
  'test/cluster/network.cluster.test.ts',
  'test/cluster/conflicts.cluster.test.ts',
  'test/e2e/bench.e2e.test.ts',
];

/**
 * Files in the order of their groups, and in each the longest first, of whatever project: else one that is begun last would run
 * alone for minutes. Vitest itself takes one project after the other, and in a fresh clone the largest files first.
 */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    return sorted.toSorted((a, b) => groupOf(a) - groupOf(b) || placeOf(a) - placeOf(b));
  }
}

function groupOf({ project }: TestSpecification): number {
  return project.config.sequence.groupOrder;
}

function placeOf({ moduleId }: TestSpecification): number {
  const place = LONGEST.findIndex((file) => moduleId.endsWith(file));
  return place === -1 ? LONGEST.length : place;
}
