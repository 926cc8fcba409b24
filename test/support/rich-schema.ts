/** Roles of the schema below; a server has them once. */
export const RICH_ROLES = /* sql */ `
create role "Röle ""x""";
create role reader;
create role policy_reader;
create role default_reader;
create role column_writer;
create role idle;
`;

const TOC_LOOKALIKE = `
--
-- Name: evil; Type: EXTENSION; Schema: -; Owner: -
--

DROP SCHEMA public;

--
-- PostgreSQL database dump complete
--
`;

/** One of everything that a user's schema may hold and pg_dump must carry, on any major from 14 on. */
export const RICH_SCHEMA = /* sql */ `
create extension hstore;
create schema "Größe 🐘; -- x" authorization "Röle ""x""";
create schema ext;
create extension citext with schema ext;
create extension btree_gist;
comment on schema ext is 'for ''extensions''
SET default_tablespace = '''';';

create type mood as enum ('sad', 'it''s ok', $$a\\b$$);
create type pair as (a int, b text);
create type span as range (subtype = float8);
create domain positive as int check (value > 0) default 1;
comment on domain positive is '${TOC_LOOKALIKE}';
create sequence counter start 5 increment 3;

create function tricky(int) returns text language plpgsql as $f$
declare x text := $$ inner ; ' " $$;
begin${TOC_LOOKALIKE}
  -- a comment with a quote: ' and $$
  return 'it''s; ' || E'\\'' || $1; /* " */
end $f$;
create function old_quotes() returns text language sql as 'select ''a'' || E''\\\\'' || ''${TOC_LOOKALIKE}''';
create function "$odd$name$"(a int, out b text) language sql as $_$ select '$$ $_x$' || a $_$;
create function atomic(a int) returns int language sql begin atomic; select a + 1; select a * 2; end;
create procedure proc() language plpgsql as $$ begin commit; end $$;
create aggregate total(int) (sfunc = int4pl, stype = int, initcond = '0');
create operator <+> (leftarg = int, rightarg = int, function = int4pl);
alter function tricky(int) owner to "Röle ""x""";

create table "Größe 🐘; -- x"."Tabelle; Type: VIEW" (
  id bigint generated always as identity primary key,
  "spälte ""q""" text default '--
-- Name: no; Type: TABLE; Schema: a; Owner: b
--' not null,
  h hstore,
  c ext.citext unique,
  p positive,
  m mood[] default '{sad}',
  twice int generated always as (id * 2) stored,
  during tstzrange,
  constraint "chk; '" check (p < 100),
  exclude using gist (p with =, during with &&)
);
alter table "Größe 🐘; -- x"."Tabelle; Type: VIEW" owner to "Röle ""x""";
create table child (
  id serial primary key,
  parent bigint references "Größe 🐘; -- x"."Tabelle; Type: VIEW" on delete cascade deferrable,
  doc jsonb,
  note text collate "C"
);
create table kin () inherits (child);
create unlogged table fleeting (v pair);
create index on child ((lower(note)) text_pattern_ops) where parent is not null;
create index child_doc on child using gin (doc jsonb_path_ops);
create statistics child_stats (dependencies) on parent, note from child;
alter table child replica identity full;
alter table child alter column note set statistics 500, alter column note set storage external;
create table parts (k int not null, at date not null, primary key (k, at)) partition by range (at);
create table parts_1 partition of parts for values from ('2020-01-01') to ('2021-01-01');
create table parts_rest partition of parts default partition by hash (k);
create table parts_rest_0 partition of parts_rest for values with (modulus 1, remainder 0);
create index on parts (k);

create view looks as select c.id, t.m, 'a;
--
-- Name: x' as t from child c left join "Größe 🐘; -- x"."Tabelle; Type: VIEW" t on t.id = c.parent;
create materialized view mv1 as select count(*) as n from looks;
create materialized view mv2 as select n + 1 as n from mv1;
create materialized view mv_empty as select 1 as one with no data;
create unique index on mv1 (n);
comment on materialized view mv1 is E'back\\\\slash';
create rule no_delete as on delete to child where old.id < 0 do instead nothing;

create function touch() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger child_touch before update of note on child for each row when (old.note is distinct from new.note) execute function touch();
alter table child disable trigger child_touch;
create constraint trigger late after insert on parts deferrable initially deferred for each row execute function touch();
create function watch_ddl() returns event_trigger language plpgsql as $$ begin end $$;
create event trigger watch on ddl_command_end when tag in ('CREATE TABLE') execute function watch_ddl();
create event trigger bdr_own on ddl_command_end when tag in ('CREATE VIEW') execute function watch_ddl();
comment on event trigger bdr_own is 'of bdr';

alter table child enable row level security;
create policy own on child for select to policy_reader, "Röle ""x""" using (note = 'a') ;
create policy rest on child as restrictive with check (true);
grant select on child to reader with grant option;
grant update (note) on child to column_writer;
grant usage on schema "Größe 🐘; -- x" to public;
revoke execute on function touch() from public;
alter default privileges for role "Röle ""x""" in schema ext grant select on tables to default_reader;
create text search configuration german2 (copy = german);
create publication pub for all tables;
comment on table child is 'end';
comment on constraint child_parent_fkey on child is 'fk';

create schema bdr;
create schema bdr_guard;
create table bdr.own (id int);
alter table bdr.own owner to idle;
`;

/** What only 18 has; older majors refuse each. */
export const RICH_SCHEMA_18 = /* sql */ `
create table virtual_column (a int, b int generated always as (a + 1) virtual);
create table no_inherit (a int not null no inherit);
create table not_enforced (a int, constraint positive check (a > 0) not enforced);
create table temporal (id int4range, during tsrange, primary key (id, during without overlaps));
create table later (a int);
alter table later add constraint later_nn not null a not valid;
create table inherited_nn (constraint own_name not null a) inherits (later);
`;
