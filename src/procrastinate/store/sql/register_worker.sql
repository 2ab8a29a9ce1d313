-- Add a worker that is alive now.
-- Expects: nothing.
insert into procrastinate_workers (name, queues)
values (%(worker_name)s::text, %(queues)s::text[])
returning id
