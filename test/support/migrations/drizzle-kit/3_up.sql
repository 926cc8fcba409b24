-- As made by: drizzle-kit@0.31.11 generate --dialect postgresql
ALTER TYPE "public"."genre" ADD VALUE 'play';--> statement-breakpoint
ALTER SEQUENCE "public"."counter" INCREMENT BY 10 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 5 CACHE 1;--> statement-breakpoint
ALTER TABLE "readers" DISABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "books" DROP CONSTRAINT "books_titled";--> statement-breakpoint
ALTER TABLE "library"."loans" DROP CONSTRAINT "loans_book_books_id_fk";
--> statement-breakpoint
DROP INDEX "library"."loans_open";--> statement-breakpoint
DROP INDEX "readers_name";--> statement-breakpoint
DROP INDEX "books_kind";--> statement-breakpoint
ALTER TABLE "readers" ALTER COLUMN "name" DROP NOT NULL;--> statement-breakpoint
ALTER TABLE "readers" ALTER COLUMN "email" SET DEFAULT 'none';--> statement-breakpoint
ALTER TABLE "readers" ALTER COLUMN "settings" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "readers" ALTER COLUMN "settings" DROP NOT NULL;--> statement-breakpoint
ALTER TABLE "library"."loans" ADD COLUMN "fee" numeric(8, 2) DEFAULT '0' NOT NULL;--> statement-breakpoint
ALTER TABLE "library"."loans" ADD CONSTRAINT "loans_book_books_id_fk" FOREIGN KEY ("book") REFERENCES "public"."books"("id") ON DELETE restrict ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "books_tags" ON "books" USING gin ("tags");--> statement-breakpoint
CREATE INDEX "readers_since" ON "readers" USING btree ("since");--> statement-breakpoint
CREATE INDEX "books_kind" ON "books" USING btree ("kind");--> statement-breakpoint
ALTER TABLE "books" DROP COLUMN "size";--> statement-breakpoint
ALTER TABLE "library"."loans" ADD CONSTRAINT "loans_fee" CHECK ("library"."loans"."fee" >= 0);--> statement-breakpoint
CREATE MATERIALIZED VIEW "public"."counted" AS (select "kind", count(*) as "n" from "books" group by "books"."kind");--> statement-breakpoint
DROP POLICY "readers_seen" ON "readers" CASCADE;
