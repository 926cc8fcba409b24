-- The tables, types and grants of schema bdr, version 1.0.
--
-- Names, columns and value lists follow Postgres-BDR 1.0 where it has the object; columns and tables of ours come last and say so.
-- Migrations are numbered, immutable, and run once each; what can be replaced in place stands in ../routines.

CREATE SCHEMA bdr;
COMMENT ON SCHEMA bdr IS 'Multi-master replication: nodes, connections, conflicts and the functions that control them';
GRANT USAGE ON SCHEMA bdr TO PUBLIC;

-- ---------------------------------------------------------------------------------------------------------------------
-- Types
-- ---------------------------------------------------------------------------------------------------------------------

CREATE TYPE bdr.bdr_conflict_type AS ENUM (
    'insert_insert', 'insert_update', 'update_update', 'update_delete', 'delete_delete', 'unhandled_tx_abort'
);

CREATE TYPE bdr.bdr_conflict_resolution AS ENUM (
    'conflict_trigger_skip_change', 'conflict_trigger_returned_tuple',
    'last_update_wins_keep_local', 'last_update_wins_keep_remote',
    'apply_change', 'skip_change', 'unhandled_tx_abort'
);

CREATE TYPE bdr.bdr_conflict_handler_action AS ENUM ('IGNORE', 'ROW', 'SKIP');

-- ---------------------------------------------------------------------------------------------------------------------
-- The group, the same on every node: these tables are published like a user's.
-- ---------------------------------------------------------------------------------------------------------------------

CREATE TABLE bdr.bdr_nodes (
    node_sysid         text     NOT NULL,
    node_timeline      oid      NOT NULL,
    node_dboid         oid      NOT NULL,
    node_status        "char"   NOT NULL,
    node_name          text     NOT NULL,
    node_local_dsn     text,
    node_init_from_dsn text,
    node_read_only     boolean  DEFAULT false,
    node_seq_id        smallint,
    -- Ours: why the node's join does not go on; NULL while all is well.
    node_error         text,
    -- Ours: when the node became known to the group. A node that was removed and joins again is another life of the same identity.
    node_joined_at     timestamptz,
    -- Ours: the major version of its server, for what not every one can do.
    node_server_major  smallint,
    CONSTRAINT bdr_nodes_pkey PRIMARY KEY (node_sysid, node_timeline, node_dboid),
    CONSTRAINT bdr_nodes_node_status_check CHECK (node_status IN ('b', 'i', 'c', 'o', 'r', 'k')),
    CONSTRAINT bdr_nodes_node_name_check CHECK (node_name <> '' AND octet_length(node_name) <= 63)
);
COMMENT ON TABLE bdr.bdr_nodes IS 'The nodes of the group; replicated to all of them';
COMMENT ON COLUMN bdr.bdr_nodes.node_status IS
    'b beginning, i copying initial data, c catching up, o opening, r ready, k parted';
COMMENT ON COLUMN bdr.bdr_nodes.node_name IS
    'Chosen by the user. Unique among live nodes: checked where a node is registered, because a unique index here could stop the links';

CREATE TABLE bdr.bdr_connections (
    conn_sysid             text    NOT NULL,
    conn_timeline          oid     NOT NULL,
    conn_dboid             oid     NOT NULL,
    conn_origin_sysid      text    NOT NULL DEFAULT '0',
    conn_origin_timeline   oid     NOT NULL DEFAULT 0,
    conn_origin_dboid      oid     NOT NULL DEFAULT 0,
    conn_is_unidirectional boolean NOT NULL DEFAULT false,
    conn_dsn               text    NOT NULL,
    conn_apply_delay       integer,
    conn_replication_sets  text[],
    CONSTRAINT bdr_connections_pkey PRIMARY KEY (
        conn_sysid, conn_timeline, conn_dboid, conn_origin_sysid, conn_origin_timeline, conn_origin_dboid
    ),
    CONSTRAINT bdr_connections_conn_apply_delay_check CHECK (conn_apply_delay >= 0),
    CONSTRAINT origin_all_or_none_null CHECK (
        (conn_origin_sysid = '0') = (conn_origin_timeline = 0)
        AND (conn_origin_sysid = '0') = (conn_origin_dboid = 0)
    )
);
COMMENT ON TABLE bdr.bdr_connections IS 'How to reach each node; replicated to all nodes. Row with origin 0 is the default for every reader';

