-- Count jobs by status for each queue, task or lock, for the first so many of them by name.
-- Expects: nothing; reads the table.
select name, status::text, jobs
from (
  select name, status, count(*) as jobs, dense_rank() over (order by name collate "C") as position
  from (
    select
      case %(by)s::text when 'queue' then queue_name when 'task' then task_name else lock end as name,
      status
    from procrastinate_jobs
    where (%(queue)s::text is null or queue_name = %(queue)s)
      and (%(task)s::text is null or task_name = %(task)s)
      and (%(status)s::text is null or status = %(status)s::procrastinate_job_status)
      and (%(lock)s::text is null or lock = %(lock)s)
  ) as chosen
  where name is not null
  group by name, status
) as counted
where %(limit)s::bigint is null or position <= %(limit)s
order by name collate "C", status
