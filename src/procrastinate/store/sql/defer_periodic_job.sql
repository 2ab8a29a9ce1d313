-- Insert the job of one periodic tick, once whatever the number of workers: the unique constraint decides. A tick at or
-- before the latest one on record is refused, so that a worker that lags behind cannot repeat it after the record of it
-- was dropped. A taken queueing lock leaves a row without a job id, and the client undoes the tick.
-- Expects: procrastinate_periodic_defers_unique, procrastinate_jobs_queueing_lock_idx_v1 (arbiter).
with settings as materialized (
  -- Somebody's open transaction may have inserted the same queueing lock: do not wait for it.
  select set_config('lock_timeout', '2s', true)
),
tick as (
  insert into procrastinate_periodic_defers (task_name, periodic_id, defer_timestamp, job_id)
  select %(task)s::text, %(periodic_id)s::text, %(defer_timestamp)s::bigint, nextval('procrastinate_jobs_id_seq')
  from settings
  where not exists (
    select
    from procrastinate_periodic_defers
    where task_name = %(task)s::text and periodic_id = %(periodic_id)s::text and defer_timestamp >= %(defer_timestamp)s::bigint
  )
  on conflict do nothing
  returning job_id
),
inserted as (
  insert into procrastinate_jobs (id, queue_name, task_name, priority, lock, queueing_lock, args)
  select
    tick.job_id, %(queue)s::text, %(task)s::text, %(priority)s::integer, %(lock)s::text, %(queueing_lock)s::text,
    %(args)s::text::jsonb
  from tick
  on conflict (queueing_lock) where status = 'todo' and queueing_lock is not null do nothing
  returning id
),
forgotten as (
  delete from procrastinate_periodic_defers
  where exists (select from inserted)
    and task_name = %(task)s::text and periodic_id = %(periodic_id)s::text and defer_timestamp < %(defer_timestamp)s::bigint
)
select inserted.id
from tick
left join inserted on inserted.id = tick.job_id
