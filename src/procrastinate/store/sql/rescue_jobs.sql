-- Take jobs back from dead workers. Each rescue is counted and logged; a job that was rescued too often ends 'failed',
-- for it may be what kills the workers.
-- Expects: idx_procrastinate_jobs_worker_not_null, procrastinate_jobs_queueing_lock_idx_v1.
with settings as materialized (
  -- Somebody's open transaction may have inserted a job with the same queueing lock: give up, and try it again later.
  select set_config('lock_timeout', '200ms', true)
),
stalled as materialized (
  select j.id, j.claims, j.abort_requested
  from procrastinate_jobs j
  left join procrastinate_workers w on w.id = j.worker_id
  where j.status = 'doing'
    and (w.id is null or w.last_heartbeat < now() - make_interval(secs => %(seconds_since_heartbeat)s::float8))
    and j.queueing_lock is null
  order by j.id
  limit %(limit)s
  for no key update of j skip locked
),
-- Those with a queueing lock come last, each alone and in any order: none that must be given up holds up the others.
stalled_alone as materialized (
  select j.id, j.claims, j.abort_requested
  from procrastinate_jobs j
  left join procrastinate_workers w on w.id = j.worker_id
  where j.status = 'doing'
    and (w.id is null or w.last_heartbeat < now() - make_interval(secs => %(seconds_since_heartbeat)s::float8))
    and j.queueing_lock is not null
    and not exists (select from stalled)
  order by random()
  limit 1
  for no key update of j skip locked
),
decided as materialized (
  select
    j.id,
    j.worker_id,
    case
      when s.abort_requested then 'aborted'
      when j.rescues >= %(max_rescues)s::integer then 'failed'
      when exists (select from procrastinate_jobs o where o.queueing_lock = j.queueing_lock and o.status = 'todo')
        then 'failed'
      else 'todo'
    end::procrastinate_job_status as status
  from (select * from stalled union all select * from stalled_alone) s
  cross join settings
  -- The row as it was locked may belong to a later run than the one that the snapshot shows, with a worker that lives.
  join procrastinate_jobs j on j.id = s.id and j.claims = s.claims and j.status = 'doing'
),
rescued as (
  update procrastinate_jobs j
  set
    status = d.status,
    rescues = j.rescues + 1,
    abort_requested = false,
    attempts = j.attempts + case when d.status = 'todo' then 0 else 1 end,
    attempted_at = case when d.status <> 'todo' then j.attempted_at end,
    finalized_at = case when d.status <> 'todo' then now() end,
    attempts_log = procrastinate_log_attempt_v1(
      j.attempts_log,
      jsonb_build_object(
        'number', j.attempts + 1, 'started_at', j.attempted_at, 'ended_at', now(),
        'worker_id', j.worker_id,
        'event', case d.status when 'todo' then 'deferred_for_retry' else d.status::text end,
        'reason', case
          when d.status = 'failed' and j.rescues >= %(max_rescues)s::integer
            then 'the worker died, and so did those of the ' || j.rescues || ' runs before'
          when d.status = 'failed' then 'the worker died, and another job with this queueing lock is waiting'
          else 'the worker died'
        end
      ) || case when d.status = 'todo' then '{}' else jsonb_build_object('final', true) end
    )
  from decided d
  where j.id = d.id
  returning j.id, j.task_name, j.queue_name, j.status, j.lock, d.worker_id
),
notified as materialized (
  select procrastinate_notify_ready_v1(ready.queue_name, ready.job_id)
  from (select queue_name, min(id) as job_id from rescued where status = 'todo' group by queue_name) as ready
)
select id, task_name, queue_name, status::text, lock, worker_id, (select count(*) from notified)
from rescued
