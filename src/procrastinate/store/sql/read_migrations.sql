-- Read which migrations were applied, and with which text. Fails where no version of ours was.
-- Expects: nothing.
select name, checksum from procrastinate_migrations
