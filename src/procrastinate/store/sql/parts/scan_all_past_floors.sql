-- All queues, past the floors: each priority that has one from there on, what lies between from its beginning.
select *
from (
  select r.*
  from unnest(%(lanes)s::integer[], %(floors)s::bigint[]) as lane (priority, floor)
  cross join lateral (
    select id, lock, priority, scheduled_at, rescues
    from procrastinate_jobs
    where priority = lane.priority and id > lane.floor
      and exists (select from worker)
      and status = 'todo' and waits_for is null
    order by id
    limit %(limit)s
    for no key update skip locked
  ) as r
  union all
  select r.*
  from unnest(%(highest)s::integer[], %(lowest)s::integer[]) as gap (highest, lowest)
  cross join lateral (
    select id, lock, priority, scheduled_at, rescues
    from procrastinate_jobs
    where priority between gap.lowest and gap.highest
      and exists (select from worker)
      and status = 'todo' and waits_for is null
    order by priority desc, id
    limit %(limit)s
    for no key update skip locked
  ) as r
) as ready
order by priority desc, id
limit %(limit)s
