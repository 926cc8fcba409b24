import { BdrError } from '../base/errors.ts';
import type { Node, NodeId, NodeStatus } from '../model/node.ts';
import type { Session } from '../postgres/session.ts';

/** bdr.bdr_local_node: which node this database is, and how its join goes. */
export interface LocalNode {
  readonly id: NodeId;
  /** Which call of create or join made it: tells apart what was asked before and after a refusal, or before and after a removal. */
  readonly call: string;
  readonly applyPaused: boolean;
  readonly joinStep: string | null;
  readonly joinError: JoinError | null;
  readonly joinState: Record<string, unknown>;
}

/** Why a join does not go on, as bdr_node_join_wait_for_ready() raises it. */
export interface JoinError {
  readonly message: string;
  readonly detail: string | null;
  readonly hint: string | null;
  readonly sqlstate: string;
  readonly retry: boolean;
  /** No failure: the join waits for its turn. */
  readonly waiting?: boolean;
  readonly failures: number;
}

/** How far a join step has come. `text` is for people. */
export interface JoinProgress {
  readonly text: string;
  readonly rows?: number;
  readonly bytes?: number;
  readonly percent?: number;
  readonly secondsLeft?: number | null;
}

/** Who a database is as a node, whether BDR is active in it or not. */
export async function readNodeIdentity(session: Session): Promise<NodeId> {
  const [row] = await session.query<{ sysid: string; timeline: string; dboid: string }>(
    /* sql */ `SELECT sysid, timeline, dboid FROM bdr.bdr_get_local_nodeid()`,
  );
  return { sysid: row?.sysid ?? '', timeline: Number(row?.timeline), dboid: Number(row?.dboid) };
}

/** The local node; undefined when BDR is not active, or this database is only a copy of the node's. */
export async function readLocalNode(session: Session): Promise<LocalNode | undefined> {
  const [row] = await session.query<{
    sysid: string;
    timeline: string;
    dboid: string;
    call: string;
    paused: string;
    step: string | null;
    error: string | null;
    state: string | null;
  }>(/* sql */ `
    SELECT l.node_sysid AS sysid, l.node_timeline AS timeline, l.node_dboid AS dboid, l.created_at AS call,
           l.apply_paused AS paused, l.join_step AS step, l.join_error AS error, l.join_state AS state
    FROM bdr.bdr_local_node AS l
    JOIN pg_database AS d ON d.oid = l.node_dboid AND d.datname = current_database()
  `);
  if (!row) return undefined;
  return {
    id: { sysid: row.sysid, timeline: Number(row.timeline), dboid: Number(row.dboid) },
    call: row.call,
    applyPaused: row.paused === 't',
    joinStep: row.step,
    joinError: row.error === null ? null : (JSON.parse(row.error) as JoinError),
    joinState: row.state === null ? {} : (JSON.parse(row.state) as Record<string, unknown>),
  };
}

/** All nodes of the group as this database knows them, with their default connections. */
export async function readNodes(session: Session): Promise<Node[]> {
  const rows = await session.query<{
    sysid: string;
    timeline: string;
    dboid: string;
    status: NodeStatus;
    name: string;
    sequence: string | null;
    dsn: string | null;
    local_dsn: string | null;
    init_from: string | null;
    delay: string | null;
    sets: string | null;
    joined_at: string | null;
    error: string | null;
    read_only: string;
  }>(/* sql */ `
    SELECT n.node_sysid AS sysid, n.node_timeline AS timeline, n.node_dboid AS dboid,
           n.node_status AS status, n.node_name AS name, n.node_seq_id AS sequence, n.node_joined_at AS joined_at,
           n.node_local_dsn AS local_dsn, n.node_init_from_dsn AS init_from, n.node_error AS error,
           coalesce(n.node_read_only, false) AS read_only,
           c.conn_dsn AS dsn, c.conn_apply_delay AS delay, to_json(c.conn_replication_sets)::text AS sets
    FROM bdr.bdr_nodes AS n
    LEFT JOIN bdr.bdr_connections AS c
      ON (c.conn_sysid, c.conn_timeline, c.conn_dboid) = (n.node_sysid, n.node_timeline, n.node_dboid)
     AND c.conn_origin_sysid = '0'
    ORDER BY n.node_seq_id NULLS LAST, n.node_name
  `);
  return rows.map((row) => ({
    id: { sysid: row.sysid, timeline: Number(row.timeline), dboid: Number(row.dboid) },
    status: row.status,
    name: row.name,
    sequence: row.sequence === null ? null : Number(row.sequence),
    dsn: row.dsn,
    localDsn: row.local_dsn,
    initFromDsn: row.init_from,
    applyDelayMs: row.delay === null ? null : Number(row.delay),
    replicationSets: row.sets === null ? null : (JSON.parse(row.sets) as string[]),
    joinedAt: row.joined_at,
    error: row.error,
    isReadOnly: row.read_only === 't',
  }));
}

