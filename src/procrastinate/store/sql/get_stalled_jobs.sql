-- Read the running jobs of workers that gave no sign of life, or those that have run for too long.
-- Expects: idx_procrastinate_jobs_worker_not_null.
select
  j.id, j.status::text, j.queue_name, j.priority, j.lock, j.queueing_lock, j.task_name, j.args::text,
  j.scheduled_at, j.attempts, j.abort_requested, j.worker_id
from procrastinate_jobs j
left join procrastinate_workers w on w.id = j.worker_id
where j.status = 'doing'
  and case
    when %(nb_seconds)s::float8 is null then
      w.id is null or w.last_heartbeat < now() - make_interval(secs => %(seconds_since_heartbeat)s::float8)
    else j.attempted_at < now() - make_interval(secs => %(nb_seconds)s::float8)
  end
  and (%(queue)s::text is null or j.queue_name = %(queue)s)
  and (%(task_name)s::text is null or j.task_name = %(task_name)s)
order by j.id
