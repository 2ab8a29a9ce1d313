drop function procrastinate_take_over_history(boolean, integer);
drop table procrastinate_takeover;
