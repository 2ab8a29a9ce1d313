on conflict (queueing_lock) where status = 'todo' and queueing_lock is not null do nothing
