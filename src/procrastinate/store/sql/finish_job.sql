-- End a waiting or running job from outside, whoever runs it.
-- Expects: the primary key.
with target as materialized (
  select id, status, lock from procrastinate_jobs where id = %(job_id)s for no key update
),
deleted as (
  delete from procrastinate_jobs
  where id = any (array(select id from target where status in ('todo', 'doing') and %(delete)s::boolean))
  returning id
),
finished as (
  update procrastinate_jobs j
  set
    status = %(status)s::procrastinate_job_status,
    attempts = j.attempts + case when t.status = 'doing' then 1 else 0 end,
    abort_requested = false,
    waits_for = null,
    finalized_at = now()
  from target t
  where j.id = t.id and t.status in ('todo', 'doing') and not %(delete)s::boolean
  returning j.id
)
select
  t.status::text,
  exists (select from deleted) or exists (select from finished) as changed,
  t.lock
from target t
