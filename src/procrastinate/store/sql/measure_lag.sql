-- Measure for how long ready jobs have been waiting, by queue: among the first so many of each queue and priority,
-- which are the oldest. Steps from priority to priority and from queue to queue, one probe each, however many wait.
-- Expects: procrastinate_jobs_ready_by_queue_idx_v1.
with recursive lane as (
  (
    select queue_name, priority
    from procrastinate_jobs
    where status = 'todo' and waits_for is null
    order by queue_name, priority desc
    limit 1
  )
  union all
  select following.queue_name, following.priority
  from lane
  cross join lateral (
    (
      select queue_name, priority
      from procrastinate_jobs
      where status = 'todo' and waits_for is null
        and queue_name = lane.queue_name and priority < lane.priority
      order by priority desc
      limit 1
    )
    union all
    (
      select queue_name, priority
      from procrastinate_jobs
      where status = 'todo' and waits_for is null
        and queue_name > lane.queue_name
      order by queue_name, priority desc
      limit 1
    )
    order by queue_name
    limit 1
  ) as following
),
served as (
  -- Whoever uses priorities as numbers of their own has any number of lanes.
  select queue_name, priority from lane limit 1000
)
select s.queue_name, max(extract(epoch from now() - greatest(w.created_at, w.scheduled_at)))::float8 as lag
from served s
cross join lateral (
  select created_at, scheduled_at
  from procrastinate_jobs
  where status = 'todo' and waits_for is null
    and queue_name = s.queue_name and priority = s.priority
  order by id
  limit 100
) as w
where %(queues)s::text[] is null or s.queue_name = any (%(queues)s::text[])
group by s.queue_name
order by s.queue_name collate "C"
