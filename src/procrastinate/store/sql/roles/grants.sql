-- What each of four roles needs, and no more. Roles that are missing are created, without login: make your users members
-- of them. Run this as the owner of the tables (who needs CREATEROLE if roles are missing), again after each upgrade.
--
-- producer: defers jobs, and looks up their status. It cannot read arguments, nor change or delete anything.
-- worker:   runs jobs. It cannot rewrite a job's task or arguments.
-- reader:   reads everything, arguments and errors included.
-- admin:    also cancels, retries, changes and deletes jobs.
--
-- None of them can change the tables themselves.
do $$
declare
  home constant regnamespace := (select relnamespace from pg_class where oid = 'procrastinate_jobs'::regclass);
  role_name text;
begin
  foreach role_name in array array[:'producer', :'worker', :'reader', :'admin'] loop
    if not exists (select from pg_roles where rolname = role_name) then
      execute format('create role %I nologin', role_name);
    end if;
    execute format('grant usage on schema %s to %I', home, role_name);
  end loop;
end
$$;

-- The id is drawn before a batch is inserted. The answer names it, and ON CONFLICT reads what the index is made of.
grant insert (id, queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at, waits_for)
  on procrastinate_jobs to :"producer", :"worker";
grant select (id, status, queueing_lock) on procrastinate_jobs to :"producer";
grant usage on sequence procrastinate_jobs_id_seq to :"producer", :"worker", :"admin";

grant select, delete on procrastinate_jobs to :"worker";
grant update (
  queue_name, priority, lock, status, scheduled_at, attempts, abort_requested, worker_id, waits_for, claims, rescues,
  attempted_at, abort_requested_at, finalized_at, attempts_log
) on procrastinate_jobs to :"worker";
grant select, insert, update, delete on procrastinate_workers, procrastinate_periodic_defers to :"worker", :"admin";
grant select, insert, update on procrastinate_chores to :"worker", :"admin";
grant usage on sequence procrastinate_periodic_defers_id_seq to :"worker", :"admin";

grant select on procrastinate_jobs, procrastinate_workers, procrastinate_periodic_defers, procrastinate_chores
  to :"reader";
grant select on procrastinate_migrations to :"worker", :"reader", :"admin";
grant select on procrastinate_events to :"reader", :"admin";

grant select, insert, update, delete on procrastinate_jobs to :"admin";

-- Everybody may call functions unless somebody took that away.
grant execute on function
  procrastinate_queue_channel_v1(text),
  procrastinate_notify_v1(text, jsonb),
  procrastinate_notify_ready_v1(text, bigint),
  procrastinate_log_attempt_v1(jsonb, jsonb),
  procrastinate_defer_jobs_v1(procrastinate_job_to_defer_v1[])
to :"producer", :"worker", :"admin";
grant usage on type procrastinate_job_status, procrastinate_job_to_defer_v1
  to :"producer", :"worker", :"reader", :"admin";
grant usage on type procrastinate_job_event_type to :"reader", :"admin";
