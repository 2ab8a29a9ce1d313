-- End runs with a final status. Fenced: only under the worker and the token that the row still carries.
-- The fence is written so that no index can serve it: with `status = 'doing' and worker_id = …` the planner takes the
-- index of running jobs for tiny and joins through it, 260 ms for 435 outcomes instead of some 10.
-- Expects: the primary key.
with settings as materialized (
  -- Nobody's transaction may block a worker: give up on a row that somebody holds, and try it again later.
  select set_config('lock_timeout', '200ms', true)
),
verdict as (
  select *
  from unnest(%(ids)s::bigint[], %(tokens)s::integer[], %(statuses)s::text[], %(reports)s::text[])
    as v (id, token, status, report)
)
update procrastinate_jobs j
set
  status = v.status::procrastinate_job_status,
  attempts = j.attempts + 1,
  abort_requested = false,
  finalized_at = now(),
  attempts_log = procrastinate_log_attempt_v1(j.attempts_log, v.report::jsonb)
from verdict v
cross join settings
where j.id = v.id and j.status::text = 'doing' and j.worker_id is not distinct from %(worker_id)s and j.claims = v.token
returning j.id, j.status::text
