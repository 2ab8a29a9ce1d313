-- Count by status the jobs that meet all conditions.
-- Expects: nothing; reads the table.
select j.status::text, count(*)
from procrastinate_jobs j
where (%(id)s::bigint is null or j.id = %(id)s)
  and (%(queue)s::text is null or j.queue_name = %(queue)s)
  and (%(task)s::text is null or j.task_name = %(task)s)
  and (%(statuses)s::text[] is null or j.status = any (%(statuses)s::text[]::procrastinate_job_status[]))
  and (%(lock)s::text is null or j.lock = %(lock)s)
  and (%(queueing_lock)s::text is null or j.queueing_lock = %(queueing_lock)s)
  and (%(worker_id)s::bigint is null or j.worker_id = %(worker_id)s)
group by j.status
order by j.status