const THE_NODE = '(node_sysid, node_timeline, node_dboid) = ($1, $2::oid, $3::oid)';

function idParams(id: NodeId): [string, number, number] {
  return [id.sysid, id.timeline, id.dboid];
}

/**
 * Sets this node's own status, and clears what its join had to say. Throws when the node was parted meanwhile. The local row is
 * locked first, as everywhere: remove_bdr_from_local_node() does it in this order.
 */
export async function setStatus(session: Session, id: NodeId, status: NodeStatus): Promise<void> {
  await session.transaction(async () => {
    await session.run(/* sql */ `
      UPDATE bdr.bdr_local_node SET join_error = NULL, join_progress = NULL
    `);
    const changed = await session.run(
      /* sql */ `
        UPDATE bdr.bdr_nodes SET node_status = $4, node_error = NULL WHERE ${THE_NODE} AND node_status <> 'k'
      `,
      [...idParams(id), status],
    );
    if (changed === 0) throw partedError();
  });
}

/** What a node says that finds itself parted. */
export function partedError(): BdrError {
  return new BdrError('invalid_membership', {
    message: 'this node was parted from the group',
    hint: 'SELECT bdr.remove_bdr_from_local_node(); then join again, from an empty database.',
  });
}

/** Makes the first node of a group ready. */
export async function makeFirstNode(session: Session, id: NodeId): Promise<void> {
  await session.run(
    /* sql */ `
      UPDATE bdr.bdr_nodes
      SET node_status = 'r', node_seq_id = 1, node_joined_at = clock_timestamp(), node_error = NULL
      WHERE ${THE_NODE} AND node_status = 'b'
    `,
    idParams(id),
  );
}

/** Writes columns of the local row that tell how the join goes, unless it was called anew meanwhile: that call has a row of its own. */
async function updateJoin(
  session: Session,
  call: string,
  assignments: string,
  params: readonly (string | null)[],
): Promise<void> {
  const changed = await session.run(
    /* sql */ `UPDATE bdr.bdr_local_node SET ${assignments} WHERE created_at = $1`,
    [call, ...params],
  );
  if (changed === 1) return;
  throw new BdrError('invalid_membership', {
    message: 'this join was given up: BDR was removed from this node, or the join was called anew',
  });
}

export async function setJoinStep(session: Session, call: string, step: string): Promise<void> {
  await updateJoin(session, call, 'join_step = $2, join_progress = NULL', [step]);
}

export async function setJoinProgress(
  session: Session,
  call: string,
  progress: JoinProgress,
): Promise<void> {
  await updateJoin(session, call, 'join_progress = $2', [JSON.stringify(progress)]);
}

/** What the join must remember. Once it remembers something, it cannot be called anew: so its error is forgotten with the same write. */
export async function setJoinState(session: Session, call: string, state: object): Promise<void> {
  await updateJoin(session, call, 'join_state = $2, join_error = NULL', [JSON.stringify(state)]);
}

