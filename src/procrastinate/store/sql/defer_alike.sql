-- Insert jobs that differ in their arguments only, all or none: if their queueing lock is taken, fewer ids come back
-- than jobs were given, and the client undoes the rest, as in defer_jobs.
-- The arguments travel as one JSON document: twice as many jobs a second as with the arrays of defer_jobs. The ids are
-- drawn in its order, as defaults are computed behind the ORDER BY, and come back as one array: a row for each takes a
-- twentieth of the time.
-- Expects: procrastinate_jobs_queueing_lock_idx_v1 (arbiter).
with settings as materialized (
  -- Read by the trigger procrastinate_jobs_notify_inserted_v1.
  select case when %(is_alone)s::boolean then set_config('procrastinate.is_alone', 'on', true) end
),
inserted as (
  insert into procrastinate_jobs (
    queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at, waits_for
  )
  select
    %(queue)s::text, %(task)s::text, %(priority)s::integer, %(lock)s::text, %(queueing_lock)s::text, i.args,
    %(scheduled_at)s::timestamptz, case when %(scheduled_at)s::timestamptz > now() then 'time' end
  from jsonb_array_elements(%(args)s::text::jsonb) with ordinality as i (args, position)
  cross join settings
  order by i.position
  -- part: conflicts_*
  returning id
)
select coalesce(array_agg(id order by id), '{}')
from inserted
