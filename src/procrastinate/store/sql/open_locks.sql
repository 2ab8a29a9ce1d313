-- Wake the head of each line whose lock is free. Sent in a statement of its own, after the commit that freed the lock
-- or parked the job: only a new snapshot sees both.
-- Rows are taken with SKIP LOCKED, or openers would deadlock with each other and with those who end jobs. A claimer
-- with an older snapshot may hold the head's row for a moment, though, without wanting it; so the answer names the
-- locks whose head is still parked, and the worker asks again until there are none.
-- Expects: procrastinate_jobs_line_idx_v1, procrastinate_jobs_lock_idx_v1.
with heads as materialized (
  select h.id, h.lock, h.queue_name
  from unnest(%(locks)s::text[]) as l (lock)
  cross join lateral (
    select o.id, o.lock, o.queue_name, o.waits_for
    from procrastinate_jobs o
    where o.lock = l.lock and o.status = 'todo'
    order by o.priority desc, o.id
    limit 1
  ) as h
  where h.waits_for = 'lock'
    and not exists (select from procrastinate_jobs d where d.lock = l.lock and d.status = 'doing')
),
held as materialized (
  select id
  from procrastinate_jobs
  -- Written so that it does not fit the index of parked jobs, which would be read from end to end.
  where id = any (array(select id from heads)) and status = 'todo' and coalesce(waits_for, '') = 'lock'
  for no key update skip locked
),
opened as (
  update procrastinate_jobs
  set waits_for = null
  where id = any (array(select id from held))
  returning id, queue_name
),
notified as materialized (
  select procrastinate_notify_ready_v1(ready.queue_name, ready.job_id)
  from (select queue_name, min(id) as job_id from opened group by queue_name) as ready
)
select h.lock, h.queue_name, o.id is not null as is_open, (select count(*) from notified)
from heads h
left join opened o using (id)
