import type { Knex } from 'knex';

/** A shop, as an application written with knex would build it up. */
export const SHOP: Record<string, Knex.Migration> = {
  '1_customers': {
    async up(knex) {
      await knex.schema.createTable('customers', (table) => {
        table.bigIncrements('id');
        table.string('email', 200).notNullable().unique();
        table.jsonb('address').defaultTo('{}');
        table.enu('level', ['new', 'gold'], { useNative: true, enumName: 'customer_level' });
        table.timestamps(true, true);
        table.comment('Who buys');
      });
      await knex.raw(
        'CREATE INDEX customers_lower ON customers (lower(email)); CREATE SCHEMA shop',
      );
    },
    async down(knex) {
      await knex.schema.dropTable('customers');
      await knex.raw('DROP TYPE customer_level; DROP SCHEMA shop');
    },
  },
  '2_orders': {
    async up(knex) {
      await knex.schema.withSchema('shop').createTable('orders', (table) => {
        table.uuid('id').primary().defaultTo(knex.raw('gen_random_uuid()'));
        table
          .bigInteger('customer_id')
          .references('id')
          .inTable('public.customers')
          .onDelete('CASCADE')
          .index();
        table.decimal('total', 12, 2).checkPositive();
        table.specificType('tags', 'text[]');
        table.index(['total'], 'orders_total', { indexType: 'btree' });
      });
      await knex('customers').insert([{ email: 'a@example.org' }, { email: 'b@example.org' }]);
      await knex.schema.createView('rich', (view) => {
        view.columns(['email']);
        view.as(knex('customers').select('email').where('level', 'gold'));
      });
    },
    async down(knex) {
      await knex.schema.dropView('rich');
      await knex('customers').del();
      await knex.schema.withSchema('shop').dropTable('orders');
    },
  },
  '3_changes': {
    async up(knex) {
      await knex.schema.alterTable('customers', (table) => {
        table.string('name').defaultTo('');
        table.timestamp('seen_at').notNullable().defaultTo(knex.fn.now());
        table.renameColumn('address', 'home');
        table.setNullable('updated_at');
      });
      await knex.schema.alterTable('customers', (table) => {
        table.text('name').notNullable().alter();
      });
      await knex.schema.withSchema('shop').alterTable('orders', (table) => {
        table.dropColumn('tags');
        table.unique(['customer_id', 'total'], { indexName: 'orders_once' });
      });
    },
    async down(knex) {
      await knex.schema.withSchema('shop').alterTable('orders', (table) => {
        table.dropUnique(['customer_id', 'total'], 'orders_once');
        table.specificType('tags', 'text[]');
      });
      await knex.schema.alterTable('customers', (table) => {
        table.dropNullable('updated_at');
        table.renameColumn('home', 'address');
        table.dropColumns('name', 'seen_at');
      });
    },
  },
};
