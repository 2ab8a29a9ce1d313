-- Some queues, from the beginning of each.
select r.*
from unnest(%(queues)s::text[]) as q (name)
cross join lateral (
  select id, lock, priority, scheduled_at, rescues
  from procrastinate_jobs
  where queue_name = q.name
    and exists (select from worker)
    and status = 'todo' and waits_for is null
  order by priority desc, id
  limit %(limit)s
  for no key update skip locked
) as r
order by priority desc, id
limit %(limit)s