/** Shows why the join does not go on, here and, as one line, in bdr_nodes. */
export async function setJoinError(
  session: Session,
  id: NodeId,
  call: string,
  error: JoinError,
): Promise<void> {
  await session.transaction(async () => {
    await updateJoin(
      session,
      call,
      `join_error = $2::jsonb || jsonb_build_object('at', clock_timestamp())`,
      [JSON.stringify(error)],
    );
    await session.run(
      /* sql */ `
        UPDATE bdr.bdr_nodes SET node_error = $4 WHERE ${THE_NODE} AND node_error IS DISTINCT FROM $4
      `,
      [...idParams(id), error.message],
    );
  });
}

/** Marks this node as parted: told by a peer, because the change itself can no longer arrive. */
export async function markSelfParted(session: Session, id: NodeId): Promise<void> {
  await session.run(
    /* sql */ `UPDATE bdr.bdr_nodes SET node_status = 'k' WHERE ${THE_NODE}`,
    idParams(id),
  );
}

/**
 * On the source of a join, in one transaction: makes the joining node known to the group, with state `i`. Repeating it only
 * brings its name and DSNs up to date. `serverMajor`: of the node's server. `check` sees the group as nobody can change it meanwhile, and throws what forbids the
 * registration. Returns the node's number and when it became known.
 */
export async function registerNode(
  source: Session,
  node: {
    readonly id: NodeId;
    readonly name: string;
    readonly dsn: string;
    readonly localDsn: string | null;
    readonly initFromDsn: string | null;
    readonly applyDelayMs: number | null;
    readonly replicationSets: readonly string[] | null;
  },
  serverMajor: number,
  check: (nodes: readonly Node[]) => void,
): Promise<{ sequence: number; joinedAt: string }> {
  return source.transaction(async () => {
    await source.query('SELECT bdr.internal_lock_membership()');
    check(await readNodes(source));
    // Also of nodes that were parted: what they have numbered is still there.
    const [greatest] = await source.query<{ number: string }>(
      /* sql */ `SELECT coalesce(max(node_seq_id), 0) AS number FROM bdr.bdr_nodes`,
    );
    // A parted node's name may be used again.
    await source.run(
      /* sql */ `DELETE FROM bdr.bdr_nodes WHERE node_name = $4 AND node_status = 'k' AND NOT (${THE_NODE})`,
      [...idParams(node.id), node.name],
    );
    // What an earlier life got from single providers, or they from it.
    await source.run(
      /* sql */ `
        DELETE FROM bdr.bdr_connections
        WHERE ($1, $2::oid, $3::oid) IN (
                (conn_sysid, conn_timeline, conn_dboid), (conn_origin_sysid, conn_origin_timeline, conn_origin_dboid)
            )
          AND conn_origin_sysid <> '0'
          AND NOT EXISTS (SELECT FROM bdr.bdr_nodes WHERE ${THE_NODE} AND node_status <> 'k')
      `,
      idParams(node.id),
    );
    const [registered] = await source.query<{ sequence: string; joined_at: string }>(
      /* sql */ `
        INSERT INTO bdr.bdr_nodes (
            node_sysid, node_timeline, node_dboid, node_status, node_name, node_local_dsn, node_init_from_dsn,
            node_seq_id, node_joined_at, node_server_major
        )
        SELECT $1, $2::oid, $3::oid, 'i', $4, $5, $6,
               coalesce(
                   (SELECT o.node_seq_id FROM bdr.bdr_nodes AS o
                    WHERE (o.node_sysid, o.node_timeline, o.node_dboid) = ($1, $2::oid, $3::oid)
                      -- It can be another's as well: of one that registered elsewhere at the same moment.
                      AND NOT EXISTS (
                          SELECT FROM bdr.bdr_nodes AS a
                          WHERE a.node_seq_id = o.node_seq_id
                            AND (a.node_sysid, a.node_timeline, a.node_dboid) <> ($1, $2::oid, $3::oid)
                      )),
                   $7::smallint + 1
               ),
               clock_timestamp(), $8::smallint
        ON CONFLICT (node_sysid, node_timeline, node_dboid) DO UPDATE
        SET node_status = 'i', node_name = EXCLUDED.node_name, node_local_dsn = EXCLUDED.node_local_dsn,
            node_init_from_dsn = EXCLUDED.node_init_from_dsn, node_seq_id = EXCLUDED.node_seq_id,
            -- A parted node begins another life; one that was just being registered goes on with the same.
            node_joined_at = CASE WHEN bdr_nodes.node_status = 'k' THEN EXCLUDED.node_joined_at ELSE bdr_nodes.node_joined_at END,
            node_error = NULL, node_read_only = false, node_server_major = EXCLUDED.node_server_major
        RETURNING node_seq_id AS sequence, node_joined_at AS joined_at
      `,
      [
        ...idParams(node.id),
        node.name,
        node.localDsn,
        node.initFromDsn,
        greatest?.number ?? '0',
        serverMajor,
      ],
    );
    await source.run(
      /* sql */ `
        INSERT INTO bdr.bdr_connections (
            conn_sysid, conn_timeline, conn_dboid, conn_dsn, conn_apply_delay, conn_replication_sets
        )
        VALUES (
            $1, $2::oid, $3::oid, $4, $5,
            (SELECT array_agg(s.name ORDER BY s.place) FROM json_array_elements_text($6::json) WITH ORDINALITY AS s (name, place))
        )
        ON CONFLICT (
            conn_sysid, conn_timeline, conn_dboid, conn_origin_sysid, conn_origin_timeline, conn_origin_dboid
        ) DO UPDATE
        SET conn_dsn = EXCLUDED.conn_dsn, conn_apply_delay = EXCLUDED.conn_apply_delay,
            conn_replication_sets = EXCLUDED.conn_replication_sets
      `,
      [
        ...idParams(node.id),
        node.dsn,
        node.applyDelayMs,
        JSON.stringify(node.replicationSets ?? []),
      ],
    );
    if (!registered) throw new Error('assertion failed: the registered row was not returned');
    return { sequence: Number(registered.sequence), joinedAt: registered.joined_at };
  });
}

