-- Make scheduled jobs ready whose time has come, earliest first, and say when the next one is due.
-- Expects: procrastinate_jobs_due_idx_v1.
with due as materialized (
  select id
  from procrastinate_jobs
  where status = 'todo' and waits_for = 'time' and scheduled_at <= now()
  order by scheduled_at
  limit %(limit)s
  for no key update skip locked
),
staged as (
  update procrastinate_jobs
  set waits_for = null
  where id = any (array(select id from due))
  returning id, queue_name
),
notified as materialized (
  select procrastinate_notify_ready_v1(ready.queue_name, ready.job_id)
  from (select queue_name, min(id) as job_id from staged group by queue_name) as ready
)
select
  (select count(*) from staged),
  (select array_agg(distinct queue_name::text) from staged),
  (
    select extract(epoch from min(scheduled_at) - clock_timestamp())::float8
    from procrastinate_jobs
    where status = 'todo' and waits_for = 'time' and scheduled_at > now()
  ) as next_due_in,
  (select count(*) from notified)
