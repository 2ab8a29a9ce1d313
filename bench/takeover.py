"""Measure the takeover of a large database: how long each step lasts, and how long others wait meanwhile.

    .venv/bin/python -m bench.takeover 1000000

A client defers jobs all the time; the longest time that one of them took is what the locks of a step cost.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import psycopg

from procrastinate.embedded import PostgresServer
from procrastinate.schema import SchemaManager
from procrastinate.sync_psycopg_connector import SyncPsycopgConnector

OLD_SCHEMA = Path(__file__).parent.parent / "tests" / "takeover" / "old_schema.sql"

# Of ten jobs, seven succeeded, one failed after a retry, one was cancelled, and one waits, half of them for later.
FILL = """
set session_replication_role = replica;
insert into procrastinate_jobs (queue_name, task_name, args, status, scheduled_at, attempts, lock)
select
  'queue ' || n % 5, 'app.tasks.number_' || n % 20, jsonb_build_object('n', n, 'text', repeat('x', 100)),
  (array['succeeded', 'succeeded', 'succeeded', 'succeeded', 'succeeded', 'succeeded', 'succeeded', 'failed',
         'cancelled', 'todo']::procrastinate_job_status[])[1 + n % 10],
  case when n % 20 = 9 then now() + interval '1 day' end,
  (array[1, 1, 1, 1, 1, 1, 1, 2, 0, 0])[1 + n % 10],
  case when n % 4 = 0 then 'lock ' || n % 1000 end
from generate_series(1, {count}) as n;
insert into procrastinate_events (job_id, type, at)
select j.id, e.type, now() - interval '1 day' + e.number * interval '1 second'
from procrastinate_jobs j
cross join lateral unnest(case j.status
  when 'succeeded' then array['deferred', 'started', 'succeeded']
  when 'failed' then array['deferred', 'started', 'scheduled', 'deferred_for_retry', 'started', 'failed']
  when 'cancelled' then array['deferred', 'cancelled']
  else array['deferred']
end::procrastinate_job_event_type[]) with ordinality as e (type, number);
"""

DEFER = (
    "select procrastinate_defer_jobs_v1(array[('q', 't', 0, null, null, '{}', null)]::procrastinate_job_to_defer_v1[])"
)


class Deferrer(threading.Thread):
    """Defers a job every millisecond, and keeps the longest time that one took."""

    def __init__(self, conninfo: str) -> None:
        super().__init__(daemon=True)
        self._conninfo = conninfo
        self._end = threading.Event()
        self.count = 0
        self._longest = 0.0

    def run(self) -> None:
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            while not self._end.wait(0.001):
                started = time.monotonic()
                connection.execute(DEFER)
                self._longest = max(self._longest, time.monotonic() - started)
                self.count += 1

    def take_longest(self) -> float:
        longest, self._longest = self._longest, 0.0
        return longest

    def stop(self) -> None:
        self._end.set()
        self.join()


def main(count: int) -> None:
    with (
        PostgresServer(
            settings={"max_wal_size": "8GB", "shared_buffers": "1GB", "maintenance_work_mem": "256MB"}
        ) as server,
        psycopg.connect(server.conninfo, autocommit=True) as connection,
    ):
        started = time.monotonic()
        connection.execute(OLD_SCHEMA.read_bytes())
        connection.execute(FILL.format(count=count).encode())
        connection.execute("vacuum analyze")
        print(f"{count} jobs made in {time.monotonic() - started:.0f} s; size {size(connection)}")
        take_over(server.conninfo)
        print(f"size at the end {size(connection)}")


def size(connection: psycopg.Connection[Any]) -> str:
    (row,) = connection.execute(
        "select string_agg(relname || ' ' || pg_size_pretty(pg_total_relation_size(oid)), ', ' order by relname) "
        "from pg_class where relkind = 'r' and relname in "
        "('procrastinate_jobs', 'procrastinate_events', 'procrastinate_old_events')"
    ).fetchall()
    return row[0]


def take_over(conninfo: str) -> None:
    connector = SyncPsycopgConnector(conninfo=conninfo, min_size=1, max_size=1)
    connector.open()
    deferrer = Deferrer(conninfo)
    deferrer.start()
    title, began, total = "", time.monotonic(), 0.0

    def tell(message: str) -> None:
        nonlocal title, began
        if not message.startswith("…"):
            report()
            title, began = message, time.monotonic()

    def report() -> None:
        nonlocal total
        seconds, waited = time.monotonic() - began, deferrer.take_longest()
        total += seconds
        if title and (seconds > 0.1 or waited > 0.02):
            print(f"{seconds:8.1f} s  {title}; a deferrer waited {waited * 1000:.0f} ms at most")

    SchemaManager(connector).upgrade(tell=tell)
    report()
    deferrer.stop()
    connector.close()
    print(f"{total:8.1f} s  in all; {deferrer.count} jobs were deferred meanwhile")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