/** Takes over on the joining node what its registration decided. */
export async function adoptRegistration(
  session: Session,
  id: NodeId,
  registration: { sequence: number; joinedAt: string },
): Promise<void> {
  await session.run(
    /* sql */ `
      UPDATE bdr.bdr_nodes SET node_status = 'i', node_seq_id = $4, node_joined_at = $5, node_error = NULL
      WHERE ${THE_NODE}
    `,
    [...idParams(id), registration.sequence, registration.joinedAt],
  );
}

/** Holds back every change of membership, those that arrive from peers too, until the transaction ends. */
export async function lockMembership(session: Session): Promise<void> {
  await session.query('SELECT bdr.internal_lock_membership()');
}

/**
 * Whether a subscriber is to be read from here no more: it was parted, or this node was. `overdue`: for longer than `graceS`
 * seconds. Undefined for a live one.
 */
export async function readParting(
  session: Session,
  subscriber: NodeId,
  graceS: number,
): Promise<{ readonly overdue: boolean } | undefined> {
  const [parted] = await session.query<{ overdue: string }>(
    /* sql */ `
        SELECT clock_timestamp() > coalesce(pg_xact_commit_timestamp(xmin), '-infinity') + make_interval(secs => $4) AS overdue
        FROM bdr.bdr_nodes
        WHERE (node_sysid, node_timeline, node_dboid) = ($1, $2::oid, $3::oid) AND node_status = 'k'
        UNION ALL
        -- It was parted, and then its name was given to another node, all while this node did not look.
        SELECT true
        WHERE NOT EXISTS (
            SELECT FROM bdr.bdr_nodes
            WHERE (node_sysid, node_timeline, node_dboid) = ($1, $2::oid, $3::oid)
        )
        UNION ALL
        SELECT true FROM bdr.bdr_nodes AS me
        JOIN bdr.bdr_local_node AS l USING (node_sysid, node_timeline, node_dboid)
        WHERE me.node_status = 'k'
      `,
    [...idParams(subscriber), graceS],
  );
  return parted && { overdue: parted.overdue === 't' };
}
