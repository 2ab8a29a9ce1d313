-- Claim ready jobs in (priority desc, id) order and park those that cannot run yet: each blocked job is looked at once,
-- so the cost is the batch's, whatever else waits, runs or is kept in the table.
-- Expects: procrastinate_jobs_ready_idx_v1, procrastinate_jobs_ready_by_queue_idx_v1, procrastinate_jobs_line_idx_v1,
-- procrastinate_jobs_lock_idx_v1, which also is the guarantee that two jobs of one lock never run at a time.
-- The materialized fences keep the planner from running a LIMIT twice. Rows are updated through arrays of ids: a join
-- would be planned by estimates, and those of a queue table are wrong half of the time.
-- A worker that was declared dead and removed claims nothing: its jobs would be taken from it at once.
with worker as materialized (
  select id from procrastinate_workers where id = %(worker_id)s
),
-- Lanes are scanned past their floor: see FetchJobs. The gaps between them, by default everything, from the beginning.
lane as (
  select * from unnest(%(lanes)s::integer[], %(floors)s::bigint[]) as l (priority, floor)
),
gap as (
  select * from unnest(%(highest)s::integer[], %(lowest)s::integer[]) as g (highest, lowest)
),
scan_lanes as materialized (
  select r.*
  from lane
  cross join lateral (
    select id, lock, priority, scheduled_at
    from procrastinate_jobs
    where %(queues)s::text[] is null
      and exists (select from worker)
      and priority = lane.priority and id > lane.floor
      and status = 'todo' and waits_for is null
    order by id
    limit %(limit)s
    for no key update skip locked
  ) as r
),
scan_gaps as materialized (
  select r.*
  from gap
  cross join lateral (
    select id, lock, priority, scheduled_at
    from procrastinate_jobs
    where %(queues)s::text[] is null
      and exists (select from worker)
      and priority between gap.lowest and gap.highest
      and status = 'todo' and waits_for is null
    order by priority desc, id
    limit %(limit)s
    for no key update skip locked
  ) as r
),
scan_queue_lanes as materialized (
  select r.*
  from unnest(%(queues)s::text[]) as q (name)
  cross join lane
  cross join lateral (
    select id, lock, priority, scheduled_at
    from procrastinate_jobs
    where queue_name = q.name
      and exists (select from worker)
      and priority = lane.priority and id > lane.floor
      and status = 'todo' and waits_for is null
    order by id
    limit %(limit)s
    for no key update skip locked
  ) as r
),
scan_queue_gaps as materialized (
  select r.*
  from unnest(%(queues)s::text[]) as q (name)
  cross join gap
  cross join lateral (
    select id, lock, priority, scheduled_at
    from procrastinate_jobs
    where queue_name = q.name
      and exists (select from worker)
      and priority between gap.lowest and gap.highest
      and status = 'todo' and waits_for is null
    order by priority desc, id
    limit %(limit)s
    for no key update skip locked
  ) as r
),
scan as materialized (
  select * from scan_lanes
  union all
  select * from scan_gaps
  union all
  select * from scan_queue_lanes
  union all
  select * from scan_queue_gaps
  order by priority desc, id
  limit %(limit)s
),
verdict as materialized (
  select
    s.id,
    case
      when s.scheduled_at > now() then 'time'
      when s.lock is null then null
      when exists (select from procrastinate_jobs d where d.lock = s.lock and d.status = 'doing') then 'lock'
      -- One probe of the line's index. Written as "no earlier job exists" it would walk the whole line.
      when s.id = (
        select o.id
        from procrastinate_jobs o
        where o.lock = s.lock and o.status = 'todo'
        order by o.priority desc, o.id
        limit 1
      ) then null
      else 'lock'
    end as gate
  from scan s
),
parked as (
  update procrastinate_jobs
  set waits_for = case when scheduled_at > now() then 'time' else 'lock' end
  where id = any (array(select id from verdict where gate is not null))
  returning case when waits_for = 'lock' then lock end as lock
),
claimed as (
  update procrastinate_jobs
  set status = 'doing', worker_id = %(worker_id)s, claims = claims + 1, attempted_at = now()
  where id = any (array(select id from verdict where gate is null))
  returning *
)
select
  j.id, j.status::text, j.queue_name, j.priority, j.lock, j.queueing_lock, j.task_name, j.args::text,
  j.scheduled_at, j.attempts, j.abort_requested, j.worker_id, j.claims
from claimed j
union all
select null, null, null, null, parked.lock, null, null, null, null, null, null, null, null
from parked
