-- Read up to so many jobs that meet all conditions, newest first, from an id downwards.
-- Expects: the primary key, backwards; it stops at the limit, so only conditions that few jobs meet read far.
select
  j.id, j.status::text, j.queue_name, j.priority, j.lock, j.queueing_lock, j.task_name, j.args::text,
  j.scheduled_at, j.attempts, j.abort_requested, j.worker_id,
  j.waits_for, j.created_at, j.attempted_at, j.finalized_at,
  case when %(with_log)s::boolean then j.attempts_log::text end
from procrastinate_jobs j
where (%(id)s::bigint is null or j.id = %(id)s)
  and (%(queue)s::text is null or j.queue_name = %(queue)s)
  and (%(task)s::text is null or j.task_name = %(task)s)
  and (%(statuses)s::text[] is null or j.status = any (%(statuses)s::text[]::procrastinate_job_status[]))
  and (%(lock)s::text is null or j.lock = %(lock)s)
  and (%(queueing_lock)s::text is null or j.queueing_lock = %(queueing_lock)s)
  and (%(worker_id)s::bigint is null or j.worker_id = %(worker_id)s)
  and (%(before)s::bigint is null or j.id < %(before)s)
order by j.id desc
limit %(limit)s::bigint
