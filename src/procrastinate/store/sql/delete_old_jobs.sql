-- Delete the old finished jobs among the next so many by id: bounded work for each statement, however few match, and
-- one walk along the primary key in all. Jobs that somebody else holds are left for the next time.
-- Expects: the primary key.
with candidates as materialized (
  select id, status, queue_name, coalesce(finalized_at, attempted_at, created_at) as ended_at
  from procrastinate_jobs
  where id > %(after)s
  order by id
  limit %(window)s
),
held as materialized (
  select id
  from procrastinate_jobs
  where id = any (array(
      select id
      from candidates
      where status = any (%(statuses)s::procrastinate_job_status[])
        and ended_at < now() - make_interval(secs => %(nb_hours)s::float8 * 3600)
        and (%(queue)s::text is null or queue_name = %(queue)s)
    ))
    -- Looked at again with the lock: somebody may have retried it.
    and status = any (%(statuses)s::procrastinate_job_status[])
  for update skip locked
),
deleted as (
  delete from procrastinate_jobs where id = any (array(select id from held)) returning id
)
select (select count(*) from deleted), (select max(id) from candidates)
