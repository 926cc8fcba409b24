/**
 * SQL that lists, in a database that is going to be dumped, every role that its schema needs on the target: owners of user
 * objects, grantees and grantors of privileges on them, roles of policies, of default privileges and of user mappings. One
 * column, `role`; PUBLIC is left out. Nothing of schema bdr counts.
 *
 * What initdb or an extension made counts only where somebody has changed its privileges since, because only then pg_dump
 * writes them. pg_shdepend would be shorter, but does not know the bootstrap superuser, whose name may differ.
 */
export const requiredRolesSql = /* sql */ `
with
objects (classid, objid, namespace, owner, acl) as (
  select 'pg_namespace'::regclass, oid, oid, nspowner, nspacl from pg_namespace
  union all
  select 'pg_class'::regclass, oid, relnamespace, relowner, relacl
    from pg_class where relkind in ('r', 'p', 'v', 'm', 'f', 'S')
  union all
  select 'pg_class'::regclass, c.oid, c.relnamespace, c.relowner, a.attacl
    from pg_attribute a join pg_class c on c.oid = a.attrelid where a.attacl is not null
  union all
  select 'pg_proc'::regclass, oid, pronamespace, proowner, proacl from pg_proc
  union all
  select 'pg_type'::regclass, t.oid, t.typnamespace, t.typowner, t.typacl
    from pg_type t left join pg_class c on c.oid = t.typrelid
   where (c.oid is null or c.relkind = 'c') -- not the row types of tables
     and not exists (select from pg_type e where e.typarray = t.oid)
  union all
  select 'pg_operator'::regclass, oid, oprnamespace, oprowner, null from pg_operator
  union all
  select 'pg_opclass'::regclass, oid, opcnamespace, opcowner, null from pg_opclass
  union all
  select 'pg_opfamily'::regclass, oid, opfnamespace, opfowner, null from pg_opfamily
  union all
  select 'pg_collation'::regclass, oid, collnamespace, collowner, null from pg_collation
  union all
  select 'pg_conversion'::regclass, oid, connamespace, conowner, null from pg_conversion
  union all
  select 'pg_ts_config'::regclass, oid, cfgnamespace, cfgowner, null from pg_ts_config
  union all
  select 'pg_ts_dict'::regclass, oid, dictnamespace, dictowner, null from pg_ts_dict
  union all
  select 'pg_statistic_ext'::regclass, oid, stxnamespace, stxowner, null from pg_statistic_ext
  union all
  select 'pg_language'::regclass, oid, null, lanowner, lanacl from pg_language
  union all
  select 'pg_foreign_data_wrapper'::regclass, oid, null, fdwowner, fdwacl
    from pg_foreign_data_wrapper
  union all
  select 'pg_foreign_server'::regclass, oid, null, srvowner, srvacl from pg_foreign_server
  union all
  select 'pg_event_trigger'::regclass, oid, null, evtowner, null
    from pg_event_trigger where evtname not like 'bdr%'
  union all
  select 'pg_default_acl'::regclass, oid, nullif(defaclnamespace, 0), defaclrole, defaclacl
    from pg_default_acl
),
judged as (
  select o.*,
         -- made by initdb, or by an extension
         o.objid < 16384 or exists (
           select from pg_depend d
            where d.classid = o.classid and d.objid = o.objid and d.deptype = 'e'
         ) as given
    from objects o
    left join pg_namespace n on n.oid = o.namespace
   where n.nspname is null
      or n.nspname not in ('bdr', 'bdr_guard', 'information_schema')
         and n.nspname !~ '^pg_(toast|temp)'
),
changed as (
  -- The items of a given object's privileges that were not there at first.
  select j.given, j.owner, item
    from judged j, unnest(j.acl) item
   where not j.given
      or not exists (
           select from pg_init_privs p
            where p.classoid = j.classid and p.objoid = j.objid and item = any (p.initprivs)
         )
),
needed (role) as (
  select owner from judged where not given and owner is not null
  union
  select nspowner from pg_namespace
   where nspname = 'public' and nspowner <> 'pg_database_owner'::regrole
  union
  select grantee from changed, aclexplode(array[item])
   where not (given and grantee is not distinct from owner) -- the owner's own, there from the start
  union
  select grantor from changed, aclexplode(array[item]) where grantor is distinct from owner
  union
  select unnest(polroles) from pg_policy p join pg_class c on c.oid = p.polrelid
   where c.relnamespace not in (
     select oid from pg_namespace where nspname in ('bdr', 'bdr_guard')
   )
  union
  select umuser from pg_user_mappings
)
select distinct r.rolname as role from needed join pg_roles r on r.oid = needed.role order by 1
`;
