"""What a trial takes place on: a database of its own, workers and others as processes, and the judge at the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import psycopg
import psycopg.rows

from faults.judge import Entry, JobRow, Judgement, Rules, judge, read_journal
from faults.proxy import FaultProxy
from procrastinate import jobs
from procrastinate.app import App
from procrastinate.embedded import PostgresServer, StopMode
from procrastinate.psycopg_connector import PsycopgConnector
from procrastinate.schema import SchemaManager
from procrastinate.store.jobs import DeferJobs
from procrastinate.sync_psycopg_connector import SyncPsycopgConnector

T = TypeVar("T")

TESTS = Path(__file__).parent.parent
# A dead worker is noticed within seconds; a live one has time for several beats even on a busy machine.
QUICK = {
    "update_heartbeat_interval": 0.3,
    "stalled_worker_timeout": 2.5,
    "fetch_job_polling_interval": 1.0,
    "abort_job_polling_interval": 0.5,
}
# How long a dead worker's jobs may wait: the threshold, as long again after an outage, and a few seconds.
RECOVERY = 2 * QUICK["stalled_worker_timeout"] + 10
PATIENCE = 60.0


class TrialFailed(Exception):  # noqa: N818  not an error of the suite's
    """A promise was broken so that the trial cannot go on."""


class Process:
    """A process that was started, with what it says on standard error in a file."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("w") as stderr:
            self.popen = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr
            )
        self.died_at: float | None = None

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def is_alive(self) -> bool:
        if self.popen.poll() is None:
            return True
        self.died_at = self.died_at or time.monotonic()
        return False

    def count(self, text: str) -> int:
        """Count the lines of the log with this text."""
        return sum(text in line for line in self.log.splitlines())

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        self.popen.kill()
        self.wait(10)

    def wait(self, seconds: float) -> int:
        """Wait for the end and return the exit code."""
        try:
            code = self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TrialFailed(f"a process did not end within {seconds} s:\n{self.log[-3000:]}") from None
        self.died_at = self.died_at or time.monotonic()
        return code

    def stop(self, seconds: float = 30) -> None:
        """Ask it to end, and see that it does so well."""
        self.signal(signal.SIGTERM)
        code = self.wait(seconds)
        if code:
            raise TrialFailed(f"a worker that was asked to stop exited with {code}:\n{self.log[-3000:]}")


