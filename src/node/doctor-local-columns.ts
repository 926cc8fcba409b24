import { displayName } from '../base/names.ts';
import type { LocalColumns } from '../catalog/local-columns.ts';
import { findings, type Finding } from './finding.ts';

/** Tells which columns stay on this node, and of those on which nodes should agree. */
export function checkLocalColumns(tables: readonly LocalColumns[]): Finding[] {
  return findings('node', (say) => {
    for (const { table, columns, flaw } of tables) {
      const name = displayName(table);
      if (flaw !== null) {
        const message = `table ${name} has a local column on which nodes must agree: ${flaw}`;
        say('error', 'local_columns', message, 'drop what is made of it, on every node');
      }
      say(
        'note',
        'local_columns',
        `columns of ${name} that stay on this node: ${columns.join(', ')}`,
      );
    }
  });
}
