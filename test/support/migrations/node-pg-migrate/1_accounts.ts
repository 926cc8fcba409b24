import type { MigrationBuilder } from 'node-pg-migrate';

export function up(pgm: MigrationBuilder): void {
  pgm.createExtension('citext', { ifNotExists: true });
  pgm.createSchema('bank');
  pgm.createType({ schema: 'bank', name: 'state' }, ['open', 'closed']);
  pgm.createDomain({ schema: 'bank', name: 'iban' }, 'text', { check: 'length(VALUE) > 4' });
  pgm.createTable(
    { schema: 'bank', name: 'accounts' },
    {
      id: 'id',
      owner: { type: 'citext', notNull: true },
      number: { type: 'bank.iban', unique: true },
      state: { type: 'bank.state', notNull: true, default: 'open' },
      balance: { type: 'numeric(14,2)', notNull: true, default: 0, check: 'balance >= 0' },
      created_at: { type: 'timestamptz', notNull: true, default: pgm.func('current_timestamp') },
    },
    { comment: 'Money; "quoted" and; so on' },
  );
  pgm.createIndex({ schema: 'bank', name: 'accounts' }, [
    'owner',
    { name: 'created_at', sort: 'DESC' },
  ]);
}

export function down(pgm: MigrationBuilder): void {
  pgm.dropTable({ schema: 'bank', name: 'accounts' });
  pgm.dropDomain({ schema: 'bank', name: 'iban' });
  pgm.dropType({ schema: 'bank', name: 'state' });
  pgm.dropSchema('bank');
  pgm.dropExtension('citext');
}
