-- As made by: drizzle-kit@0.31.11 generate --dialect postgresql
CREATE SCHEMA "library";
--> statement-breakpoint
CREATE SEQUENCE "public"."counter" INCREMENT BY 5 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 5 CACHE 1;--> statement-breakpoint
CREATE TABLE "library"."loans" (
	"book" integer NOT NULL,
	"reader" bigint NOT NULL,
	"day" timestamp with time zone DEFAULT now() NOT NULL,
	"token" uuid DEFAULT gen_random_uuid(),
	CONSTRAINT "loans_book_reader_pk" PRIMARY KEY("book","reader")
);
--> statement-breakpoint
ALTER TABLE "readers" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "books" ADD COLUMN "size" integer GENERATED ALWAYS AS (length(title)) STORED;--> statement-breakpoint
ALTER TABLE "readers" ADD COLUMN "email" text;--> statement-breakpoint
ALTER TABLE "readers" ADD COLUMN "settings" jsonb DEFAULT '{"theme":"dark; \"very\""}'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "library"."loans" ADD CONSTRAINT "loans_book_books_id_fk" FOREIGN KEY ("book") REFERENCES "public"."books"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "library"."loans" ADD CONSTRAINT "loans_reader_readers_id_fk" FOREIGN KEY ("reader") REFERENCES "public"."readers"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "loans_open" ON "library"."loans" USING btree ("day" DESC NULLS LAST) WHERE token IS NOT NULL;--> statement-breakpoint
ALTER TABLE "readers" ADD CONSTRAINT "readers_email_unique" UNIQUE("email");--> statement-breakpoint
CREATE POLICY "readers_seen" ON "readers" AS PERMISSIVE FOR SELECT TO public USING (true);
