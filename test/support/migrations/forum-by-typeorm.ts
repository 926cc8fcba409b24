import {
  Table,
  TableColumn,
  TableForeignKey,
  TableIndex,
  type MigrationInterface,
  type QueryRunner,
} from 'typeorm';

/** A forum, as an application written with TypeORM would build it up. Names end with a time, as its own do. */
class Users1764000000001 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query('CREATE EXTENSION IF NOT EXISTS "uuid-ossp"');
    await runner.createTable(
      new Table({
        name: 'user',
        columns: [
          {
            name: 'id',
            type: 'uuid',
            isPrimary: true,
            generationStrategy: 'uuid',
            default: 'uuid_generate_v4()',
          },
          { name: 'nick', type: 'varchar', length: '40', isUnique: true },
          { name: 'role', type: 'enum', enum: ['reader', 'editor'], default: `'reader'` },
          { name: 'createdAt', type: 'timestamp with time zone', default: 'now()' },
        ],
      }),
      true,
    );
    await runner.query(`INSERT INTO "user" (nick) VALUES ('ann'), ('bert')`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.dropTable('user');
    await runner.query('DROP EXTENSION "uuid-ossp"');
  }
}

class Posts1764000000002 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.createTable(
      new Table({
        name: 'post',
        columns: [
          {
            name: 'id',
            type: 'bigint',
            isPrimary: true,
            isGenerated: true,
            generationStrategy: 'increment',
          },
          { name: 'authorId', type: 'uuid' },
          { name: 'title', type: 'text' },
          { name: 'words', type: 'tsvector', isNullable: true },
        ],
        checks: [{ name: 'CHK_title', expression: `"title" <> ''` }],
      }),
    );
    await runner.createForeignKey(
      'post',
      new TableForeignKey({
        columnNames: ['authorId'],
        referencedTableName: 'user',
        referencedColumnNames: ['id'],
        onDelete: 'CASCADE',
      }),
    );
    await runner.createIndex(
      'post',
      new TableIndex({ name: 'IDX_title', columnNames: ['title'], where: `"title" <> 'x'` }),
    );
    await runner.addColumn(
      'user',
      new TableColumn({ name: 'seenAt', type: 'timestamptz', default: 'now()' }),
    );
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.dropColumn('user', 'seenAt');
    await runner.dropTable('post', true, true, true);
  }
}

class Changes1764000000003 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.renameColumn('user', 'nick', 'name');
    await runner.changeColumn(
      'post',
      'title',
      new TableColumn({ name: 'title', type: 'varchar', length: '100', default: `'untitled'` }),
    );
    await runner.query(
      `CREATE VIEW "editors" AS SELECT id, name FROM "user" WHERE role = 'editor'`,
    );
    await runner.renameTable('post', 'article');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.renameTable('article', 'post');
    await runner.query('DROP VIEW "editors"');
    await runner.changeColumn('post', 'title', new TableColumn({ name: 'title', type: 'text' }));
    await runner.renameColumn('user', 'name', 'nick');
  }
}

export const FORUM = [Users1764000000001, Posts1764000000002, Changes1764000000003];
