-- What a database of the other implementation has, written down from what can be seen of one: names, types, arguments.
-- The bodies of its functions are made up: the takeover removes or replaces all of them, and never calls one.

create type procrastinate_job_status as enum (
  'todo', 'doing', 'succeeded', 'failed', 'cancelled', 'aborting', 'aborted'
);
create type procrastinate_job_event_type as enum (
  'deferred', 'started', 'deferred_for_retry', 'failed', 'succeeded', 'cancelled', 'abort_requested', 'aborted',
  'scheduled', 'retried'
);
create type procrastinate_job_to_defer_v1 as (
  queue_name varchar, task_name varchar, priority integer, lock text, queueing_lock text, args jsonb,
  scheduled_at timestamptz
);

create table procrastinate_workers (
  id bigint generated always as identity primary key,
  last_heartbeat timestamptz not null default now()
);

-- The order of columns is another one than ours, as it is where a database has gone through years of migrations.
create table procrastinate_jobs (
  id bigserial primary key,
  args jsonb not null default '{}',
  status procrastinate_job_status not null default 'todo',
  scheduled_at timestamptz,
  attempts integer not null default 0,
  queue_name varchar(128) not null,
  task_name varchar(128) not null,
  lock text,
  queueing_lock text,
  priority integer not null default 0,
  abort_requested boolean not null default false,
  worker_id bigint references procrastinate_workers (id) on delete set null,
  constraint check_not_todo_abort_requested check (not (status = 'todo' and abort_requested = true))
);

create table procrastinate_periodic_defers (
  id bigserial primary key,
  task_name varchar(128) not null,
  defer_timestamp bigint,
  job_id bigint references procrastinate_jobs (id),
  periodic_id varchar(128) not null default '',
  constraint procrastinate_periodic_defers_unique unique (task_name, periodic_id, defer_timestamp)
);

create table procrastinate_events (
  id bigserial primary key,
  job_id bigint not null references procrastinate_jobs (id) on delete cascade,
  type procrastinate_job_event_type,
  at timestamptz default now()
);

create unique index procrastinate_jobs_queueing_lock_idx_v1 on procrastinate_jobs (queueing_lock)
  where status = 'todo';
create unique index procrastinate_jobs_lock_idx_v1 on procrastinate_jobs (lock) where status = 'doing';
create index procrastinate_jobs_priority_idx_v1 on procrastinate_jobs (priority desc, id) where status = 'todo';
create index procrastinate_jobs_id_lock_idx_v1 on procrastinate_jobs (id, lock) where status in ('todo', 'doing');
create index procrastinate_jobs_queue_name_idx_v1 on procrastinate_jobs (queue_name);
create index idx_procrastinate_jobs_worker_not_null on procrastinate_jobs (worker_id)
  where worker_id is not null and status = 'doing';
create index procrastinate_events_job_id_fkey_v1 on procrastinate_events (job_id);
create index procrastinate_periodic_defers_job_id_fkey_v1 on procrastinate_periodic_defers (job_id);
create index idx_procrastinate_workers_last_heartbeat on procrastinate_workers (last_heartbeat);

-- Functions that clients call.

create function procrastinate_defer_jobs_v1(jobs procrastinate_job_to_defer_v1[]) returns bigint[]
language plpgsql as $$
declare
  one procrastinate_job_to_defer_v1;
  new_id bigint;
  ids bigint[];
begin
  foreach one in array jobs loop
    insert into procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
    values (one.queue_name, one.task_name, one.priority, one.lock, one.queueing_lock, one.args, one.scheduled_at)
    returning id into new_id;
    ids := ids || new_id;
  end loop;
  return ids;
end
$$;

create function procrastinate_defer_periodic_job_v2(
  _queue_name varchar, _lock varchar, _queueing_lock varchar, _task_name varchar, _priority integer,
  _periodic_id varchar, _defer_timestamp bigint, _args jsonb
) returns bigint language plpgsql as $$ begin return null; end $$;

create function procrastinate_fetch_job_v2(target_queue_names varchar[], p_worker_id bigint)
returns procrastinate_jobs language plpgsql as $$ begin return null; end $$;

create function procrastinate_finish_job_v1(job_id bigint, end_status procrastinate_job_status, delete_job boolean)
returns void language plpgsql as $$ begin end $$;

