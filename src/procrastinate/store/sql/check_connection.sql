-- Tell whether the table of jobs is visible on the search_path.
-- Expects: nothing.
select to_regclass('procrastinate_jobs') is not null as is_there
