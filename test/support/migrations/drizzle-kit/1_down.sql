-- As made by: drizzle-kit@0.31.11 generate --dialect postgresql
DROP VIEW "public"."novels";--> statement-breakpoint
DROP TABLE "books" CASCADE;--> statement-breakpoint
DROP TABLE "readers" CASCADE;--> statement-breakpoint
DROP TYPE "public"."genre";