@attrs.define
class Stage:
    """One trial's place. `conninfo` goes straight to the server; `dice` are the trial's own."""

    conninfo: str
    server: PostgresServer
    folder: Path
    dice: random.Random
    is_long: bool
    rules: Rules = attrs.field(factory=Rules)
    offered: list[int] = attrs.field(factory=list)
    recoveries: list[float] = attrs.field(factory=list)
    broken: list[str] = attrs.field(factory=list)
    processes: list[Process] = attrs.field(factory=list)
    _resources: contextlib.ExitStack = attrs.field(factory=contextlib.ExitStack)
    _connection: psycopg.Connection[Any] | None = None
    _connector: SyncPsycopgConnector = attrs.field(factory=SyncPsycopgConnector)

    # Whom to ask

    def query(self, text: str, *arguments: Any) -> list[Any]:
        """Run SQL on a connection of the stage's own; connect again where that was lost, until it works."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = psycopg.connect(self.conninfo, autocommit=True, application_name="stage")
                cursor = self._connection.execute(text, arguments)  # type: ignore[call-overload]
                return cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                if self._connection is not None:
                    self._connection.close()
                time.sleep(0.05)

    def statuses(self) -> dict[str, int]:
        return dict(self.query("select status::text, count(*)::int from procrastinate_jobs group by status"))

    def count(self, condition: str) -> int:
        return self.query(f"select count(*)::int from procrastinate_jobs where {condition}")[0][0]

    @property
    def left(self) -> int:
        """How many jobs have not ended."""
        return self.count("status in ('todo', 'doing')")

    @property
    def journal(self) -> list[Entry]:
        return read_journal(self.folder / "journal")

    def until(self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
        """Return the first true answer; the promise `what` is broken after so many seconds."""
        deadline = time.monotonic() + seconds
        while not (answer := condition()):
            if time.monotonic() > deadline:
                logs = "\n".join(f"[{process.pid}] {process.log[-1500:]}" for process in self.processes)
                raise TrialFailed(f"within {seconds:.1f} s, not: {what} ({self.statuses()})\n{logs}")
            time.sleep(0.02)
        return answer

    def recovers(
        self, condition: Callable[[], Any], what: str, seconds: float = RECOVERY, since: float | None = None
    ) -> None:
        """Wait as `until` does, and record how long it took, from now or from the moment `since`."""
        start = time.monotonic()
        self.until(condition, what, seconds)
        self.recoveries.append(time.monotonic() - (since or start))

    def promise(self, kept: object, what: str) -> None:
        """Record a promise that was broken."""
        if not kept:
            self.broken.append(what)

    # What to do

    def defer(
        self, task: str, count: int = 1, *, each: Callable[[int], dict[str, Any]] | None = None, **args: Any
    ) -> list[int]:
        """Defer `count` jobs in one statement; `each` gives further fields of the n-th. Returns the ids."""
        plain = {"queue": "default", "task_name": task, "lock": None, "queueing_lock": None, "task_kwargs": args}
        batch = [jobs.Job(**{**plain, **(each(n) if each else {})}) for n in range(count)]
        self.query("select 1")
        ids = self._connector.run(DeferJobs(jobs=batch), self._connection)
        self.offered += ids
        return ids

    @contextlib.contextmanager
    def down(self, mode: StopMode = "fast") -> Iterator[None]:
        """Have the server away for a while."""
        pid = self.server.pid
        assert pid is not None
        os.kill(pid, {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
        deadline = time.monotonic() + 20
        while self.server.is_running:
            assert time.monotonic() < deadline, "the server does not stop"
            time.sleep(0.02)
        try:
            yield
        finally:
            self.server.restart()

    def app_call(self, call: Callable[[App], Awaitable[T]]) -> T:
        """Call something of an open app, straight on the server."""

        async def use() -> T:
            app = App(connector=PsycopgConnector(conninfo=self.conninfo, min_size=1))
            async with app.open_async():
                return await call(app)

        return asyncio.run(use())

    def move_to(self, server: PostgresServer) -> None:
        """Go on with another server, and the schema there; the database of the stage is not needed."""
        self.server, self.conninfo = server, server.conninfo
        if self._connection is not None:
            self._connection.close()
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            connection.execute(SchemaManager.get_schema().encode())

    def proxy(self, conninfo: str | None = None) -> FaultProxy:
        return self._resources.enter_context(FaultProxy(conninfo or self.conninfo))

    def enter(self, context: contextlib.AbstractContextManager[Any]) -> Any:
        return self._resources.enter_context(context)

    def worker(
        self,
        conninfo: str | None = None,
        *,
        pool: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
        is_up: bool = True,
        **options: Any,
    ) -> Process:
        """Start a worker; unless `is_up` is False, wait until it works."""
        return self.start(
            [sys.executable, "-m", "procrastinate", "--app", "faults.fault_app.app", "worker"],
            {
                "FAULTS_DSN": conninfo or self.conninfo,
                "FAULTS_OPTIONS": json.dumps({**QUICK, "name": f"number {len(self.processes)}", **options}),
                "FAULTS_POOL": json.dumps(pool or {}),
                **(environment or {}),
            },
            says="Starting worker" if is_up else None,
        )

    def start(self, command: Sequence[str], environment: dict[str, str], says: str | None = None) -> Process:
        path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("PROCRASTINATE_", "PG"))}
        own = {"PYTHONPATH": path, "FAULTS_JOURNAL": str(self.folder / "journal")}
        process = Process(command, {**plain, **own, **environment}, self.folder / f"log-{len(self.processes)}")
        self.processes.append(process)
        if says:
            self.until(lambda: says in process.log or not process.is_alive, f"a process says {says!r}")
        return process

    def runs(self, process: Process) -> set[tuple[int, int]]:
        """Return the jobs that are running under a worker's id, each with its token."""
        rows = self.query(
            "select id, claims from procrastinate_jobs where status = 'doing' "
            "and worker_id = (select max(id) from procrastinate_workers where name = %s)",
            f"number {self.processes.index(process)}",
        )
        return set(rows)

    def all_run(self, process: Process, count: int) -> None:
        """Wait until a worker has started so many jobs; that they are claimed does not mean that they run."""
        self.until(lambda: process.count("Starting job") >= count, f"{count} jobs are started")

    def kill(self, process: Process) -> set[tuple[int, int]]:
        """Kill a worker for good; return what it ran."""
        process.kill()
        return self.runs(process)

    def rescues(self, orphans: set[tuple[int, int]], seconds: float = RECOVERY) -> None:
        """Wait until the runs of a dead worker are over, as far as the database is concerned."""
        ids = [job_id for job_id, _ in orphans]
        query = "select id, claims from procrastinate_jobs where status = 'doing' and id = any(%s)"
        deaths = [process.died_at for process in self.processes if process.died_at is not None]
        self.recovers(
            lambda: not orphans & set(self.query(query, ids)),
            "the jobs of a dead worker are taken back",
            seconds,
            since=max(deaths),
        )

    def settle(self, seconds: float = PATIENCE) -> None:
        """Wait until every job has ended."""
        self.until(lambda: not self.left, "every job has ended", seconds)

    def stop_workers(self, seconds: float = 30) -> None:
        """Ask all who still run to stop, which they must do well."""
        running = [process for process in self.processes if process.is_alive]
        for process in running:
            process.signal(signal.SIGTERM)
        for process in running:
            code = process.wait(seconds)
            self.promise(code == 0, f"a worker that was asked to stop exited with {code}:\n{process.log[-3000:]}")

    # The end

    def close(self) -> None:
        for process in self.processes:
            if process.is_alive:
                # One that was stopped by SIGSTOP dies of this as well.
                process.kill()
        self._resources.close()
        if self._connection is not None:
            self._connection.close()

    def judge(self) -> Judgement:
        """Judge what is left, with everybody gone."""
        query = "select id, status::text, lock, queueing_lock, priority, attempts, rescues from procrastinate_jobs"
        rows = [JobRow(**row) for row in self._records(query)]
        # Those that others deferred were offered as well.
        self.offered = sorted({*self.offered, *(row.id for row in rows)})
        deaths = {process.pid: process.died_at for process in self.processes if process.died_at is not None}
        judgement = judge(self.offered, rows, self.journal, deaths, self.rules)
        orphans = self.count(
            "status = 'doing' and not exists (select from procrastinate_workers w where w.id = worker_id)"
        )
        self.promise(not orphans, f"{orphans} jobs run under no worker")
        recent = "select count(*)::int from procrastinate_workers where last_heartbeat > now() - interval '1 minute'"
        fresh = self.query(recent)
        ended_well = sum(process.popen.returncode == 0 for process in self.processes)
        unregistered = [process for process in self.processes if process.popen.returncode == 0]
        self.promise(
            fresh[0][0] <= len(self.processes) - ended_well,
            f"{fresh[0][0]} workers are registered that stopped in order:\n"
            + "\n".join(process.log[-2000:] for process in unregistered),
        )
        deadlocks = self.query("select deadlocks::int from pg_stat_database where datname = current_database()")
        self.promise(deadlocks[0][0] == 0, f"{deadlocks[0][0]} deadlocks")
        for process in self.processes:
            self.promise("Task exception was never retrieved" not in process.log, "an error was nobody's")
        return attrs.evolve(judgement, broken=[*self.broken, *judgement.broken])

    def _records(self, query: str) -> list[dict[str, Any]]:
        self.query("select 1")
        assert self._connection is not None
        with self._connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            return cursor.execute(query).fetchall()  # type: ignore[call-overload]