CREATE TABLE bdr.conflict_policy (
    schema_name      text    NOT NULL,
    table_name       text    NOT NULL,
    policy           text    NOT NULL,
    -- For node_priority: names of nodes, the highest first.
    nodes            text[],
    -- pg_class.relreplident where the policy was set first: what is set back when it is taken away.
    replica_identity "char"  NOT NULL,
    CONSTRAINT conflict_policy_pkey PRIMARY KEY (schema_name, table_name),
    CONSTRAINT conflict_policy_policy_check CHECK (
        policy IN ('first_update_wins', 'node_priority', 'update_wins', 'delete_wins', 'handler')
    ),
    CONSTRAINT conflict_policy_nodes_check CHECK ((policy = 'node_priority') = (nodes IS NOT NULL))
);
COMMENT ON TABLE bdr.conflict_policy IS
    'Tables whose conflicts are not resolved by last_update_wins; replicated to all nodes. Written by bdr_set_conflict_policy()';

CREATE TABLE bdr.bdr_conflict_handlers (
    ch_name      name                  NOT NULL,
    ch_type      bdr.bdr_conflict_type NOT NULL,
    -- Names and not OIDs, as in BDR: the rows are the same on every node.
    ch_schema    text                  NOT NULL,
    ch_table     text                  NOT NULL,
    ch_fun       text                  NOT NULL,
    ch_timeframe interval,
    CONSTRAINT bdr_conflict_handlers_pkey PRIMARY KEY (ch_schema, ch_table, ch_name)
);
COMMENT ON TABLE bdr.bdr_conflict_handlers IS
    'Functions that resolve conflicts; replicated to all nodes. Written by bdr_create_conflict_handler() and bdr_drop_conflict_handler()';

CREATE TABLE bdr.bdr_queued_commands (
    lsn          pg_lsn      NOT NULL,
    queued_at    timestamptz NOT NULL,
    perpetrator  text        NOT NULL,
    command_tag  text        NOT NULL,
    -- What was sent to the server, which may hold other commands beside it: once for those that follow each other in a transaction.
    command      text        NOT NULL,
    search_path  text        DEFAULT '',
    -- BDR has none of the columns that follow. Which command of the text it is, counted as bdr.internal_count_text_command() does, or
    -- inside a function bdr.internal_count_command(); NULL where the text is that of one command.
    "position"   integer,
    -- Where it ran inside a function: `command` is then the call stack from that command on, as PL/pgSQL's PG_CONTEXT shows it; of a function
    -- in SQL its first line, and below it the function's body.
    is_context   boolean     NOT NULL DEFAULT false,
    -- What else decides what it means: settings by name, and the values that ADD COLUMN gave to the rows that there were.
    settings     jsonb       NOT NULL,
    missing      jsonb
);
-- What is old enough to be forgotten.
CREATE INDEX bdr_queued_commands_time ON bdr.bdr_queued_commands (queued_at);
COMMENT ON TABLE bdr.bdr_queued_commands IS
    'Definitions that were changed on some node: a row travels in its place in the stream, and its arrival runs the command; written by event triggers';

CREATE TABLE bdr.index_build (
    build       uuid        NOT NULL DEFAULT gen_random_uuid(),
    queued_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- As in bdr_queued_commands, the command by itself.
    perpetrator text        NOT NULL,
    command     text        NOT NULL,
    search_path text        NOT NULL,
    settings    jsonb       NOT NULL,
    -- As the command names it, quoted; and the index's bare name.
    table_name  text        NOT NULL,
    index_name  text        NOT NULL,
    -- The table of that name when it was noted; NULL for none.
    relation    oid,
    -- Why it has failed last.
    error       text,
    CONSTRAINT index_build_pkey PRIMARY KEY (build)
);
COMMENT ON TABLE bdr.index_build IS
    'Indexes that peers have built concurrently and that this node has still to build; local to the node. Later commands of peers wait for them; a row that is deleted is given up';

