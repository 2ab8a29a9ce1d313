-- Describe what begins with our name in the schema of the table of jobs: one row for each relation, column, constraint,
-- index, trigger, function, type and sequence, with a definition that says the same on every server and in every
-- schema. PostgreSQL prints views differently from version to version: only what all print alike is compared.
-- Expects: nothing.
with home as (
  select
    n.oid,
    n.nspname,
    -- Names come with their schema where that is not on the search_path.
    case when quote_ident(n.nspname) like '"%%' then '' else '\m' end
      || regexp_replace(quote_ident(n.nspname), '(\W)', '\\\1', 'g') || '\.' as prefix
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where c.oid = to_regclass('procrastinate_jobs')
),
relation as (
  select c.*
  from pg_class c
  where c.relnamespace = (select oid from home)
    and c.relkind in ('r', 'p', 'v', 'm')
    and c.relname like 'procrastinate\_%%'
),
described (kind, name, definition) as (
  select
    case r.relkind when 'r' then 'table' when 'v' then 'view' else 'relation of kind ' || r.relkind::text end,
    r.relname::text,
    case r.relkind
      when 'v' then md5(
        regexp_replace(
          lower(regexp_replace(pg_get_viewdef(r.oid), h.prefix, '', 'g')), '\m\w+\.|[\s()]', '', 'g'
        )
      )
      else coalesce((select string_agg(o, ', ' order by o) from unnest(r.reloptions) as o), '')
    end
  from relation r
  cross join home h
  union all
  select
    'column',
    r.relname || '.' || a.attname,
    concat_ws(
      ' ',
      format_type(a.atttypid, a.atttypmod),
      case when a.attnotnull then 'not null' end,
      case when a.attidentity <> '' then 'identity ' || a.attidentity::text end,
      'default ' || pg_get_expr(d.adbin, d.adrelid),
      'with ' || array_to_string(a.attoptions, ', ')
    )
  from relation r
  join pg_attribute a on a.attrelid = r.oid
  left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attnum > 0 and not a.attisdropped
  union all
  select
    'constraint',
    r.relname || '.' || c.conname,
    pg_get_constraintdef(c.oid) || case when c.convalidated then '' else ' (not validated)' end
  from relation r
  join pg_constraint c on c.conrelid = r.oid
  where c.contype in ('c', 'p', 'u', 'f', 'x')
  union all
  select
    'index',
    r.relname || '.' || c.relname,
    pg_get_indexdef(i.indexrelid) || case when i.indisvalid then '' else ' (invalid)' end
  from relation r
  join pg_index i on i.indrelid = r.oid
  join pg_class c on c.oid = i.indexrelid
  union all
  select
    'trigger',
    r.relname || '.' || t.tgname,
    pg_get_triggerdef(t.oid) || case when t.tgenabled = 'O' then '' else ' (enabled: ' || t.tgenabled::text || ')' end
  from relation r
  join pg_trigger t on t.tgrelid = r.oid
  where not t.tgisinternal
  union all
  select
    'function',
    p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
    concat_ws(
      ' ',
      pg_get_function_result(p.oid),
      l.lanname,
      case p.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end,
      case when p.proisstrict then 'strict' end,
      'parallel ' || p.proparallel::text,
      array_to_string(p.proconfig, ', '),
      md5(replace(p.prosrc, '"' || replace(h.nspname, '"', '""') || '".', ''))
    )
  from home h
  join pg_proc p on p.pronamespace = h.oid
  join pg_language l on l.oid = p.prolang
  where p.proname like 'procrastinate\_%%'
  union all
  select
    'type',
    t.typname::text,
    case t.typtype
      when 'e' then (
        select string_agg(e.enumlabel, ', ' order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid
      )
      else (
        select string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' order by a.attnum)
        from pg_attribute a
        where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
      )
    end
  from home h
  join pg_type t on t.typnamespace = h.oid
  left join pg_class c on c.oid = t.typrelid
  where t.typname like 'procrastinate\_%%' and (t.typtype = 'e' or c.relkind = 'c')
  union all
  select
    'sequence',
    c.relname::text,
    concat_ws(
      ' ',
      format_type(s.seqtypid, null),
      case when s.seqcycle then 'cycle' end,
      'of ' || o.relname || '.' || a.attname
    )
  from home h
  join pg_class c on c.relnamespace = h.oid and c.relkind = 'S'
  join pg_sequence s on s.seqrelid = c.oid
  left join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype in ('a', 'i')
  left join pg_class o on o.oid = d.refobjid
  left join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
  where c.relname like 'procrastinate\_%%'
)
select
  d.kind,
  regexp_replace(d.name, h.prefix, '', 'g'),
  regexp_replace(d.definition, h.prefix, '', 'g')
from described d
cross join home h
order by d.kind, d.name
