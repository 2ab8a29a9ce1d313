-- Remove a worker; jobs that it still runs count as stalled from now on.
-- Expects: idx_procrastinate_jobs_worker_not_null.
with orphaned as (
  update procrastinate_jobs set worker_id = null where status = 'doing' and worker_id = %(worker_id)s
)
delete from procrastinate_workers where id = %(worker_id)s
