-- Insert the job of one periodic tick, once whatever the number of workers. The record of the latest tick moves forward
-- in place: whoever comes later, even with an older snapshot, meets the row as it is now and is refused. (A new row for
-- each tick, with the old one deleted, would let a tick pass twice.) A taken queueing lock leaves a row without a job
-- id, and the client undoes the tick.
-- Expects: procrastinate_periodic_defers_unique, procrastinate_jobs_queueing_lock_idx_v1 (arbiter).
with settings as materialized (
  -- Somebody's open transaction may have inserted the same queueing lock: do not wait for it.
  select set_config('lock_timeout', '200ms', true)
),
latest as materialized (
  select id, defer_timestamp
  from procrastinate_periodic_defers
  where task_name = %(task)s and periodic_id = %(periodic_id)s and defer_timestamp is not null
  order by defer_timestamp desc
  limit 1
),
moved as (
  update procrastinate_periodic_defers d
  set defer_timestamp = %(defer_timestamp)s::bigint, job_id = nextval('procrastinate_jobs_id_seq')
  from latest
  cross join settings
  where d.id = latest.id
    and latest.defer_timestamp < %(defer_timestamp)s::bigint
    and d.defer_timestamp < %(defer_timestamp)s::bigint
  returning d.job_id
),
first as (
  insert into procrastinate_periodic_defers (task_name, periodic_id, defer_timestamp, job_id)
  select %(task)s, %(periodic_id)s, %(defer_timestamp)s::bigint, nextval('procrastinate_jobs_id_seq')
  from settings
  where not exists (select from latest)
  on conflict do nothing
  returning job_id
),
tick as (
  select job_id from moved
  union all
  select job_id from first
),
inserted as (
  insert into procrastinate_jobs (id, queue_name, task_name, priority, lock, queueing_lock, args)
  select
    tick.job_id, %(queue)s, %(task)s, %(priority)s::integer, %(lock)s::text, %(queueing_lock)s::text,
    %(args)s::text::jsonb
  from tick
  on conflict (queueing_lock) where status = 'todo' and queueing_lock is not null do nothing
  returning id
),
forgotten as (
  -- Earlier rows are left where other clients, or several workers at the very first tick, wrote one for each tick.
  delete from procrastinate_periodic_defers
  where exists (select from inserted)
    and task_name = %(task)s and periodic_id = %(periodic_id)s and defer_timestamp < %(defer_timestamp)s::bigint
    and id <> all (array(select id from latest))
)
select inserted.id
from tick
left join inserted on inserted.id = tick.job_id
