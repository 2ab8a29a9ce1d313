-- Take the chores that are due: whoever moves `last_run` forward first does it this time. No leader is elected, so none
-- can be lost. In the order of names, so that two who take several never wait in a circle.
-- Expects: the primary key of procrastinate_chores.
insert into procrastinate_chores as c (name, last_run)
select name, now()
from unnest(%(chores)s::text[]) as wanted (name)
order by name
on conflict (name) do update set last_run = excluded.last_run
where c.last_run < excluded.last_run - make_interval(
  secs => (%(intervals)s::float8[])[array_position(%(chores)s::text[], c.name)]
)
returning c.name
