-- As made by: drizzle-kit@0.31.11 generate --dialect postgresql
ALTER TABLE "readers" DISABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "library"."loans" DISABLE ROW LEVEL SECURITY;--> statement-breakpoint
DROP TABLE "library"."loans" CASCADE;--> statement-breakpoint
ALTER TABLE "readers" DROP CONSTRAINT "readers_email_unique";--> statement-breakpoint
ALTER TABLE "books" DROP COLUMN "size";--> statement-breakpoint
ALTER TABLE "readers" DROP COLUMN "email";--> statement-breakpoint
ALTER TABLE "readers" DROP COLUMN "settings";--> statement-breakpoint
DROP POLICY "readers_seen" ON "readers" CASCADE;--> statement-breakpoint
DROP SEQUENCE "public"."counter";--> statement-breakpoint
DROP SCHEMA "library";

