import type { RangeVar } from 'libpg-query';
import { quoteIdent } from '../base/names.ts';

/** A relation's name, quoted, in full only where the text has it so. */
export function quotedRelation({ schemaname, relname = '' }: RangeVar): string {
  return `${schemaname ? `${quoteIdent(schemaname)}.` : ''}${quoteIdent(relname)}`;
}
