-- Count the workers that live, those that gave no sign of life, and the running jobs without a living worker.
-- Expects: idx_procrastinate_jobs_worker_not_null.
with worker as materialized (
  select id, last_heartbeat >= now() - make_interval(secs => %(seconds_since_heartbeat)s::float8) as is_alive
  from procrastinate_workers
)
select
  (select count(*) from worker where is_alive),
  (select count(*) from worker where not is_alive),
  (
    select count(*)
    from procrastinate_jobs j
    where j.status = 'doing' and not exists (select from worker w where w.id = j.worker_id and w.is_alive)
  )