create function procrastinate_cancel_job_v1(job_id bigint, abort boolean, delete_job boolean)
returns bigint language plpgsql as $$ begin return null; end $$;

create function procrastinate_retry_job_v1(
  job_id bigint, retry_at timestamptz, new_priority integer, new_queue_name varchar, new_lock varchar
) returns void language plpgsql as $$ begin end $$;

create function procrastinate_retry_job_v2(
  job_id bigint, retry_at timestamptz, new_priority integer, new_queue_name varchar, new_lock varchar
) returns void language plpgsql as $$ begin end $$;

create function procrastinate_register_worker_v1() returns table (worker_id bigint)
language plpgsql as $$ begin end $$;

create function procrastinate_unregister_worker_v1(worker_id bigint) returns void
language plpgsql as $$ begin end $$;

create function procrastinate_update_heartbeat_v1(worker_id bigint) returns void
language plpgsql as $$ begin end $$;

create function procrastinate_prune_stalled_workers_v1(seconds_since_heartbeat double precision)
returns table (worker_id bigint) language plpgsql as $$ begin end $$;

-- Functions of triggers: those that journal do so here too, roughly.

create function procrastinate_notify_queue_job_inserted_v1() returns trigger
language plpgsql as $$ begin return null; end $$;

create function procrastinate_notify_queue_abort_job_v1() returns trigger
language plpgsql as $$ begin return null; end $$;

create function procrastinate_trigger_function_status_events_insert_v1() returns trigger
language plpgsql as $$
begin
  insert into procrastinate_events (job_id, type) values (new.id, 'deferred');
  return null;
end
$$;

create function procrastinate_trigger_function_status_events_update_v1() returns trigger
language plpgsql as $$
begin
  insert into procrastinate_events (job_id, type)
  select new.id, t.type::procrastinate_job_event_type
  from (
    values
      ('todo', 'doing', 'started'), ('todo', 'cancelled', 'cancelled'), ('doing', 'todo', 'deferred_for_retry'),
      ('doing', 'failed', 'failed'), ('doing', 'succeeded', 'succeeded'), ('doing', 'aborted', 'aborted'),
      ('failed', 'todo', 'retried')
  ) as t (before, after, type)
  where t.before = old.status::text and t.after = new.status::text;
  return null;
end
$$;

create function procrastinate_trigger_function_scheduled_events_v1() returns trigger
language plpgsql as $$
begin
  insert into procrastinate_events (job_id, type, at) values (new.id, 'scheduled', new.scheduled_at);
  return null;
end
$$;

create function procrastinate_trigger_abort_requested_events_procedure_v1() returns trigger
language plpgsql as $$
begin
  insert into procrastinate_events (job_id, type) values (new.id, 'abort_requested');
  return null;
end
$$;

create function procrastinate_unlink_periodic_defers_v1() returns trigger
language plpgsql as $$
begin
  update procrastinate_periodic_defers set job_id = null where job_id = old.id;
  return old;
end
$$;

create trigger procrastinate_jobs_notify_queue_job_inserted_v1 after insert on procrastinate_jobs
for each row when (new.status = 'todo') execute function procrastinate_notify_queue_job_inserted_v1();
create trigger procrastinate_jobs_notify_queue_job_aborted_v1 after update of abort_requested on procrastinate_jobs
for each row when (new.abort_requested and not old.abort_requested and new.status = 'doing')
execute function procrastinate_notify_queue_abort_job_v1();
create trigger procrastinate_trigger_status_events_insert_v1 after insert on procrastinate_jobs
for each row when (new.status = 'todo') execute function procrastinate_trigger_function_status_events_insert_v1();
create trigger procrastinate_trigger_status_events_update_v1 after update of status on procrastinate_jobs
for each row execute function procrastinate_trigger_function_status_events_update_v1();
create trigger procrastinate_trigger_scheduled_events_v1 after insert or update on procrastinate_jobs
for each row when (new.scheduled_at is not null and new.status = 'todo')
execute function procrastinate_trigger_function_scheduled_events_v1();
create trigger procrastinate_trigger_abort_requested_events_v1 after update of abort_requested on procrastinate_jobs
for each row when (new.abort_requested) execute function procrastinate_trigger_abort_requested_events_procedure_v1();
create trigger procrastinate_trigger_delete_jobs_v1 before delete on procrastinate_jobs
for each row execute function procrastinate_unlink_periodic_defers_v1();
