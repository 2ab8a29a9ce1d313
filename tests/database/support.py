"""What the tests of the SQL share: jobs, operations on a connection of one's own, and statements stopped halfway."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent import futures

import psycopg

from procrastinate import jobs
from procrastinate.store import postgres
from procrastinate.store.jobs import DeferJobs, FetchJobs, FetchResult, FinishJobs, Verdict
from procrastinate.store.operation import Operation
from procrastinate.store.workers import RegisterWorker
from procrastinate.sync_psycopg_connector import SyncPsycopgConnector

# Never opened: it runs operations on the connection that is passed, without a commit.
run = SyncPsycopgConnector().run

PATIENCE = 20.0


def job(**changes) -> jobs.Job:
    plain = {"queue": "default", "task_name": "task", "lock": None, "queueing_lock": None}
    return jobs.Job(**{**plain, **changes})


def defer(connection: psycopg.Connection, *batch: jobs.Job) -> list[int]:
    return run(DeferJobs(jobs=batch or [job()]), connection)


def register(connection: psycopg.Connection) -> int:
    return run(RegisterWorker(), connection)


def fetch(connection: psycopg.Connection, worker: int, limit: int = 10, queues: list[str] | None = None) -> FetchResult:
    return run(FetchJobs(queues=queues, worker_id=worker, limit=limit), connection)


def claim(connection: psycopg.Connection, worker: int) -> jobs.Claim:
    """Claim the one job that is ready."""
    (claimed,) = fetch(connection, worker).claims
    return claimed


def succeed(connection: psycopg.Connection, worker: int, *claims: jobs.Claim) -> list[int]:
    verdicts = [Verdict(claim=claim, status=jobs.Status.SUCCEEDED) for claim in claims]
    return [job_id for job_id, _ in run(FinishJobs(verdicts=verdicts, worker_id=worker), connection)]


def state(connection: psycopg.Connection, job_id: int) -> tuple[str, str | None]:
    """The status of a job and what it waits for."""
    query = "select status::text, waits_for from procrastinate_jobs where id = %s"
    row = connection.execute(query, [job_id]).fetchone()
    assert row is not None
    return row


def value(connection: psycopg.Connection, query: str, *arguments):
    """The only value of a query's only row."""
    ((answer,),) = connection.execute(query, arguments).fetchall()
    return answer


@contextlib.contextmanager
def connected(database: str, *, autocommit: bool = False, **settings: str) -> Iterator[psycopg.Connection]:
    options = " ".join(f"-c {name}={text}" for name, text in settings.items())
    with contextlib.closing(psycopg.connect(database, autocommit=autocommit, options=options)) as connection:
        yield connection


def wait_until_blocked(observer: psycopg.Connection, blocked: psycopg.Connection, future: futures.Future) -> None:
    """Return once `blocked` waits for a lock; fail if its statement ended instead."""
    deadline = time.monotonic() + PATIENCE
    query = "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s"
    while not value(observer, query, blocked.info.backend_pid):
        assert not future.done(), future.result()
        assert time.monotonic() < deadline, "the statement neither waits nor ends"


def run_patiently(operation: Operation, connection: psycopg.Connection):
    """Run an operation that waits for somebody's lock longer than it would by itself."""
    text = postgres.statement(operation)
    assert text.count("'lock_timeout', '200ms'") == 1
    text = text.replace("'lock_timeout', '200ms'", f"'lock_timeout', '{PATIENCE:g}s'")
    json = postgres.JsonText()
    return operation.decode(connection.execute(text, operation.parameters(json)).fetchall(), json)


class PausedFetch:
    """A claim that stops between its snapshot and its first row lock, for as long as the test wants.

    The only change to the statement is an advisory lock in the part that runs first.
    """

    GATE = "from procrastinate_workers where id = %(worker_id)s"

    def __init__(self, connection: psycopg.Connection, observer: psycopg.Connection, threads: futures.Executor) -> None:
        self._connection = connection
        self._observer = observer
        self._threads = threads

    def start(self, worker: int, limit: int = 10) -> None:
        self._observer.execute("select pg_advisory_lock(1)")
        self._operation = FetchJobs(queues=None, worker_id=worker, limit=limit)
        text = postgres.statement(self._operation)
        assert text.count(self.GATE) == 1
        text = text.replace(self.GATE, f"{self.GATE} and pg_advisory_xact_lock(1) is not null")
        self._future = self._threads.submit(self._execute, text)
        wait_until_blocked(self._observer, self._connection, self._future)

    def _execute(self, text: str) -> FetchResult:
        json = postgres.JsonText()
        rows = self._connection.execute(text, self._operation.parameters(json)).fetchall()
        return self._operation.decode(rows, json)

    def proceed(self) -> FetchResult:
        self._observer.execute("select pg_advisory_unlock(1)")
        return self._future.result(PATIENCE)


def threads(count: int = 2) -> futures.ThreadPoolExecutor:
    return futures.ThreadPoolExecutor(count)
