-- Read the jobs that a worker holds without knowing it, with the tokens of its claims.
-- Expects: idx_procrastinate_jobs_worker_not_null.
select
  j.id, j.status::text, j.queue_name, j.priority, j.lock, j.queueing_lock, j.task_name, j.args::text,
  j.scheduled_at, j.attempts, j.abort_requested, j.worker_id, j.claims,
  j.rescues
from procrastinate_jobs j
where j.status = 'doing'
  and j.worker_id = %(worker_id)s
  and j.id <> all (%(known)s::bigint[])
order by j.priority desc, j.id
