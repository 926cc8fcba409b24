import type { MigrationBuilder } from 'node-pg-migrate';

const ACCOUNTS = { schema: 'bank', name: 'accounts' };

export function up(pgm: MigrationBuilder): void {
  pgm.addColumns(ACCOUNTS, {
    limit: { type: 'integer', notNull: true, default: 100 },
    checked_at: { type: 'timestamptz', notNull: true, default: pgm.func('now()') },
  });
  // Not together: the rows would be written anew, each node with its own now().
  pgm.addColumns(ACCOUNTS, { twice: { type: 'numeric', expressionGenerated: 'balance * 2' } });
  pgm.renameColumn(ACCOUNTS, 'owner', 'holder');
  pgm.alterColumn(ACCOUNTS, 'number', { notNull: true, comment: 'As on paper' });
  pgm.addConstraint(ACCOUNTS, 'no_closed_money', { check: `state <> 'closed' OR balance = 0` });
  pgm.createView(
    { schema: 'bank', name: 'open_accounts' },
    {},
    `SELECT id, holder FROM bank.accounts WHERE state = 'open'`,
  );
  pgm.grantOnTables({ tables: [ACCOUNTS], privileges: ['SELECT'], roles: ['PUBLIC'] });
}

export function down(pgm: MigrationBuilder): void {
  pgm.revokeOnTables({ tables: [ACCOUNTS], privileges: ['SELECT'], roles: ['PUBLIC'] });
  pgm.dropView({ schema: 'bank', name: 'open_accounts' });
  pgm.dropConstraint(ACCOUNTS, 'no_closed_money');
  pgm.alterColumn(ACCOUNTS, 'number', { allowNull: true });
  pgm.renameColumn(ACCOUNTS, 'holder', 'owner');
  pgm.dropColumns(ACCOUNTS, ['limit', 'checked_at', 'twice']);
}
