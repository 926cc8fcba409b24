import type { MigrationBuilder } from 'node-pg-migrate';

const ACCOUNTS = { schema: 'bank', name: 'accounts' };
const MOVEMENTS = { schema: 'bank', name: 'movements' };

export function up(pgm: MigrationBuilder): void {
  pgm.createTable(MOVEMENTS, {
    id: { type: 'bigint', primaryKey: true, sequenceGenerated: { precedence: 'ALWAYS' } },
    account: { type: 'integer', notNull: true, references: ACCOUNTS, onDelete: 'RESTRICT' },
    amount: { type: 'numeric(14,2)', notNull: true },
  });
  pgm.createFunction(
    { schema: 'bank', name: 'book' },
    [],
    { returns: 'trigger', language: 'plpgsql', replace: true },
    `BEGIN
       UPDATE bank.accounts SET balance = balance + NEW.amount WHERE id = NEW.account; -- ; "
       RETURN NEW;
     END`,
  );
  pgm.createTrigger(MOVEMENTS, 'book', {
    when: 'AFTER',
    operation: 'INSERT',
    level: 'ROW',
    function: { schema: 'bank', name: 'book' },
  });
  pgm.alterTable(MOVEMENTS, { levelSecurity: 'ENABLE' });
  pgm.createPolicy(MOVEMENTS, 'mine', { command: 'SELECT', using: 'amount <> 0', role: 'PUBLIC' });
  pgm.addTypeValue({ schema: 'bank', name: 'state' }, 'frozen', { before: 'closed' });
  pgm.sql(`INSERT INTO bank.accounts (owner, number) VALUES ('ann', 'DE001'), ('bert', 'DE002');
           INSERT INTO bank.movements (account, amount) SELECT id, 10 FROM bank.accounts;`);
  pgm.createMaterializedView(
    { schema: 'bank', name: 'totals' },
    {},
    'SELECT sum(balance) AS total FROM bank.accounts',
  );
}

export function down(pgm: MigrationBuilder): void {
  pgm.dropMaterializedView({ schema: 'bank', name: 'totals' });
  pgm.dropTable(MOVEMENTS);
  pgm.dropFunction({ schema: 'bank', name: 'book' }, []);
  pgm.sql('DELETE FROM bank.accounts');
}
