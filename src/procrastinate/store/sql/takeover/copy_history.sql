-- Copy the history of the next jobs by id from their events into their own columns; answer how many ids were looked at,
-- 0 at the end. Open jobs, which workers or users may change, come before any worker of ours starts; what has ended can
-- be copied while workers run.
create or replace function procrastinate_take_over_history(open_jobs boolean, batch integer) returns integer
language plpgsql
set search_path from current
as $$
declare
  part_name constant text := case when open_jobs then 'history of open jobs' else 'history of ended jobs' end;
  last_old_id constant bigint := (select t.position from procrastinate_takeover t where t.part = 'last id');
  done_up_to bigint;
  looked_at integer;
  up_to bigint;
  chosen bigint[];
begin
  select t.position into strict done_up_to from procrastinate_takeover t where t.part = part_name for update;
  select
    count(*),
    max(w.id),
    array_agg(w.id) filter (where (w.status in ('todo', 'doing', 'failed')) = open_jobs)
  into looked_at, up_to, chosen
  from (
    select j.id, j.status
    from procrastinate_jobs j
    where j.id > done_up_to and j.id <= last_old_id
    order by j.id
    limit batch
  ) as w;
  if looked_at = 0 then
    return 0;
  end if;

  -- In the order of ids, in which nobody deadlocks with another copy of this.
  perform from procrastinate_jobs j where j.id = any (chosen) order by j.id for no key update;

  with event as materialized (
    -- An attempt goes from one ending to the next. The schedule of the next attempt is told just before the ending.
    select
      e.job_id, e.id, e.type::text as type, e.at,
      count(*) filter (
        where e.type in ('deferred_for_retry', 'failed', 'succeeded', 'aborted', 'cancelled', 'retried')
      ) over (partition by e.job_id order by e.id rows between unbounded preceding and 1 preceding) + case
        when e.type = 'scheduled'
          and lead(e.type) over (partition by e.job_id order by e.id) in ('deferred_for_retry', 'retried')
        then 1
        else 0
      end as attempt
    from procrastinate_old_events e
    where e.job_id = any (chosen)
  ),
  attempt as (
    select
      job_id,
      attempt,
      (array_agg(at order by id desc) filter (where type = 'scheduled'))[1] as scheduled_at,
      (array_agg(at order by id desc) filter (where type = 'started'))[1] as started_at,
      min(type) filter (where type not in ('deferred', 'scheduled', 'started', 'abort_requested')) as ending,
      min(at) filter (where type not in ('deferred', 'scheduled', 'started', 'abort_requested')) as ended_at,
      min(at) filter (where type = 'deferred') as deferred_at,
      min(at) filter (where type = 'abort_requested') as abort_requested_at,
      min(at) filter (where type <> 'scheduled') as first_at
    from event
    group by job_id, attempt
  ),
  placed as (
    -- The latest attempt stands in the row's columns, if it is not over or ended the job; the others in the log.
    select
      a.*,
      row_number() over (partition by a.job_id, a.ending is null order by a.attempt desc) as age,
      case
        when a.ending is null then a.attempt = max(a.attempt) over (partition by a.job_id) and j.status = 'doing'
        else a.attempt = max(a.attempt) filter (where a.ending is not null) over (partition by a.job_id)
          and j.status in ('succeeded', 'failed', 'cancelled', 'aborted')
          and a.ending not in ('deferred_for_retry', 'retried')
      end as is_latest
    from attempt a
    join procrastinate_jobs j on j.id = a.job_id
  ),
  history as (
    select
      job_id,
      coalesce(min(deferred_at), min(first_at)) as created_at,
      min(abort_requested_at) as abort_requested_at,
      max(started_at) filter (where is_latest) as attempted_at,
      max(ended_at) filter (where is_latest) as finalized_at,
      jsonb_agg(
        jsonb_strip_nulls(
          jsonb_build_object(
            'number', case when ending <> 'retried' then attempt + 1 end, 'event', ending,
            'scheduled_at', scheduled_at, 'started_at', started_at, 'ended_at', ended_at
          )
        )
        order by attempt
      ) filter (where ending is not null and not is_latest and age <= 50) as attempts_log
    from placed
    group by job_id
  )
  update procrastinate_jobs j
  set
    created_at = coalesce(h.created_at, j.created_at),
    abort_requested_at = coalesce(j.abort_requested_at, h.abort_requested_at),
    attempted_at = coalesce(j.attempted_at, h.attempted_at),
    finalized_at = coalesce(j.finalized_at, h.finalized_at),
    attempts_log = case
      when h.attempts_log is null then j.attempts_log
      else h.attempts_log || coalesce(j.attempts_log, '[]')
    end,
    waits_for = case when j.status = 'todo' and j.scheduled_at > now() then 'time' else j.waits_for end
  from unnest(chosen) as c (id)
  left join history h on h.job_id = c.id
  where j.id = c.id
    and (h.job_id is not null or (j.status = 'todo' and j.scheduled_at > now()));

  update procrastinate_takeover t set position = up_to where t.part = part_name;
  update procrastinate_takeover t set seen_at = now() where t.part = 'turn';
  return looked_at;
end
$$;
