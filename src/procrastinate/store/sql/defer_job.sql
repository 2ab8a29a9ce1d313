-- Insert one job. The same as defer_jobs for a batch of one, without the arrays: on both sides that is a third of the
-- processor time.
-- Expects: procrastinate_jobs_queueing_lock_idx_v1 (arbiter).
insert into procrastinate_jobs (
  queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at, waits_for
)
values (
  %(queue)s::text, %(task)s::text, %(priority)s::integer, %(lock)s::text, %(queueing_lock)s::text,
  %(args)s::text::jsonb, %(scheduled_at)s::timestamptz,
  case when %(scheduled_at)s::timestamptz > now() then 'time' end
)
on conflict (queueing_lock) where status = 'todo' and queueing_lock is not null do nothing
returning
  id,
  -- Read by the trigger procrastinate_jobs_notify_inserted_v1.
  case when %(is_alone)s::boolean then set_config('procrastinate.is_alone', 'on', true) end
