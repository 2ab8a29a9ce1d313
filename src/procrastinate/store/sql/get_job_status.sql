-- Read one job's status.
-- Expects: the primary key.
select status::text from procrastinate_jobs where id = %(job_id)s
