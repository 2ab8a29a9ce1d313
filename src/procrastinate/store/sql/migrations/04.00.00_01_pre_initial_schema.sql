-- Procrastinate Schema
--
-- A job is one row. Its `status` is what users know; a row with status 'todo' is either ready (`waits_for` is null)
-- or waits for exactly one named thing: 'time' (opened when it is due) or 'lock' (opened when it heads its line and
-- nobody runs under its lock). Workers claim ready rows only, so a claim costs the same whatever else is in the table.
-- Everything is created in the first schema of the search_path.

create type procrastinate_job_status as enum (
  'todo', 'doing', 'succeeded', 'failed', 'cancelled',
  'aborting',  -- legacy, no longer written
  'aborted'
);

create type procrastinate_job_event_type as enum (
  'deferred', 'started', 'deferred_for_retry', 'failed', 'succeeded', 'cancelled',
  'abort_requested', 'aborted', 'scheduled', 'retried'
);

create type procrastinate_job_to_defer_v1 as (
  queue_name varchar,
  task_name varchar,
  priority integer,
  lock text,
  queueing_lock text,
  args jsonb,
  scheduled_at timestamptz
);

create table procrastinate_workers (
  id bigint generated always as identity primary key,
  last_heartbeat timestamptz not null default now(),
  name text,
  started_at timestamptz not null default now(),
  queues text[]  -- which it serves, null for all
) with (fillfactor = 50);  -- heartbeats update in place

create index idx_procrastinate_workers_last_heartbeat on procrastinate_workers (last_heartbeat);

create table procrastinate_jobs (
  id bigserial primary key,
  queue_name varchar(128) not null,
  task_name varchar(128) not null,
  priority integer not null default 0,
  lock text,
  queueing_lock text,
  args jsonb not null default '{}',
  status procrastinate_job_status not null default 'todo',
  scheduled_at timestamptz,
  attempts integer not null default 0,
  abort_requested boolean not null default false,
  worker_id bigint,  -- no foreign key: docs/adr/0008
  waits_for text,
  claims integer not null default 0,   -- times claimed: the fencing token of whoever claimed last
  rescues integer not null default 0,  -- times taken back from a dead worker
  created_at timestamptz not null default now(),
  attempted_at timestamptz,
  abort_requested_at timestamptz,
  finalized_at timestamptz,
  attempts_log jsonb,  -- one object for each attempt that ended in anything but plain success, the latest 50
  constraint check_not_todo_abort_requested check (not (status = 'todo' and abort_requested = true))
) with (
  fillfactor = 90,
  -- The table turns over all the time: vacuum it by small steps, and never take the exclusive lock of a truncation.
  vacuum_truncate = off,
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_insert_scale_factor = 0.2,
  autovacuum_analyze_scale_factor = 0.05
);
-- What the planner assumes without statistics. From statistics of a table whose jobs are all of one queue it concludes
-- that it makes no difference by which index it looks for those of another, and reads the whole table.
alter table procrastinate_jobs alter column queue_name set (n_distinct = 200);

-- The claim reads these two, and only these.
create index procrastinate_jobs_ready_idx_v1 on procrastinate_jobs (priority desc, id)
  where status = 'todo' and waits_for is null;
create index procrastinate_jobs_ready_by_queue_idx_v1 on procrastinate_jobs (queue_name, priority desc, id)
  where status = 'todo' and waits_for is null;
-- The head of a lock's line is the first entry with that lock.
create index procrastinate_jobs_line_idx_v1 on procrastinate_jobs (lock, priority desc, id)
  where status = 'todo' and lock is not null;
-- Locks with sleeping jobs, for the sweep.
create index procrastinate_jobs_parked_idx_v1 on procrastinate_jobs (lock)
  where status = 'todo' and waits_for = 'lock';
create index procrastinate_jobs_due_idx_v1 on procrastinate_jobs (scheduled_at)
  where status = 'todo' and waits_for = 'time';
create index idx_procrastinate_jobs_worker_not_null on procrastinate_jobs (worker_id)
  where status = 'doing';
-- At most one job runs under a lock, at most one waits under a queueing lock.
create unique index procrastinate_jobs_lock_idx_v1 on procrastinate_jobs (lock)
  where status = 'doing' and lock is not null;
create unique index procrastinate_jobs_queueing_lock_idx_v1 on procrastinate_jobs (queueing_lock)
  where status = 'todo' and queueing_lock is not null;

create table procrastinate_periodic_defers (
  id bigserial primary key,
  task_name varchar(128) not null,
  defer_timestamp bigint,
  job_id bigint,
  periodic_id varchar(128) not null default '',
  constraint procrastinate_periodic_defers_unique unique (task_name, periodic_id, defer_timestamp)
);

create index procrastinate_periodic_defers_job_id_fkey_v1 on procrastinate_periodic_defers (job_id);

-- Chores that some worker does now and then: whoever moves `last_run` forward first does it this time.
create table procrastinate_chores (
  name text primary key,
  last_run timestamptz not null
);

create table procrastinate_migrations (
  name text primary key,
  checksum text not null,
  applied_at timestamptz not null default now()
);

-- What happened to each job, in the shape of an event table: unrolled from the job row and its log of attempts.
-- The latest attempt stands in the row's own columns, so a log entry marked "final" would only repeat it.
-- Each run has eight places in the order of ids: 0 it started, 2 an abort was requested, 4 the next run was scheduled,
-- 6 it ended; run 0 is the deferring. A job that is finished without a run counts as cancelled.
create view procrastinate_events as
select
  (j.id << 10) + e.place as id,
  j.id as job_id,
  e.type::procrastinate_job_event_type as type,
  e.at