CREATE TABLE bdr.bdr_global_locks (
    locktype              text        NOT NULL,
    owning_sysid          text        NOT NULL,
    owning_timeline       oid         NOT NULL,
    owning_datid          oid         NOT NULL,
    owner_created_lock_at pg_lsn,
    -- Who says this: the owner itself, or a node that answers it.
    acquired_sysid        text        NOT NULL,
    acquired_timeline     oid         NOT NULL,
    acquired_datid        oid         NOT NULL,
    acquired_lock_at      pg_lsn,
    state                 text        NOT NULL,
    -- BDR has none of the columns that follow. Which of the owner's locks this is about; rises.
    lock_number           bigint      NOT NULL,
    lock_round            integer     NOT NULL,
    asked_at              timestamptz NOT NULL,
    changed_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Pairs of schema and name; NULL for all tables that are replicated.
    tables                jsonb,
    may_be_majority       boolean     NOT NULL,
    -- In an answer: the numbers of other locks that were known to be released.
    known                 jsonb       NOT NULL DEFAULT '{}',
    -- In the owner's own row: who asks. A virtual transaction id, and in which life of the server.
    owner_pid             integer,
    owner_transaction     text,
    owner_server_start    timestamptz,
    CONSTRAINT bdr_global_locks_pkey PRIMARY KEY (
        owning_sysid, owning_timeline, owning_datid, acquired_sysid, acquired_timeline, acquired_datid
    ),
    CONSTRAINT bdr_global_locks_locktype_check CHECK (locktype IN ('ddl_lock', 'write_lock')),
    CONSTRAINT bdr_global_locks_state_check CHECK (state IN ('asked', 'catchup', 'acquired', 'released'))
);
COMMENT ON TABLE bdr.bdr_global_locks IS
    'Who asks for the global lock, and what every node says to that; replicated to all nodes. Each node''s agent writes its own rows';

CREATE TABLE bdr.sequence_kind (
    schema_name   text   NOT NULL,
    sequence_name text   NOT NULL,
    kind          text   NOT NULL,
    -- For step: by how much every node counts. What a node gives out leaves its number as remainder.
    step          bigint,
    -- For step and local: what is given out from now on is greater.
    above         bigint,
    -- Who owned the sequence where it was converted: another role's sequence of this name is left alone.
    owner_name    name   NOT NULL,
    CONSTRAINT sequence_kind_pkey PRIMARY KEY (schema_name, sequence_name),
    CONSTRAINT sequence_kind_kind_check CHECK (kind IN ('snowflake', 'step', 'local')),
    CONSTRAINT sequence_kind_step_check CHECK ((kind = 'step') = (step IS NOT NULL) AND coalesce(step, 2) BETWEEN 2 AND 32767),
    CONSTRAINT sequence_kind_above_check CHECK ((kind = 'snowflake') = (above IS NULL))
);
COMMENT ON TABLE bdr.sequence_kind IS
    'How sequences keep nodes from giving out one value twice; replicated to all nodes. Written by convert_sequence()';
-- Everybody writes about sequences of his own alone.
ALTER TABLE bdr.sequence_kind ENABLE ROW LEVEL SECURITY;
CREATE POLICY owner ON bdr.sequence_kind USING (
    EXISTS (
        SELECT FROM pg_catalog.pg_class AS c
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = schema_name AND c.relname = sequence_name AND c.relkind = 'S' AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
    )
);

CREATE TABLE bdr.parted_position (
    -- The parted node, and which of its lives.
    node_sysid        text        NOT NULL,
    node_timeline     oid         NOT NULL,
    node_dboid        oid         NOT NULL,
    node_joined_at    timestamptz,
    -- Its row in bdr_nodes gives way when its name or its database is used again.
    node_name         text        NOT NULL,
    -- Who says so.
    at_sysid          text        NOT NULL,
    at_timeline       oid         NOT NULL,
    at_dboid          oid         NOT NULL,
    -- In the parted node's log: up to there all is applied over there.
    applied_lsn       pg_lsn      NOT NULL,
    -- As bdr_links.changes_lsn; where that is not known, applied_lsn.
    changes_lsn       pg_lsn      NOT NULL,
    applied_commit_at timestamptz,
    CONSTRAINT parted_position_pkey PRIMARY KEY (node_sysid, node_timeline, node_dboid, at_sysid, at_timeline, at_dboid)
);
COMMENT ON TABLE bdr.parted_position IS
    'How far each node had come in a parted node''s log, replicated to all nodes; bdr_parted_positions says who lacks something';

