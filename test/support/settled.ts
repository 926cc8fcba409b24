// What a node still has to do when it has applied everything, asked of its database. Each answers one row with a boolean `done`.

/** Whether the node's own stream has passed position $1: what its users deleted until then is remembered. */
export const HAS_READ_OWN_LOG = /* sql */ `
  SELECT pg_replication_origin_progress(roname, false) >= $1::pg_lsn AS done
  FROM pg_replication_origin WHERE roname ~ '^bdr_\\d+_own$'
`;

/** Whether the node has looked after all deletions of others that are remembered here. */
export const HAS_LOOKED_BELOW = /* sql */ `
  SELECT coalesce(
      (SELECT watermark_at FROM bdr.own_stream) >= (
          SELECT max(t.committed_at)
          FROM bdr.tombstone AS t, bdr.bdr_local_node AS l
          WHERE (t.node_sysid, t.node_timeline, t.node_dboid) <> (l.node_sysid, l.node_timeline, l.node_dboid)
      ), true) AS done
`;

/**
 * Whether no row is left whose long values are to be read again, no index that is to be built, and nothing that is to be told of rows that
 * lost their value in a unique index; `mark` is another one when there has been more to tell. Asked last: what the other two ask for may leave some.
 */
export const HAS_NOTHING_LEFT = /* sql */ `
  SELECT NOT EXISTS (SELECT FROM bdr.lost_value) AND NOT EXISTS (SELECT FROM bdr.outbox)
             AND NOT EXISTS (SELECT FROM bdr.index_build) AS done,
         last_value || ' ' || is_called AS mark
  FROM bdr.outbox_message_id_seq
`;

/** The mark of a node that never had anything to tell. */
export const FIRST_MARK = '1 false';

/**
 * Keeps an idle node from waiting a second for its next heartbeat, and another for its next report: so much in its log looks like work,
 * and its agent looks at once when it is told to. Rests a little, for the agent to do that.
 */
export const STIR = /* sql */ `
  SELECT pg_logical_emit_message(false, 'test', repeat('x', 5000));
  NOTIFY bdr;
  SELECT pg_sleep(0.05)
`;
