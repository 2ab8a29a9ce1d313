-- All queues, from the beginning.
select id, lock, priority, scheduled_at, rescues
from procrastinate_jobs
where exists (select from worker)
  and status = 'todo' and waits_for is null
order by priority desc, id
limit %(limit)s
for no key update skip locked
