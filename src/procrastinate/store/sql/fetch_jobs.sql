-- Claim ready jobs in (priority desc, id) order and park those that cannot run yet: each blocked job is looked at once,
-- so the cost is the batch's, whatever else waits, runs or is kept in the table.
-- Expects: procrastinate_jobs_ready_idx_v1, procrastinate_jobs_ready_by_queue_idx_v1, procrastinate_jobs_line_idx_v1,
-- procrastinate_jobs_lock_idx_v1, which also is the guarantee that two jobs of one lock never run at a time.
-- The materialized fences keep the planner from running a LIMIT twice. Rows are updated through arrays of ids: a join
-- would be planned by estimates, and those of a queue table are wrong half of the time.
-- Where to scan stands in a part of its own for each case: one text for all has a generic plan that looks so dear that
-- PostgreSQL plans it anew each time, which takes longer than to run it.
-- A worker that was declared dead and removed claims nothing: its jobs would be taken from it at once.
with worker as materialized (
  select id from procrastinate_workers where id = %(worker_id)s
),
scan as materialized (
  -- part: scan_*
),
verdict as materialized (
  select
    s.id,
    case
      -- Whoever waits behind a job that kills its worker would be taken back with it, again and again, and fail in the
      -- end. So who was taken back before is claimed only to be started at once, and a suspect all alone.
      when s.place > 1 and s.is_not_before_suspect then 'left'
      when s.rescues > 0 and s.place > %(slots)s::integer then 'left'
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
  from (
    -- In the order of the scan: sorting thousands of rows once more would take longer than to look at them.
    select
      *,
      row_number() over () as place,
      bool_or(rescues >= %(suspect)s::integer) over (rows unbounded preceding) as is_not_before_suspect
    from scan
  ) s
),
parked as (
  update procrastinate_jobs
  set waits_for = case when scheduled_at > now() then 'time' else 'lock' end
  where id = any (array(select id from verdict where gate in ('time', 'lock')))
  returning case when waits_for = 'lock' then lock end as lock
),
claimed as (
  update procrastinate_jobs
  set status = 'doing', worker_id = %(worker_id)s, claims = claims + 1, attempted_at = now()
  where id = any (array(select id from verdict where gate is null limit %(most)s::bigint))
  returning *
)
select
  j.id, j.status::text, j.queue_name, j.priority, j.lock, j.queueing_lock, j.task_name, j.args::text,
  j.scheduled_at, j.attempts, j.abort_requested, j.worker_id, j.claims,
  j.rescues
from claimed j
union all
select null, null, null, null, parked.lock, null, null, null, null, null, null, null, null, null
from parked
