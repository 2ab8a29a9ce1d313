-- End runs with a final status. Fenced: only under the worker and the token that the row still carries.
-- The fence stands in a coalesce, which no index can serve and the planner takes for true half of the time. Written
-- plainly it is taken for one row, the join becomes a loop over all pairs, and 435 outcomes take 260 ms instead of 8.
-- Each array stands in a subquery, through which the planner does not see how long it is: for many jobs it would read
-- the whole table in place of the index. 2,000 outcomes took 110 ms beside 300,000 jobs, and take 3.
-- Expects: the primary key.
with settings as materialized (
  -- Nobody's transaction may block a worker: give up on a row that somebody holds, and try it again later.
  select set_config('lock_timeout', '200ms', true)
),
verdict as (
  select *
  from unnest(
    (select %(ids)s::bigint[]),
    (select %(tokens)s::integer[]),
    (select %(statuses)s::text[]),
    (select %(reports)s::text[])
  ) as v (id, token, status, report)
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
where j.id = v.id
  and coalesce(j.status = 'doing' and j.worker_id = %(worker_id)s and j.claims = v.token, false)
returning j.id, j.claims, j.status::text
