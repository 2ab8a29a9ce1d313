-- Add a worker that is alive now.
-- Expects: nothing.
insert into procrastinate_workers (name) values (%(worker_name)s::text) returning id
