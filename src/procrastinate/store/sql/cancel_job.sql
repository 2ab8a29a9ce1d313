-- Cancel a waiting job, or ask a running one to stop. Answers its lock when it leaves the line, which may go on then.
-- Expects: the primary key.
with target as materialized (
  select id, status, lock from procrastinate_jobs where id = %(job_id)s for no key update
),
deleted as (
  delete from procrastinate_jobs
  where id = any (array(select id from target where status = 'todo' and %(delete)s::boolean))
  returning id
),
cancelled as (
  update procrastinate_jobs
  set
    status = 'cancelled',
    waits_for = null,
    finalized_at = now(),
    abort_requested_at = coalesce(abort_requested_at, case when %(abort)s::boolean then now() end)
  where id = any (array(select id from target where status = 'todo' and not %(delete)s::boolean))
  returning id
),
asked as (
  update procrastinate_jobs
  -- Not `true`: a claim may have committed since the snapshot, and PostgreSQL checks the table's constraints on the row
  -- that the snapshot shows, still `todo`, before it turns to the newest version.
  set abort_requested = (status = 'doing'), abort_requested_at = coalesce(abort_requested_at, now())
  where id = any (array(select id from target where status = 'doing' and %(abort)s::boolean))
  returning id, queue_name
),
notified as materialized (
  select procrastinate_notify_v1(
    queue_name, jsonb_build_object('type', 'abort_job_requested', 'job_id', id)
  )
  from asked
)
select
  t.status::text,
  exists (select from deleted) or exists (select from cancelled) or exists (select from notified) as changed,
  case when t.status = 'todo' then t.lock end as lock
from target t