CREATE TABLE bdr.bdr_replication_set_config (
    set_name          name    NOT NULL,
    replicate_inserts boolean NOT NULL DEFAULT true,
    replicate_updates boolean NOT NULL DEFAULT true,
    replicate_deletes boolean NOT NULL DEFAULT true,
    CONSTRAINT bdr_replication_set_config_pkey PRIMARY KEY (set_name)
);
COMMENT ON TABLE bdr.bdr_replication_set_config IS
    'Which actions a replication set sends; replicated to all nodes. A set without a row sends all of them';

-- ---------------------------------------------------------------------------------------------------------------------
-- This node's own: never replicated.
-- ---------------------------------------------------------------------------------------------------------------------

CREATE TABLE bdr.table_replication_sets (
    -- By OID, as BDR's security labels: the sets go with the table when it is renamed. Commands carry them to the other nodes.
    relation oid    NOT NULL,
    sets     text[] NOT NULL,
    CONSTRAINT table_replication_sets_pkey PRIMARY KEY (relation)
);
COMMENT ON TABLE bdr.table_replication_sets IS
    'Tables that were given replication sets, and which; without a row a table is in the set default. Written by table_set_replication_sets()';

CREATE TABLE bdr.table_row_filter (
    relation oid  NOT NULL,
    set_name text NOT NULL,
    -- As the server gives it back: what is published is compared with it.
    filter   text NOT NULL,
    CONSTRAINT table_row_filter_pkey PRIMARY KEY (relation, set_name)
);
COMMENT ON TABLE bdr.table_row_filter IS
    'Which rows of a table a replication set sends; without a row all of them. Written by table_set_row_filter()';

CREATE TABLE bdr.table_local_columns (
    -- Each table by itself, partitions and the tables above them too.
    relation oid    NOT NULL,
    -- By their numbers, which stay when columns are renamed. Of those that were dropped some may be left.
    columns  int2[] NOT NULL,
    CONSTRAINT table_local_columns_pkey PRIMARY KEY (relation),
    CONSTRAINT table_local_columns_is_a_list CHECK (coalesce(array_ndims(columns), 1) = 1)
);
COMMENT ON TABLE bdr.table_local_columns IS
    'Columns of tables whose values stay on each node. Written by table_set_local_columns()';

CREATE TABLE bdr.bdr_local_node (
    -- One row at most.
    singleton      boolean     NOT NULL DEFAULT true,
    node_sysid     text        NOT NULL,
    node_timeline  oid         NOT NULL,
    node_dboid     oid         NOT NULL,
    apply_paused   boolean     NOT NULL DEFAULT false,
    -- How far the join has come; see docs/concepts/join-and-part.md.
    join_step      text,
    join_progress  jsonb,
    join_error     jsonb,
    join_state     jsonb,
    created_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT bdr_local_node_pkey PRIMARY KEY (singleton),
    CONSTRAINT bdr_local_node_singleton_check CHECK (singleton)
);
COMMENT ON TABLE bdr.bdr_local_node IS
    'Which node this database is, fixed when it is created. Apply transactions hold ROW SHARE on it: who locks it EXCLUSIVE holds apply';

CREATE TABLE bdr.message_secret (
    -- One row at most.
    singleton boolean NOT NULL DEFAULT true,
    secret    bytea   NOT NULL,
    CONSTRAINT message_secret_pkey PRIMARY KEY (singleton),
    CONSTRAINT message_secret_singleton_check CHECK (singleton),
    CONSTRAINT message_secret_secret_check CHECK (length(secret) = 32)
);
COMMENT ON TABLE bdr.message_secret IS
    'With what this node signs its messages (DESIGN 3.5), new with each create or join; peers'' agents read it when a link starts';

