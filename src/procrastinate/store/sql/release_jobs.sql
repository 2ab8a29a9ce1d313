-- Give back claimed jobs that were never started: no attempt is spent. Fenced and written as finish_jobs is.
-- A job that somebody asked to abort meanwhile ends 'aborted'; one whose queueing lock was taken meanwhile is
-- cancelled.
-- Expects: the primary key, procrastinate_jobs_queueing_lock_idx_v1.
with settings as materialized (
  -- Nobody's transaction may block a worker: give up on a row that somebody holds, and try it again later.
  select set_config('lock_timeout', '200ms', true)
),
claim as (
  select * from unnest((select %(ids)s::bigint[]), (select %(tokens)s::integer[])) as v (id, token)
),
-- Decided on the rows as they are once they are locked: somebody may be asking for an abort just now.
locked as materialized (
  select c.*, j.abort_requested, j.queueing_lock
  from claim c
  cross join settings
  join procrastinate_jobs j on j.id = c.id
  where coalesce(j.status = 'doing' and j.worker_id = %(worker_id)s and j.claims = c.token, false)
  for no key update of j
),
held as materialized (
  select
    c.*,
    case
      when c.abort_requested then 'aborted'
      when c.queueing_lock is not null and (
        exists (select from procrastinate_jobs o where o.queueing_lock = c.queueing_lock and o.status = 'todo')
        or row_number() over (partition by c.queueing_lock, c.abort_requested order by c.id) > 1
      ) then 'cancelled'
      else 'todo'
    end::procrastinate_job_status as status
  from locked c
),
released as (
  update procrastinate_jobs j
  set
    status = h.status,
    abort_requested = false,
    worker_id = null,
    attempted_at = null,
    finalized_at = case when h.status <> 'todo' then now() end
  from held h
  where j.id = h.id
    and coalesce(j.status = 'doing' and j.worker_id = %(worker_id)s and j.claims = h.token, false)
  returning j.id, j.claims, j.status, j.queue_name
),
notified as materialized (
  select procrastinate_notify_ready_v1(ready.queue_name, ready.job_id)
  from (select queue_name, min(id) as job_id from released where status = 'todo' group by queue_name) as ready
)
select id, claims, (select count(*) from notified)
from released
