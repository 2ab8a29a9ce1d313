-- Read up to so many workers, and how many jobs each of them runs.
-- Expects: the primary key of procrastinate_workers, idx_procrastinate_jobs_worker_not_null.
select
  w.id, w.name, w.started_at, w.last_heartbeat,
  extract(epoch from now() - w.last_heartbeat)::float8,
  (select count(*) from procrastinate_jobs j where j.worker_id = w.id and j.status = 'doing'),
  w.queues
from procrastinate_workers w
order by w.id
limit %(limit)s::bigint
