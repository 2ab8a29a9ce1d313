-- End runs and delete the rows. Fenced as in finish_jobs.
-- Expects: the primary key.
with settings as materialized (
  -- Nobody's transaction may block a worker: give up on a row that somebody holds, and try it again later.
  select set_config('lock_timeout', '200ms', true)
),
verdict as (
  select * from unnest(%(ids)s::bigint[], %(tokens)s::integer[]) as v (id, token)
)
delete from procrastinate_jobs j
using verdict v
cross join settings
where j.id = v.id
  and coalesce(j.status = 'doing' and j.worker_id = %(worker_id)s and j.claims = v.token, false)
returning j.id, j.status::text