CREATE TABLE bdr.bdr_links (
    provider_sysid     text        NOT NULL,
    provider_timeline  oid         NOT NULL,
    provider_dboid     oid         NOT NULL,
    -- Which life of the provider this link belongs to: its bdr_nodes.node_joined_at.
    provider_joined_at timestamptz,
    slot_name          name        NOT NULL,
    origin_name        text        NOT NULL,
    -- Where this link began to read, NULL until it is established. Its origin is set to there once, in the same transaction.
    start_lsn          pg_lsn,
    -- A joined node reads from before the copied snapshot: transactions that the snapshot shows are passed over, up to skip_until.
    skip_snapshot      pg_snapshot,
    skip_until         pg_lsn,
    status             text        NOT NULL DEFAULT 'down',
    status_since       timestamptz NOT NULL DEFAULT now(),
    status_error       jsonb,
    apply_pid          integer,
    received_lsn       pg_lsn,
    applied_lsn        pg_lsn,
    -- The end of the last that was applied and more than a heartbeat; at least that, and NULL while it is not known.
    changes_lsn        pg_lsn,
    applied_commit_at  timestamptz,
    applied_at         timestamptz,
    caught_up_at       timestamptz,
    -- The link's watermark: all that the provider committed up to then is applied here.
    watermark_at       timestamptz,
    nr_commit          bigint      NOT NULL DEFAULT 0,
    nr_rollback        bigint      NOT NULL DEFAULT 0,
    nr_insert          bigint      NOT NULL DEFAULT 0,
    nr_insert_conflict bigint      NOT NULL DEFAULT 0,
    nr_update          bigint      NOT NULL DEFAULT 0,
    nr_update_conflict bigint      NOT NULL DEFAULT 0,
    nr_delete          bigint      NOT NULL DEFAULT 0,
    nr_delete_conflict bigint      NOT NULL DEFAULT 0,
    nr_disconnect      bigint      NOT NULL DEFAULT 0,
    -- The transaction that cannot be applied, until it is or was skipped.
    failed_xid         xid,
    failed_commit_lsn  pg_lsn,
    failed_commit_at   timestamptz,
    -- What bdr.skip_changes_upto() asks for, until the link is past it.
    skip_upto_lsn      pg_lsn,
    skip_requested_by  text,
    skip_requested_at  timestamptz,
    CONSTRAINT bdr_links_pkey PRIMARY KEY (provider_sysid, provider_timeline, provider_dboid),
    CONSTRAINT bdr_links_status_check CHECK (status IN ('down', 'connecting', 'streaming', 'paused', 'failed'))
);
COMMENT ON TABLE bdr.bdr_links IS 'What this node reads from each peer, and how that goes; written by the agent about once a second';

CREATE TABLE bdr.bdr_skipped_transactions (
    skip_id            bigint GENERATED ALWAYS AS IDENTITY,
    provider_sysid     text        NOT NULL,
    provider_timeline  oid         NOT NULL,
    provider_dboid     oid         NOT NULL,
    remote_txid        xid         NOT NULL,
    remote_commit_lsn  pg_lsn      NOT NULL,
    remote_commit_time timestamptz NOT NULL,
    -- Rows inserted, updated and deleted, and tables truncated; which tables these were. NULL where the peer cannot send them.
    nr_changes         bigint,
    tables             text[],
    skipped_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    requested_by       text        NOT NULL,
    requested_at       timestamptz NOT NULL,
    CONSTRAINT bdr_skipped_transactions_pkey PRIMARY KEY (skip_id)
);
COMMENT ON TABLE bdr.bdr_skipped_transactions IS
    'Transactions of peers that bdr.skip_changes_upto() kept from being applied here; each is recorded with the position that passes it';

CREATE TABLE bdr.row_version (
    schema_name   text        NOT NULL,
    table_name    text        NOT NULL,
    -- The key's columns by name, as text.
    row_key       jsonb       NOT NULL,
    committed_at  timestamptz NOT NULL,
    node_sysid    text        NOT NULL,
    node_timeline oid         NOT NULL,
    node_dboid    oid         NOT NULL,
    CONSTRAINT row_version_pkey PRIMARY KEY (schema_name, table_name, row_key)
);
COMMENT ON TABLE bdr.row_version IS
    'True versions of rows that a join copied while changes older than them could still be on their way (DESIGN 7); purged afterwards';

