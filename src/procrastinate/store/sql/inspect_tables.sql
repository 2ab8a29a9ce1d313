-- Tell whose tables are visible on the search_path: the schema of the table of jobs and, in it, what begins with our
-- name: relations as name:kind, columns as table.column, values of enums as type.value, functions by name.
-- Expects: nothing.
with home as (
  select n.oid, n.nspname
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where c.oid = to_regclass('procrastinate_jobs')
)
select
  (select nspname::text from home),
  array(
    select c.relname || ':' || c.relkind::text
    from pg_class c
    where c.relnamespace = (select oid from home)
      and c.relkind in ('r', 'p', 'v', 'm', 'c')
      and c.relname like 'procrastinate\_%%'
    union all
    select c.relname || '.' || a.attname
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid
    where c.relnamespace = (select oid from home)
      and c.relkind in ('r', 'p')
      and c.relname like 'procrastinate\_%%'
      and a.attnum > 0
      and not a.attisdropped
    union all
    select t.typname || '.' || e.enumlabel
    from pg_enum e
    join pg_type t on t.oid = e.enumtypid
    where t.typnamespace = (select oid from home) and t.typname like 'procrastinate\_%%'
  )
