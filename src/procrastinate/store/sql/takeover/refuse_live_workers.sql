-- Workers of the other implementation would lose their functions in the middle of their work.
do $$
declare
  alive text;
begin
  select string_agg(id::text, ', ' order by id) into alive
  from procrastinate_workers
  where last_heartbeat > now() - interval '30 seconds';
  if alive is not null then
    raise exception 'workers are alive: %', alive using errcode = 'object_in_use';
  end if;
end
$$;
