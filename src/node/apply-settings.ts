/** Settings of every session that writes what nodes send, and what this node's own stream asks for. */
export const APPLY_SETTINGS: Readonly<Record<string, string>> = {
  session_replication_role: 'replica',
  // Durability is followed by the ledger; under synchronous_standby_names anything more than "local" could wait for ever.
  synchronous_commit: 'off',
  // Apply notices a deadlock first, so it is the one that gives way.
  deadlock_timeout: '1ms',
  // Well below the deadlock_timeout of users: apply gives up before it makes one of them a victim.
  lock_timeout: '50ms',
  client_connection_check_interval: '1s',
  check_function_bodies: 'off',
  // The planner would compute what CHECK constraints call, with the rights of apply.
  constraint_exclusion: 'off',
  // Rows are looked up by key, many at once too: reading or hashing a table for that is never right, whatever the planner
  // thinks of one that was just emptied, or of ten thousand keys.
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  enable_seqscan: 'off',
  jit: 'off',
  // What the parameters hold changes nothing then, and to plan a statement costs as much as to write ten rows.
  plan_cache_mode: 'force_generic_plan',
};
