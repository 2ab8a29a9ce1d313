-- Find locks that nobody holds while the head of their line is parked: what a worker left unopened that died between
-- ending a job and opening its lock. Steps from lock to lock, one probe each, however long the lines are.
-- Expects: procrastinate_jobs_parked_idx_v1, procrastinate_jobs_line_idx_v1, procrastinate_jobs_lock_idx_v1.
with recursive parked as (
  (
    select lock from procrastinate_jobs where status = 'todo' and waits_for = 'lock' order by lock limit 1
  )
  union all
  select (
    select j.lock
    from procrastinate_jobs j
    where j.status = 'todo' and j.waits_for = 'lock' and j.lock > p.lock
    order by j.lock
    limit 1
  )
  from parked p
  where p.lock is not null
)
select p.lock
from parked p
where p.lock is not null
  and not exists (select from procrastinate_jobs d where d.lock = p.lock and d.status = 'doing')
  and (
    select o.waits_for
    from procrastinate_jobs o
    where o.lock = p.lock and o.status = 'todo'
    order by o.priority desc, o.id
    limit 1
  ) = 'lock'
limit %(limit)s
