-- Read the running jobs that somebody asked to abort.
-- Expects: idx_procrastinate_jobs_worker_not_null.
select id
from procrastinate_jobs
where status = 'doing'
  and abort_requested
  and (%(queue)s::text is null or queue_name = %(queue)s)
  and (%(worker_id)s::bigint is null or worker_id = %(worker_id)s)
order by id
