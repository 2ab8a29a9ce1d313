-- Read the jobs that meet all conditions, by id.
-- Expects: the primary key; other conditions read the table.
select
  j.id, j.status::text, j.queue_name, j.priority, j.lock, j.queueing_lock, j.task_name, j.args::text,
  j.scheduled_at, j.attempts, j.abort_requested, j.worker_id
from procrastinate_jobs j
where (%(id)s::bigint is null or j.id = %(id)s)
  and (%(queue)s::text is null or j.queue_name = %(queue)s)
  and (%(task)s::text is null or j.task_name = %(task)s)
  and (%(status)s::text is null or j.status = %(status)s::procrastinate_job_status)
  and (%(lock)s::text is null or j.lock = %(lock)s)
  and (%(queueing_lock)s::text is null or j.queueing_lock = %(queueing_lock)s)
  and (%(worker_id)s::bigint is null or j.worker_id = %(worker_id)s)
order by j.id
