import type { Session } from '../postgres/session.ts';

/** Makes the sequences of this node what convert_sequence() asks for, as far as they are here and nobody holds them. */
export async function carryOutSequenceKinds(session: Session): Promise<void> {
  await session.query('SELECT bdr.internal_carry_out_all()');
}

/** In a joining node: its sequences, which stand where those of its source stood, go on with values of its own. */
export async function takeOverSequences(session: Session): Promise<void> {
  await session.query('SELECT bdr.internal_take_over_sequences()');
}

/** Sequences that were converted and are not so on this node, as text. */
export async function readUnconvertedSequences(session: Session): Promise<string[]> {
  const rows = await session.query<{ name: string }>(/* sql */ `
    SELECT format('%I.%I', k.schema_name, k.sequence_name) AS name
    FROM bdr.bdr_sequence_kinds AS k
    WHERE NOT k.is_in_effect
    ORDER BY 1
  `);
  return rows.map(({ name }) => name);
}
