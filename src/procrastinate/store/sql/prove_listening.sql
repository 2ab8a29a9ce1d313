-- Send a notification on a channel that only its sender listens on, to see whether it arrives.
-- Expects: nothing.
select pg_notify(%(channel)s::text, '{"type": "listening"}')
