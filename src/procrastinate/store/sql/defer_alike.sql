-- Insert jobs that differ in their arguments only, all or none; see defer_jobs for the ids and the queueing lock.
-- The arguments travel as one JSON document: twice as many jobs a second as with the arrays of defer_jobs.
-- Expects: procrastinate_jobs_queueing_lock_idx_v1 (arbiter).
with settings as materialized (
  -- Read by the trigger procrastinate_jobs_notify_inserted_v1.
  select case when %(is_alone)s::boolean then set_config('procrastinate.is_alone', 'on', true) end
),
input as materialized (
  select nextval('procrastinate_jobs_id_seq') as id, u.*
  from (
    select *
    from jsonb_array_elements(%(args)s::text::jsonb) with ordinality as i (args, position)
    order by position
  ) as u
),
inserted as (
  insert into procrastinate_jobs (
    id, queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at, waits_for
  )
  select
    id, %(queue)s::text, %(task)s::text, %(priority)s::integer, %(lock)s::text, %(queueing_lock)s::text, args,
    %(scheduled_at)s::timestamptz, case when %(scheduled_at)s::timestamptz > now() then 'time' end
  from input
  cross join settings
  order by position
  on conflict (queueing_lock) where status = 'todo' and queueing_lock is not null do nothing
  returning id
)
select inserted.id
from input
join inserted using (id)
order by input.position
