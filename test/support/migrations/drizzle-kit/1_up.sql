-- As made by: drizzle-kit@0.31.11 generate --dialect postgresql
CREATE TYPE "public"."genre" AS ENUM('novel', 'poem');--> statement-breakpoint
CREATE TABLE "books" (
	"id" integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "books_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 2147483647 START WITH 1000 CACHE 1),
	"title" text NOT NULL,
	"kind" "genre" DEFAULT 'novel',
	"tags" text[] DEFAULT '{}' NOT NULL,
	CONSTRAINT "books_titled" CHECK ("books"."title" <> '')
);
--> statement-breakpoint
CREATE TABLE "readers" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"since" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE INDEX "books_kind" ON "books" USING btree ("kind","title");--> statement-breakpoint
CREATE UNIQUE INDEX "readers_name" ON "readers" USING btree (lower("name"));--> statement-breakpoint
CREATE VIEW "public"."novels" AS (select "id", "title" from "books" where "books"."title" <> '');
