"""What the tests of upgrades share: jobs with a history, and what is compared before and after."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg

from procrastinate.schema import SchemaManager
from procrastinate.store.tables import ReadCatalog
from procrastinate.sync_psycopg_connector import SyncPsycopgConnector

HERE = Path(__file__).parent
EVENTS = "select job_id, type::text, at from procrastinate_events order by job_id, id"


@contextlib.contextmanager
def opened(conninfo: str, **settings) -> Iterator[SchemaManager]:
    """A schema manager with connections of its own."""
    connector = SyncPsycopgConnector(conninfo=conninfo, min_size=1, max_size=2, **settings)
    connector.open()
    try:
        yield SchemaManager(connector)
    finally:
        connector.close()


def catalog(connection: psycopg.Connection) -> dict[tuple[str, str], str]:
    return SyncPsycopgConnector().run(ReadCatalog(), connection)


def events(connection: psycopg.Connection) -> list[tuple]:
    return connection.execute(EVENTS).fetchall()


def insert(connection: psycopg.Connection, **values) -> int:
    row = {"queue_name": "q", "task_name": "add", **values}
    columns, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    statement = f"insert into procrastinate_jobs ({columns}) values ({marks}) returning id"
    return connection.execute(statement, list(row.values())).fetchone()[0]


def become(connection: psycopg.Connection, job_id: int, *statuses: str) -> int:
    """Take a job through statuses, as workers of the other implementation do; "doing" under worker 1."""
    for status in statuses:
        connection.execute(
            "update procrastinate_jobs set status = %s, worker_id = case when %s = 'doing' then 1 else worker_id end, "
            "attempts = attempts + case when status in ('doing', 'failed') then 1 else 0 end where id = %s",
            [status, status, job_id],
        )
    return job_id


def reschedule(connection: psycopg.Connection, job_id: int, after: str) -> int:
    """Put a job back to wait until so long from now, as a retry does."""
    connection.execute(
        "update procrastinate_jobs set status = 'todo', attempts = attempts + 1, scheduled_at = now() + %s::interval "
        "where id = %s",
        [after, job_id],
    )
    return job_id


def jobs_in_every_state(connection: psycopg.Connection) -> dict[str, int]:
    """Make jobs in all states, under a worker that died, and return their ids by what they are."""
    connection.execute("insert into procrastinate_workers (last_heartbeat) values (now() - interval '1 hour')")
    found = {
        "waiting": insert(connection),
        "scheduled": insert(connection, scheduled_at="2999-01-01T00:00:00Z"),
        "locked first": insert(connection, lock="L", priority=1),
        "locked second": insert(connection, lock="L"),
        "with a queueing lock": insert(connection, queueing_lock="Q"),
        "running": become(connection, insert(connection, lock="R"), "doing"),
        "behind the running": insert(connection, lock="R"),
        "succeeded": become(connection, insert(connection), "doing", "succeeded"),
        "failed": become(connection, insert(connection), "doing", "failed"),
        "cancelled": become(connection, insert(connection), "cancelled"),
        "aborted": become(connection, insert(connection), "doing", "aborted"),
    }
    # Ran at its time, twice again, failed, was retried by hand, and succeeded.
    long_story = become(connection, insert(connection, scheduled_at="2001-01-01T00:00:00Z"), "doing")
    become(connection, reschedule(connection, long_story, "1 second"), "doing")
    become(connection, reschedule(connection, long_story, "2 seconds"), "doing", "failed")
    found["long story"] = become(connection, reschedule(connection, long_story, "3 seconds"), "doing", "succeeded")
    found["to be retried"] = reschedule(connection, become(connection, insert(connection), "doing"), "-1 second")
    aborting = become(connection, insert(connection), "doing")
    connection.execute("update procrastinate_jobs set abort_requested = true where id = %s", [aborting])
    found["running, to be aborted"] = aborting
    asked = insert(connection)
    connection.execute(
        "update procrastinate_jobs set status = 'cancelled', abort_requested = true where id = %s", [asked]
    )
    found["cancelled with abort"] = asked
    found["without events"] = insert(connection, status="succeeded")
    connection.execute(
        "insert into procrastinate_periodic_defers (task_name, periodic_id, defer_timestamp, job_id) "
        "values ('add', 'p', 100, %s)",
        [found["succeeded"]],
    )
    return found
