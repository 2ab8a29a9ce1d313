-- Make the tables of version 3.4 to 3.10 of the other implementation ours, without rewriting any: new columns are null
-- or have one constant default, and the rest is catalogue. The events wait aside until their history is copied.

do $$
declare
  job_table constant regclass := 'procrastinate_jobs';
  drop_statement text;
begin
  if (select relkind from pg_class where oid = 'procrastinate_events'::regclass) <> 'r' then
    raise exception 'the tables were taken over in the meantime: run the command again'
      using errcode = 'object_not_in_prerequisite_state';
  end if;
  -- What hangs on the tables is looked for in the catalogue: names may differ where a database has a long history.
  for drop_statement in
    select format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass)
    from pg_trigger t
    join pg_proc p on p.oid = t.tgfoid
    where t.tgrelid = job_table
      and not t.tgisinternal
      and p.proname ~ '^procrastinate_(notify_queue|trigger_|unlink_periodic_defers)'
    union all
    select format('alter table %s drop constraint %I', c.conrelid::regclass, c.conname)
    from pg_constraint c
    where c.contype = 'f'
      and c.conrelid = any (
        array['procrastinate_jobs', 'procrastinate_periodic_defers', 'procrastinate_events']::regclass[]
      )
      and c.confrelid = any (array['procrastinate_jobs', 'procrastinate_workers']::regclass[])
  loop
    execute drop_statement;
  end loop;
  for drop_statement in
    select format('drop function %s', p.oid::regprocedure)
    from pg_proc p
    where p.pronamespace = (select relnamespace from pg_class where oid = job_table)
      -- Those that our schema has too are replaced: others may depend on them, or have been granted them.
      and p.proname <> all (array['procrastinate_defer_jobs_v1', 'procrastinate_unlink_periodic_defers_v1'])
      and p.proname ~ (
        '^procrastinate_(defer_jobs?|defer_periodic_job|fetch_job|finish_job|cancel_job|retry_job'
        || '|register_worker|unregister_worker|update_heartbeat|prune_stalled_workers'
        || '|notify_queue|notify_queue_job_inserted|notify_queue_abort_job'
        || '|trigger_function_(status_events_insert|status_events_update|scheduled_events)'
        || '|trigger_(abort_requested|delete|status|scheduled)_events_procedure|unlink_periodic_defers)(_v\d+)?$'
      )
  loop
    execute drop_statement;
  end loop;
end
$$;

alter table procrastinate_workers
  add column name text,
  add column started_at timestamptz not null default now(),
  add column queues text[],
  set (fillfactor = 50);

alter table procrastinate_jobs
  add column waits_for text,
  add column claims integer not null default 0,
  add column rescues integer not null default 0,
  add column created_at timestamptz not null default now(),
  add column attempted_at timestamptz,
  add column abort_requested_at timestamptz,
  add column finalized_at timestamptz,
  add column attempts_log jsonb,
  alter column queue_name set (n_distinct = 200),
  set (
    fillfactor = 90,
    vacuum_truncate = off,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.2,
    autovacuum_analyze_scale_factor = 0.05
  );

-- Those that nothing of ours reads. Of the others, new ones take the place when they are built.
drop index if exists procrastinate_jobs_priority_idx_v1;
drop index if exists procrastinate_jobs_id_lock_idx_v1;
drop index if exists procrastinate_jobs_queue_name_idx_v1;

alter table procrastinate_events rename to procrastinate_old_events;
create index if not exists procrastinate_events_job_id_fkey_v1 on procrastinate_old_events (job_id);

-- What is done, so that an interrupted upgrade goes on where it stopped; for history also how far it came, and for the
-- turn, which of several programs is at it.
create table procrastinate_takeover (
  part text primary key,
  position bigint not null default 0,
  seen_at timestamptz not null default '-infinity'
);

insert into procrastinate_takeover (part, position)
select part, case part when 'last id' then (select coalesce(max(id), 0) from procrastinate_jobs) else 0 end
from unnest(array['tables', 'last id', 'turn', 'history of open jobs', 'history of ended jobs']) as p (part);
