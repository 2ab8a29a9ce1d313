-- End runs and delete the rows. Fenced and written as finish_jobs is.
-- Expects: the primary key.
with settings as materialized (
  -- Nobody's transaction may block a worker: give up on a row that somebody holds, and try it again later.
  select set_config('lock_timeout', '200ms', true)
),
verdict as (
  select * from unnest((select %(ids)s::bigint[]), (select %(tokens)s::integer[])) as v (id, token)
)
delete from procrastinate_jobs j
using verdict v
cross join settings
where j.id = v.id
  and coalesce(j.status = 'doing' and j.worker_id = %(worker_id)s and j.claims = v.token, false)
returning j.id, j.claims, j.status::text
