-- Take a chore that is due: whoever moves `last_run` forward first does it this time. No leader is elected, so none can
-- be lost.
-- Expects: the primary key of procrastinate_chores.
insert into procrastinate_chores as c (name, last_run)
values (%(chore)s, now())
on conflict (name) do update set last_run = excluded.last_run
where c.last_run < excluded.last_run - make_interval(secs => %(interval)s::float8)
returning c.name
