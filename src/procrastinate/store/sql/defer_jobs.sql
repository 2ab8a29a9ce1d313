-- Insert jobs, all or none, without a trigger's coordination and without an error in the server's log.
-- A job whose queueing lock is taken is left out, and the client undoes the rest: an exception would be logged by the
-- server. Ids are drawn before the insert, so that each answers to its position in the batch.
-- Expects: procrastinate_jobs_queueing_lock_idx_v1 (arbiter).
with settings as materialized (
  -- Read by the trigger procrastinate_jobs_notify_inserted_v1.
  select case when %(is_alone)s::boolean then set_config('procrastinate.is_alone', 'on', true) end
),
input as materialized (
  select nextval('procrastinate_jobs_id_seq') as id, u.*
  from (
    select *
    from unnest(
      %(queues)s::text[], %(tasks)s::text[], %(priorities)s::integer[], %(locks)s::text[], %(queueing_locks)s::text[],
      %(args)s::text[], %(scheduled_at)s::timestamptz[]
    ) with ordinality as i (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at, position)
    order by position
  ) as u
),
inserted as (
  insert into procrastinate_jobs (
    id, queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at, waits_for
  )
  select
    id, queue_name, task_name, priority, lock, queueing_lock, args::jsonb, scheduled_at,
    case when scheduled_at > now() then 'time' end
  from input
  cross join settings
  order by position
  on conflict (queueing_lock) where status = 'todo' and queueing_lock is not null do nothing
  returning id
)
select input.position, inserted.id
from input
join inserted using (id)
order by input.position