CREATE TABLE bdr.tombstone (
    relation      oid         NOT NULL,
    -- Of the key's values, typed: equal for every spelling of one key. NULL where the whole table was truncated.
    key_hash      bigint,
    -- The key's values as text, in the order of their columns' names. NULL where the whole table was truncated.
    row_key       text[],
    committed_at  timestamptz NOT NULL,
    node_sysid    text        NOT NULL,
    node_timeline oid         NOT NULL,
    node_dboid    oid         NOT NULL
);
-- No unique key: a key's tombstone is the greatest of its rows, so that writers need not wait for each other.
CREATE INDEX tombstone_key ON bdr.tombstone (relation, key_hash);
-- What is new, and what is old enough to be forgotten.
CREATE INDEX tombstone_time ON bdr.tombstone (committed_at);
COMMENT ON TABLE bdr.tombstone IS
    'What was deleted, by whom and when, until nobody can send anything older about it (DESIGN 4.4); purged as watermarks pass';

CREATE TABLE bdr.lost_value (
    relation      oid    NOT NULL,
    -- As in bdr.tombstone.
    row_key       text[] NOT NULL,
    -- Of its text.
    key_hash      bigint NOT NULL,
    -- Who wrote the row.
    node_sysid    text   NOT NULL,
    node_timeline oid    NOT NULL,
    node_dboid    oid    NOT NULL
);
-- No unique key, so that writers need not wait for each other: a row may be noted twice.
CREATE INDEX lost_value_key ON bdr.lost_value (relation, key_hash);
CREATE INDEX lost_value_node ON bdr.lost_value (node_sysid, node_timeline, node_dboid, relation);
COMMENT ON TABLE bdr.lost_value IS
    'Rows whose long values are read again from the node that wrote them, because a change came later that these may be of (DESIGN 4.2, rule 9)';

CREATE TABLE bdr.outbox (
    message_id    bigint  GENERATED ALWAYS AS IDENTITY,
    kind          text    NOT NULL,
    relation      oid     NOT NULL,
    -- As in bdr.tombstone.
    row_key       text[]  NOT NULL,
    -- The row's version: microseconds since 2000, and who wrote it.
    commit_time   bigint  NOT NULL,
    node_sysid    text    NOT NULL,
    node_timeline oid     NOT NULL,
    node_dboid    oid     NOT NULL,
    -- A kill stays until this node's own row of that key, if there is one again, is looked after.
    is_sent       boolean NOT NULL DEFAULT false,
    CONSTRAINT outbox_pkey PRIMARY KEY (message_id),
    CONSTRAINT outbox_kind_check CHECK (kind IN ('kill', 'ask'))
);
COMMENT ON TABLE bdr.outbox IS
    'What apply has to tell the peers of rows that lost their value in a unique index (DESIGN 4.2, rule 10); sent by the agent through bdr.kill and bdr.ask';

CREATE TABLE bdr.kill (
    message_id    bigint NOT NULL,
    schema_name   text   NOT NULL,
    table_name    text   NOT NULL,
    -- A JSON array of the key's values as text, in the order of their columns' names. NULL where the whole table was truncated.
    row_key       json,
    commit_time   bigint NOT NULL,
    node_sysid    text   NOT NULL,
    node_timeline oid    NOT NULL,
    node_dboid    oid    NOT NULL,
    -- Users had deleted it while the clock was behind: see bdr.late_deletion. Else the row has lost its value in a unique index.
    is_late       boolean NOT NULL,
    CONSTRAINT kill_pkey PRIMARY KEY (message_id)
);
COMMENT ON TABLE bdr.kill IS
    'Published: the node that inserts a row here says that a row is gone, up to this version; emptied by the same transaction';

CREATE TABLE bdr.ask (LIKE bdr.kill INCLUDING INDEXES);
COMMENT ON TABLE bdr.ask IS
    'Published: asks the node that wrote a row of this version to remove it, and to say so in bdr.kill; emptied by the same transaction';