from procrastinate_jobs j
cross join lateral (
  select jsonb_array_length(coalesce(j.attempts_log, '[]')) + case when j.attempts_log -> -1 ? 'final' then 0 else 1 end
) as latest (run)
cross join lateral (
  select s.place, s.type, s.at
  from jsonb_array_elements(coalesce(j.attempts_log, '[]')) with ordinality as a (entry, run)
  cross join lateral (
    values
      (a.run * 8 - 4, 'scheduled', (a.entry ->> 'scheduled_at')::timestamptz),
      (a.run * 8, 'started', (a.entry ->> 'started_at')::timestamptz),
      (a.run * 8 + 6, a.entry ->> 'event', (a.entry ->> 'ended_at')::timestamptz)
  ) as s (place, type, at)
  where not a.entry ? 'final'
  union all
  values
    (6, 'deferred', j.created_at),
    (latest.run * 8 - 4, 'scheduled', j.scheduled_at),
    (latest.run * 8, 'started', j.attempted_at),
    (latest.run * 8 + 2, 'abort_requested', j.abort_requested_at),
    (
      latest.run * 8 + 6,
      case when j.status in ('succeeded', 'failed') and j.attempted_at is null then 'cancelled' else j.status::text end,
      j.finalized_at
    )
) as e (place, type, at)
where e.at is not null;

-- The channel on which workers of one queue listen. PostgreSQL allows 63 bytes: longer names are replaced by a digest.
create function procrastinate_queue_channel_v1(queue_name text) returns text
language sql immutable strict parallel safe as $$
  select case
    when octet_length(queue_name) <= 40 then 'procrastinate_queue_v1#' || queue_name
    else 'procrastinate_queue_v1#' || md5(queue_name)
  end
$$;

-- Append to a log of attempts, which keeps the latest 50: a job that is retried for ever must not grow for ever.
create function procrastinate_log_attempt_v1(log jsonb, entry jsonb) returns jsonb
language sql immutable parallel safe as $$
  select case
    when entry is null then log
    when jsonb_array_length(coalesce(log, '[]')) >= 50 then (log - 0) || entry
    else coalesce(log, '[]') || entry
  end
$$;

-- Tell the workers of a queue, and those of all queues, that something happened to a job.
create function procrastinate_notify_v1(queue_name text, payload jsonb) returns void
language sql volatile as $$
  select pg_notify('procrastinate_any_queue_v1', payload::text),
         pg_notify(procrastinate_queue_channel_v1(queue_name), payload::text)
$$;

-- Tell the workers of a queue that a job became ready.
create function procrastinate_notify_ready_v1(queue_name text, job_id bigint) returns void
language sql volatile as $$
  select procrastinate_notify_v1(queue_name, jsonb_build_object('type', 'job_inserted', 'job_id', job_id))
$$;

-- One notification for each statement and queue, however many rows. A notifying commit takes a lock of the whole
-- cluster and holds it until the disk has written, so notifying commits go one after the other. Of those who defer to
-- a queue at the same time, one therefore notifies for all: the one that has the queue's advisory lock. Workers know
-- that others may be committed a moment later. That moment must be short, so only statements take part that are
-- transactions of their own, as the setting says; others always notify.
create function procrastinate_notify_jobs_inserted_v1() returns trigger
language plpgsql as $$
begin
  perform procrastinate_notify_v1(
    i.queue_name,
    jsonb_build_object('type', 'job_inserted', 'job_id', i.job_id, 'scheduled', i.scheduled)
  )
  from (
    select queue_name, waits_for is not null as scheduled, min(id) as job_id
    from inserted
    where status = 'todo'
    group by queue_name, waits_for is not null
  ) as i
  where i.scheduled
    or current_setting('procrastinate.is_alone', true) is distinct from 'on'
    or pg_try_advisory_xact_lock(hashtextextended(i.queue_name, 8080));
  return null;
end
$$;

create trigger procrastinate_jobs_notify_inserted_v1
after insert on procrastinate_jobs
referencing new table as inserted
for each statement execute function procrastinate_notify_jobs_inserted_v1();

-- Deleted jobs leave no dangling reference behind. By statement: a foreign key would cost a lookup for each row.
create function procrastinate_unlink_periodic_defers_v1() returns trigger
language plpgsql as $$
begin
  update procrastinate_periodic_defers d set job_id = null from deleted where d.job_id = deleted.id;
  return null;
end
$$;

create trigger procrastinate_jobs_unlink_periodic_defers_v1
after delete on procrastinate_jobs
referencing old table as deleted
for each statement execute function procrastinate_unlink_periodic_defers_v1();

-- Public SQL API: defer jobs from SQL, triggers or other languages. Returns the ids in the order of the array. A
-- waiting job with the same queueing lock raises unique_violation on procrastinate_jobs_queueing_lock_idx_v1.
create function procrastinate_defer_jobs_v1(jobs procrastinate_job_to_defer_v1[]) returns bigint[]
language sql volatile as $$
  with input as materialized (
    select nextval('procrastinate_jobs_id_seq') as id, j.*
    from (
      select *
      from unnest(jobs) with ordinality as u (
        queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at, position
      )
      order by position
    ) as j
  ),
  inserted as (
    insert into procrastinate_jobs (
      id, queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at, waits_for
    )
    select
      id, queue_name, task_name, coalesce(priority, 0), lock, queueing_lock, coalesce(args, '{}'), scheduled_at,
      case when scheduled_at > now() then 'time' end
    from input
    returning id
  )
  select array_agg(input.id order by input.position)
  from input
  join inserted using (id)
$$;
