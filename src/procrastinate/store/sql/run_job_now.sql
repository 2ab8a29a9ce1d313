-- Make a job ready that waits for its time. Its schedule is forgotten.
-- Expects: the primary key.
with target as materialized (
  select id, status, waits_for from procrastinate_jobs where id = %(job_id)s for no key update
),
opened as (
  update procrastinate_jobs
  set scheduled_at = null, waits_for = null
  where id = any (array(select id from target where status = 'todo' and waits_for = 'time'))
  returning id, queue_name
),
notified as materialized (
  select procrastinate_notify_ready_v1(queue_name, id) from opened
)
select t.status::text, exists (select from notified) as changed
from target t
