-- End runs and put the jobs back to wait. Fenced and written as finish_jobs is.
-- A job whose queueing lock is taken ends 'failed' instead, and so does one that somebody asked to abort: every verdict
-- leaves the row in a defined state. A sibling inserted meanwhile violates the unique index; the client asks again.
-- Expects: the primary key, procrastinate_jobs_queueing_lock_idx_v1.
with settings as materialized (
  -- Nobody's transaction may block a worker: give up on a row that somebody holds, and try it again later.
  select set_config('lock_timeout', '200ms', true)
),
verdict as (
  select *
  from unnest(
    (select %(ids)s::bigint[]),
    (select %(tokens)s::integer[]),
    (select %(retry_at)s::timestamptz[]),
    (select %(priorities)s::integer[]),
    (select %(queues)s::text[]),
    (select %(locks)s::text[]),
    (select %(reports)s::text[])
  ) as v (id, token, retry_at, priority, queue_name, lock, report)
),
-- Decided on the rows as they are once they are locked: somebody may be asking for an abort just now.
locked as materialized (
  select v.*, j.abort_requested, j.queueing_lock
  from verdict v
  cross join settings
  join procrastinate_jobs j on j.id = v.id
  where coalesce(j.status = 'doing' and j.worker_id = %(worker_id)s and j.claims = v.token, false)
  for no key update of j
),
held as materialized (
  select
    v.*,
    case
      when v.abort_requested then 'an abort was requested'
      when v.queueing_lock is null then null
      when exists (
        select from procrastinate_jobs o where o.queueing_lock = v.queueing_lock and o.status = 'todo'
      ) or row_number() over (partition by v.queueing_lock, v.abort_requested order by v.id) > 1
      then 'another job with this queueing lock is waiting'
    end as refusal
  from locked v
),
ended as (
  update procrastinate_jobs j
  set
    status = case when h.refusal is null then 'todo' else 'failed' end::procrastinate_job_status,
    attempts = j.attempts + 1,
    abort_requested = false,
    priority = case when h.refusal is null then coalesce(h.priority, j.priority) else j.priority end,
    queue_name = case when h.refusal is null then coalesce(h.queue_name, j.queue_name) else j.queue_name end,
    lock = case when h.refusal is null then coalesce(h.lock, j.lock) else j.lock end,
    scheduled_at = case when h.refusal is null then h.retry_at else j.scheduled_at end,
    waits_for = case when h.refusal is null and h.retry_at > now() then 'time' end,
    attempted_at = case when h.refusal is not null then j.attempted_at end,
    finalized_at = case when h.refusal is not null then now() end,
    attempts_log = procrastinate_log_attempt_v1(
      j.attempts_log,
      coalesce(h.report::jsonb, '{}') || case
        when h.refusal is null then '{}'
        else jsonb_build_object('event', 'failed', 'final', true, 'reason', h.refusal)
      end
    )
  from held h
  where j.id = h.id
    and coalesce(j.status = 'doing' and j.worker_id = %(worker_id)s and j.claims = h.token, false)
  returning j.id, j.claims, j.status, j.queue_name, j.waits_for
),
notified as materialized (
  select procrastinate_notify_ready_v1(ready.queue_name, ready.job_id)
  from (
    select queue_name, min(id) as job_id
    from ended
    where status = 'todo' and waits_for is null
    group by queue_name
  ) as ready
)
select id, claims, status::text, (select count(*) from notified)
from ended
