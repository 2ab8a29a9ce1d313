-- Put a failed or running job back to wait, whoever runs it; the run that goes on is fenced off by its status.
-- A running job that somebody asked to abort ends 'failed'. Answers the queueing lock if a waiting sibling holds it.
-- Expects: the primary key, procrastinate_jobs_queueing_lock_idx_v1.
with target as materialized (
  select * from procrastinate_jobs where id = %(job_id)s for no key update
),
decided as materialized (
  select
    t.*,
    t.status = 'failed' or (t.status = 'doing' and not %(only_failed)s::boolean) as valid,
    t.status = 'doing' and t.abort_requested and not %(only_failed)s::boolean as fails,
    exists (
      select from procrastinate_jobs o where o.queueing_lock = t.queueing_lock and o.status = 'todo'
    ) as taken
  from target t
),
failed as (
  update procrastinate_jobs
  set status = 'failed', abort_requested = false, finalized_at = now()
  where id = any (array(select id from decided where fails))
  returning id
),
-- The latest attempt moves from the row's columns to the log; where the log has it, it is final no longer.
retried as (
  update procrastinate_jobs j
  set
    status = 'todo',
    attempts = j.attempts + 1,
    abort_requested = false,
    priority = coalesce(%(priority)s::integer, j.priority),
    queue_name = coalesce(%(queue)s::text, j.queue_name),
    lock = coalesce(%(lock)s::text, j.lock),
    scheduled_at = %(retry_at)s::timestamptz,
    waits_for = case when %(retry_at)s::timestamptz > now() then 'time' end,
    attempted_at = null,
    finalized_at = null,
    attempts_log = case
      when d.status = 'doing' then procrastinate_log_attempt_v1(
        j.attempts_log,
        jsonb_build_object(
          'number', j.attempts + 1, 'event', 'deferred_for_retry', 'scheduled_at', j.scheduled_at,
          'started_at', j.attempted_at, 'ended_at', now(), 'worker_id', j.worker_id, 'reason', 'retried by hand'
        )
      )
      else procrastinate_log_attempt_v1(
        case
          when j.attempts_log -> -1 ? 'final' then (j.attempts_log - -1) || ((j.attempts_log -> -1) - 'final')
          else procrastinate_log_attempt_v1(
            j.attempts_log,
            jsonb_build_object(
              'number', j.attempts, 'event', 'failed', 'scheduled_at', j.scheduled_at,
              'started_at', j.attempted_at, 'ended_at', coalesce(j.finalized_at, now()), 'worker_id', j.worker_id
            )
          )
        end,
        jsonb_build_object('event', 'retried', 'ended_at', now())
      )
    end
  from decided d
  where j.id = d.id and d.valid and not d.fails and not d.taken
  returning j.id, j.queue_name, j.lock, j.waits_for
),
notified as materialized (
  select procrastinate_notify_ready_v1(queue_name, id) from retried where waits_for is null
)
select
  d.status::text,
  exists (select from failed) or exists (select from retried) as changed,
  case when d.status = 'doing' then d.lock end as lock,
  (select lock from retried) as new_lock,
  case when d.valid and not d.fails and d.taken then d.queueing_lock end as taken,
  (select count(*) from notified)
from decided d
