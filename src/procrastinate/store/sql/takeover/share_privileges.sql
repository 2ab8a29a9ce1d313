-- Whoever could work with the old tables can work with the new ones; all of them have one owner.
do $$
declare
  job_table constant regclass := 'procrastinate_jobs';
  owner_name text := (select quote_ident(pg_get_userbyid(relowner)) from pg_class where oid = job_table);
  statement text;
begin
  for statement in
    select format('alter table %I owner to %s', name, owner_name)
    from unnest(array[
      'procrastinate_chores', 'procrastinate_migrations', 'procrastinate_takeover', 'procrastinate_events'
    ]) as t (name)
    join pg_class c on c.relname = t.name and c.relnamespace = (select relnamespace from pg_class where oid = job_table)
    where c.relowner <> (select relowner from pg_class where oid = job_table)
    union all
    select format('alter function %s owner to %s', p.oid::regprocedure, owner_name)
    from pg_proc p
    where p.pronamespace = (select relnamespace from pg_class where oid = job_table)
      and p.proname = any (array[
        'procrastinate_queue_channel_v1', 'procrastinate_log_attempt_v1', 'procrastinate_notify_v1',
        'procrastinate_notify_ready_v1', 'procrastinate_notify_jobs_inserted_v1',
        'procrastinate_unlink_periodic_defers_v1', 'procrastinate_defer_jobs_v1'
      ])
      and p.proowner <> (select relowner from pg_class where oid = job_table)
    union all
    select format(
      'grant %s on %I to %s',
      privilege_type,
      t.target,
      case grantee when 0 then 'public' else grantee::regrole::text end
    )
    from (
      values
        ('procrastinate_old_events', 'procrastinate_events', array['SELECT']),
        ('procrastinate_workers', 'procrastinate_chores', array['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
        ('procrastinate_jobs', 'procrastinate_migrations', array['SELECT'])
    ) as t (source, target, privileges)
    join pg_class c on c.oid = t.source::regclass
    cross join lateral aclexplode(c.relacl) as granted
    where granted.privilege_type = any (t.privileges)
      and granted.grantee <> c.relowner
  loop
    execute statement;
  end loop;
end
$$;