CREATE TABLE bdr.open_ask (
    relation      oid         NOT NULL,
    -- As in bdr.tombstone.
    row_key       text[]      NOT NULL,
    -- Who was asked.
    node_sysid    text        NOT NULL,
    node_timeline oid         NOT NULL,
    node_dboid    oid         NOT NULL,
    asked_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE bdr.open_ask IS
    'Asks that were sent and may not be answered yet: where the node is parted, this one answers in its stead';

CREATE TABLE bdr.lost_write (
    lost_id       bigint GENERATED ALWAYS AS IDENTITY,
    relation      oid         NOT NULL,
    -- As in bdr.tombstone.
    row_key       text[]      NOT NULL,
    -- This node's row, columns by name as text, and when it was committed; NULL where it had been deleted, by whom is to be found out.
    local_row     json,
    local_time    timestamptz,
    noted_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The change that it lost to.
    remote_change text        NOT NULL,
    node_sysid    text        NOT NULL,
    node_timeline oid         NOT NULL,
    node_dboid    oid         NOT NULL,
    remote_txid   xid         NOT NULL,
    remote_time   timestamptz NOT NULL,
    remote_lsn    pg_lsn      NOT NULL,
    -- Up to when its node had applied this node's writes, at least.
    remote_seen   timestamptz NOT NULL,
    CONSTRAINT lost_write_pkey PRIMARY KEY (lost_id),
    CONSTRAINT lost_write_remote_change_check CHECK (remote_change IN ('insert', 'update', 'delete'))
);
COMMENT ON TABLE bdr.lost_write IS
    'What this node''s users wrote and a concurrent change of a peer has overwritten, until the table''s conflict policy was asked about it';

CREATE TABLE bdr.committed_position (
    origin_name name,
    position    pg_lsn,
    CONSTRAINT committed_position_pkey PRIMARY KEY (origin_name, position)
);
COMMENT ON TABLE bdr.committed_position IS
    'Up to where a transaction that may have said NOTIFY has applied a peer''s changes; the origin follows in a transaction of its own';

CREATE TABLE bdr.own_stream (
    -- One row at most.
    singleton         boolean     NOT NULL DEFAULT true,
    status            text        NOT NULL,
    status_since      timestamptz NOT NULL DEFAULT clock_timestamp(),
    status_error      jsonb,
    applied_lsn       pg_lsn,
    -- Every deletion that was committed here up to then is remembered.
    watermark_at      timestamptz,
    -- Of the heartbeats that were read, that of the greatest clock: the clock, its transaction, and the oldest one that ran then.
    heartbeat_clock   timestamptz,
    heartbeat_xid     xid8,
    heartbeat_xmin    xid8,
    CONSTRAINT own_stream_pkey PRIMARY KEY (singleton),
    CONSTRAINT own_stream_singleton_check CHECK (singleton),
    CONSTRAINT own_stream_status_check CHECK (status IN ('down', 'connecting', 'streaming', 'failed'))
);
COMMENT ON TABLE bdr.own_stream IS
    'How the node reads its own log, from which it learns of local deletions; written by the agent about once a second';

CREATE TABLE bdr.record_mark (
    marked_at   timestamptz NOT NULL,
    ended_below xid8        NOT NULL,
    next_xid    xid8        NOT NULL
);
COMMENT ON TABLE bdr.record_mark IS
    'Moments by which every transaction below an id of this server had ended: how old rows without a commit record are at the least (DESIGN 4.1)';
COMMENT ON COLUMN bdr.record_mark.next_xid IS 'No transaction had this id yet, nor a greater one';

CREATE TABLE bdr.bdr_clock_steps (
    -- The heartbeat that had told the greatest time, and the oldest transaction that ran then.
    heartbeat_xid xid8        NOT NULL,
    oldest_xid    xid8        NOT NULL,
    clock_was     timestamptz NOT NULL,
    clock_is      timestamptz NOT NULL,
    -- It has shown nothing lower in between; NULL where that is not known.
    clock_lowest  timestamptz,
    -- Of the deletions and truncates of users that were committed since, below that time: those that cannot be made again.
    nr_deletions  bigint      NOT NULL DEFAULT 0,
    -- What was written, and deleted, since, below that time, and again once the clock had passed it.
    nr_rewritten  bigint,
    nr_deleted    bigint,
    -- Of what users wrote; then of what peers wrote in the place of it, with which the step is dealt with.
    late_rewritten_at timestamptz,
    rewritten_at  timestamptz,
    CONSTRAINT bdr_clock_steps_pkey PRIMARY KEY (heartbeat_xid)
);
COMMENT ON TABLE bdr.bdr_clock_steps IS
    'When the clock of this node''s server has stepped back, and what was done about it (DESIGN 4.7); may be deleted from once a step is dealt with';

CREATE TABLE bdr.late_deletion (
    late_id       bigint GENERATED ALWAYS AS IDENTITY,
    -- As in bdr.bdr_clock_steps. Without a step there, the commit was only a little late for its heartbeat.
    heartbeat_xid xid8   NOT NULL,
    relation      oid    NOT NULL,
    -- As in bdr.tombstone: NULL where the whole table was truncated. Empty for a row that has no key.
    key_hash      bigint,
    row_key       text[],
    -- When the truncate was made again: rows that were here then are written again.
    again_at      timestamptz,
    CONSTRAINT late_deletion_pkey PRIMARY KEY (late_id)
);
COMMENT ON TABLE bdr.late_deletion IS
    'What users of this node deleted while its clock was behind, to be deleted again once the clock is right (DESIGN 4.7)';

CREATE TABLE bdr.bdr_conflict_history (
    conflict_id                bigint GENERATED BY DEFAULT AS IDENTITY (SEQUENCE NAME bdr.bdr_conflict_history_id_seq),
    local_node_sysid           text        NOT NULL,
    local_conflict_xid         xid         NOT NULL,
    local_conflict_lsn         pg_lsn      NOT NULL,
    local_conflict_time        timestamptz NOT NULL,
    object_schema              text,
    object_name                text,
    remote_node_sysid          text        NOT NULL,
    remote_txid                xid         NOT NULL,
    remote_commit_time         timestamptz NOT NULL,
    remote_commit_lsn          pg_lsn      NOT NULL,
    conflict_type              bdr.bdr_conflict_type NOT NULL,
    conflict_resolution        bdr.bdr_conflict_resolution NOT NULL,
    local_tuple                json,
    remote_tuple               json,
    local_tuple_xmin           xid,
    local_tuple_origin_sysid   text,
    error_message              text,
    error_sqlstate             text,
    error_querystring          text,
    error_cursorpos            integer,
    error_detail               text,
    error_hint                 text,
    error_context              text,
    error_columnname           text,
    error_typename             text,
    error_constraintname       text,
    error_filename             text,
    error_lineno               integer,
    error_funcname             text,
    remote_node_timeline       oid,
    remote_node_dboid          oid,
    local_tuple_origin_timeline oid,
    local_tuple_origin_dboid   oid,
    local_commit_time          timestamptz,
    -- BDR has none of the columns that follow.
    row_key                    json,
    policy                     text        NOT NULL,
    rule                       text        NOT NULL,
    action                     text        NOT NULL,
    certainly_concurrent       boolean     NOT NULL,
    CONSTRAINT bdr_conflict_history_pkey PRIMARY KEY (local_node_sysid, conflict_id),
    CONSTRAINT bdr_conflict_history_error_sqlstate_check CHECK (length(error_sqlstate) = 5),
    CONSTRAINT bdr_conflict_history_action_check CHECK (action IN ('skip', 'insert', 'update', 'delete'))
);
-- What is old enough to be forgotten, and what has happened since some time.
CREATE INDEX bdr_conflict_history_time ON bdr.bdr_conflict_history (local_conflict_time);
COMMENT ON TABLE bdr.bdr_conflict_history IS 'Conflicts that this node resolved, with both rows; local to the node, purged by age (bdr.conflict_history_retention), may be truncated at will';

CREATE TABLE bdr.bdr_schema_migrations (
    migration    integer     NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT bdr_schema_migrations_pkey PRIMARY KEY (migration)
);
COMMENT ON TABLE bdr.bdr_schema_migrations IS 'Which numbered migrations of schema bdr have run here';

-- Which command of the text that a session has sent is being run: sequences, because what they hold for a session outlives a rollback.
-- `command_text` holds when the text was sent, in microseconds since 2000.
CREATE SEQUENCE bdr.command_text MINVALUE -9223372036854775808;
CREATE SEQUENCE bdr.command_position MINVALUE 0;

CREATE TABLE bdr.definition_change (
    change bigint GENERATED ALWAYS AS IDENTITY,
    CONSTRAINT definition_change_pkey PRIMARY KEY (change)
);
COMMENT ON TABLE bdr.definition_change IS
    'Last changes of definitions in this database: what an agent knows of tables it reads again when there is another; local to the node';

-- DSNs hold passwords, and the history holds rows of every table: for the owner and superusers only.
REVOKE ALL ON ALL TABLES IN SCHEMA bdr FROM PUBLIC;
