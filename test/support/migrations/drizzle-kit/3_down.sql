-- As made by: drizzle-kit@0.31.11 generate --dialect postgresql
ALTER SEQUENCE "public"."counter" INCREMENT BY 5 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 5 CACHE 1;--> statement-breakpoint
ALTER TABLE "readers" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
DROP MATERIALIZED VIEW "public"."counted";--> statement-breakpoint
ALTER TABLE "library"."loans" DROP CONSTRAINT "loans_fee";--> statement-breakpoint
ALTER TABLE "library"."loans" DROP CONSTRAINT "loans_book_books_id_fk";
--> statement-breakpoint
ALTER TABLE "books" ALTER COLUMN "kind" SET DATA TYPE text;--> statement-breakpoint
ALTER TABLE "books" ALTER COLUMN "kind" SET DEFAULT 'novel'::text;--> statement-breakpoint
DROP TYPE "public"."genre";--> statement-breakpoint
CREATE TYPE "public"."genre" AS ENUM('novel', 'poem');--> statement-breakpoint
ALTER TABLE "books" ALTER COLUMN "kind" SET DEFAULT 'novel'::"public"."genre";--> statement-breakpoint
ALTER TABLE "books" ALTER COLUMN "kind" SET DATA TYPE "public"."genre" USING "kind"::"public"."genre";--> statement-breakpoint
DROP INDEX "books_tags";--> statement-breakpoint
DROP INDEX "readers_since";--> statement-breakpoint
DROP INDEX "books_kind";--> statement-breakpoint
ALTER TABLE "readers" ALTER COLUMN "name" SET NOT NULL;--> statement-breakpoint
ALTER TABLE "readers" ALTER COLUMN "email" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "readers" ALTER COLUMN "settings" SET DEFAULT '{"theme":"dark; \"very\""}'::jsonb;--> statement-breakpoint
ALTER TABLE "readers" ALTER COLUMN "settings" SET NOT NULL;--> statement-breakpoint
ALTER TABLE "books" ADD COLUMN "size" integer GENERATED ALWAYS AS (length(title)) STORED;--> statement-breakpoint
ALTER TABLE "library"."loans" ADD CONSTRAINT "loans_book_books_id_fk" FOREIGN KEY ("book") REFERENCES "public"."books"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "loans_open" ON "library"."loans" USING btree ("day" DESC NULLS LAST) WHERE token IS NOT NULL;--> statement-breakpoint
CREATE UNIQUE INDEX "readers_name" ON "readers" USING btree (lower("name"));--> statement-breakpoint
CREATE INDEX "books_kind" ON "books" USING btree ("kind","title");--> statement-breakpoint
ALTER TABLE "library"."loans" DROP COLUMN "fee";--> statement-breakpoint
ALTER TABLE "books" ADD CONSTRAINT "books_titled" CHECK ("books"."title" <> '');--> statement-breakpoint
CREATE POLICY "readers_seen" ON "readers" AS PERMISSIVE FOR SELECT TO public USING (true);
