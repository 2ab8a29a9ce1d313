-- Record that a worker is alive. A live worker that others took for dead and removed comes back under its id; the jobs
-- that were taken from it are fenced off by their tokens.
-- Expects: the primary key of procrastinate_workers.
with beat as (
  update procrastinate_workers set last_heartbeat = now() where id = %(worker_id)s returning id
),
revived as (
  insert into procrastinate_workers (id, queues)
  overriding system value
  select %(worker_id)s::bigint, %(queues)s::text[]
  where %(revive)s::boolean and not exists (select from beat)
  on conflict (id) do nothing
)
select exists (select from beat), count(*) filter (where w.id < %(worker_id)s), count(*)
from procrastinate_workers w
where w.queues is null or %(queues)s::text[] is null or w.queues && %(queues)s::text[]
