-- Remove workers that gave no sign of life.
-- Expects: idx_procrastinate_workers_last_heartbeat.
delete from procrastinate_workers
where last_heartbeat < now() - make_interval(secs => %(seconds_since_heartbeat)s::float8)
returning id
