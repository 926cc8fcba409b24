import {
  adoptTombstonesSql,
  beginAdoptingSql,
  exportTombstonesSql,
  importTombstonesSql,
} from '../catalog/tombstones.ts';
import { relayCopy } from '../postgres/copy-relay.ts';
import { readRelation } from '../postgres/relation-info.ts';
import type { Session } from '../postgres/session.ts';
import { listTables } from './table-copy.ts';

/**
 * Takes over what the source remembers of deletions (DESIGN 7), in the place of what is remembered here. Call it when the tables
 * are here and the source has read its own log past the snapshot of their rows: what is newer does no harm.
 */
export async function copyTombstones(
  source: Session,
  target: Session,
  signal: AbortSignal,
): Promise<void> {
  const tables = await listTables(source);
  await target.transaction(async () => {
    await target.script(beginAdoptingSql);
    await relayCopy(source, exportTombstonesSql, target, importTombstonesSql, { signal });
    for (const { name, key } of tables) {
      const local = await readRelation(target, name);
      if (!local) continue;
      const columns = key.flatMap((column) => local.columns.get(column) ?? []);
      const params = [local.oid, name.schema, name.name];
      await target.run(adoptTombstonesSql({ oid: local.oid, columns }), params);
    }
  });
}
