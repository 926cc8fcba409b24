import { from, to, type CopyStreamQuery, type CopyToStreamQuery } from 'pg-copy-streams';
import type { Session } from './session.ts';

/** The bytes of a `COPY … TO STDOUT`, read as fast as they are taken. */
export function copyTo(session: Session, sql: string): CopyToStreamQuery {
  return session.submit(to(sql));
}

/** A writable for the bytes of a `COPY … FROM STDIN`; `rowCount` is set when it has finished. */
export function copyFrom(session: Session, sql: string): CopyStreamQuery {
  return session.submit(from(sql));
}
