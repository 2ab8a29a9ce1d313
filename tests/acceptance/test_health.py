"""What a worker tells of itself: over HTTP, and to observers. The workers run in a thread, on a real database."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from acceptance_tools import wait_until
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from procrastinate import App, PsycopgConnector, exceptions, types
from procrastinate import observers as events
from procrastinate.jobs import Status
from procrastinate.worker import Worker, health

PATIENCE = 30


class RunningWorker:
    """A worker in a thread, the events that it told of, and its health endpoint."""

    def __init__(self, app: App, **options) -> None:
        self.events: list[events.Event] = []
        self.error: BaseException | None = None
        quick = {"fetch_job_polling_interval": 0.2, "update_heartbeat_interval": 0.2, "install_signal_handlers": False}
        self.worker = Worker(app, **{**quick, "health_port": 0, "observers": [self.events.append], **options})
        self._app = app
        self._port: int | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        async def run() -> None:
            async with self._app.open_async():
                await self.worker.run()

        try:
            asyncio.run(run())
        except BaseException as error:  # noqa: BLE001  looked at by the test
            self.error = error

    @contextlib.contextmanager
    def running(self) -> Iterator[RunningWorker]:
        handler = logging.Handler()
        handler.emit = self._take_port
        logger = logging.getLogger("procrastinate.worker.health")
        logger.addHandler(handler)
        level = logger.level
        logger.setLevel(logging.INFO)
        self._thread.start()
        try:
            yield self
        finally:
            self.worker.stop()
            self.join()
            logger.removeHandler(handler)
            logger.setLevel(level)

    def _take_port(self, record: logging.LogRecord) -> None:
        if record.action == "health_endpoint_started":
            self._port = record.port

    def join(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    @property
    def port(self) -> int:
        wait_until(lambda: self._port, what="the port")
        return self._port

    def get(self, path: str, method: str = "GET") -> tuple[int, dict]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or "{}")

    def wait_for(self, path: str, status: int) -> dict:
        wait_until(lambda: self.get(path)[0] == status, seconds=PATIENCE, what=f"{status} on {path}")
        return self.get(path)[1]

    def told(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]

    def wait_told(self, kind: type) -> list:
        wait_until(lambda: self.told(kind), seconds=PATIENCE, what=kind.__name__)
        return self.told(kind)

    def raw(self, data: bytes) -> bytes:
        """Send bytes, and return what comes until the other side closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as client:
            client.sendall(data)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while part := client.recv(65_536):
                    answer += part
            return answer


@pytest.fixture
def gate():
    """What held tasks wait for."""
    return threading.Event()


@pytest.fixture
def app(database, gate):
    app = App(connector=PsycopgConnector(conninfo=database, min_size=1, max_size=4, timeout=3))

    @app.task(name="hold", queue="q")
    def hold():
        gate.wait(PATIENCE)

    @app.task(name="block")
    async def block():
        gate.wait(PATIENCE)  # on the loop

    @app.task(name="fail")
    async def fail():
        raise ValueError("on purpose")

    @app.task(name="add")
    async def add(a, b):
        return a + b

    return app


@pytest.fixture
def run(app, gate):
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(RunningWorker(app, **options).running())
        gate.set()  # or the workers would wait for what they run


@pytest.fixture
def defer(database):
    """Defer a job from outside, and return its id."""

    def insert(task: str, queue: str = "default", args: str = "{}") -> int:
        with psycopg.connect(database, autocommit=True) as connection:
            query = "insert into procrastinate_jobs (task_name, queue_name, args) values (%s, %s, %s) returning id"
            return connection.execute(query, [task, queue, args]).fetchone()[0]

    return insert


@contextlib.contextmanager
def away(database: str) -> Iterator[None]:
    """Have the database refuse and drop everybody."""
    name = conninfo_to_dict(database)["dbname"]
    with psycopg.connect(make_conninfo(database, dbname="postgres"), autocommit=True) as server:

        def allow(word: str) -> None:
            server.execute(
                psycopg.sql.SQL("alter database {} allow_connections " + word).format(psycopg.sql.Identifier(name))
            )

        allow("false")
        server.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
        try:
            yield
        finally:
            allow("true")


# Over HTTP


def test_a_worker_that_is_well(run, defer):
    worker = run(name="mary", queues=["default", "other"], concurrency=3)
    assert worker.wait_for("/readyz", 200) == {"ready": True, "problems": []}
    assert worker.get("/livez") == (200, {"alive": True, "problems": []})
    defer("add", args='{"a": 1, "b": 2}')
    wait_until(lambda: worker.get("/healthz")[1]["last_claim_age_seconds"] is not None)
    code, report = worker.get("/healthz?verbose=1")
    assert code == 200
    identity = report.pop("worker")
    assert isinstance(identity.pop("id"), int)
    assert identity == {"name": "mary", "queues": ["default", "other"], "concurrency": 3}
    assert report["alive"] is report["ready"] is True
    assert report["stopping"] is False
    assert 0 <= report["heartbeat_age_seconds"] < PATIENCE
    assert 0 <= report["last_fetch_age_seconds"] < PATIENCE
    assert report["queue_lag_seconds"] is not None
    names = {service["name"] for service in report["services"]}
    assert names >= {"fetcher", "completer", "listener", "lock opener", "housekeeping"}
    assert all(service["failures"] == 0 for service in report["services"])


def test_running_jobs_and_the_lag(run, defer, monkeypatch):
    monkeypatch.setattr(health, "LAG_INTERVAL", 0.0)
    worker = run()
    first = defer("hold", "q")
    wait_until(lambda: worker.get("/healthz")[1]["running"] == 1)
    defer("hold", "q")
    wait_until(lambda: worker.get("/healthz")[1]["queue_lag_seconds"].get("q", 0) > 0)
    [job] = worker.get("/healthz")[1]["running_jobs"]
    assert (job["id"], job["task"]) == (first, "hold")
    assert job["seconds"] >= 0


def test_a_blocked_loop_shows(run, defer, gate):
    worker = run(database_timeout=1)
    worker.wait_for("/readyz", 200)
    defer("block")
    assert worker.wait_for("/livez", 503)["problems"][0].startswith("the event loop has been blocked for ")
    code, report = worker.get("/healthz")
    assert (code, report["alive"], report["ready"]) == (503, False, False)
    assert report["loop_blocked_seconds"] > 1
    assert report["queue_lag_seconds"] is None
    # Its signs of life go on: nobody takes its jobs.
    assert report["heartbeat_age_seconds"] < PATIENCE
    gate.set()
    worker.wait_for("/livez", 200)
    worker.wait_for("/readyz", 200)


def test_a_worker_that_stops(run, defer):
    worker = run()
    defer("hold", "q")
    wait_until(lambda: worker.get("/healthz")[1]["running"] == 1)
    worker.worker.stop()
    assert worker.wait_for("/readyz", 503)["problems"] == ["it is stopping"]
    assert worker.get("/livez")[0] == 200


def test_the_database_is_away(run, database):
    worker = run(stalled_worker_timeout=1)
    worker.wait_for("/readyz", 200)
    with away(database):
        problems = worker.wait_for("/readyz", 503)["problems"]
        assert any(problem.startswith("service fetcher has been failing") for problem in problems) or any(
            problem.startswith("the latest sign of life is") for problem in problems
        )
        assert worker.get("/livez")[0] == 200
    worker.wait_for("/readyz", 200)


def test_what_is_no_question(run):
    worker = run()
    assert worker.get("/livez", "HEAD") == (200, {})
    code, answer = worker.get("/")
    assert (code, answer["error"]) == (404, "there are /livez, /readyz and /healthz")
    assert worker.get("/livez", "POST")[0] == 405
    assert worker.get("/livez", "DELETE")[0] == 405
    assert worker.raw(b"hello\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert worker.raw(b"GET /livez SMTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert worker.raw(b"\xff\x00 \xfe HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 405 ")
    big = worker.raw(b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 5_000 + b"\r\n")
    assert big.startswith(b"HTTP/1.1 431 ") or not big  # it may be cut off before it reads the answer
    two = b"GET /livez HTTP/1.1\r\n\r\n" * 2
    assert worker.raw(two).count(b"HTTP/1.1 200 OK") == 1
    assert worker.get("/livez")[0] == 200


def test_clients_that_are_slow_or_many(run, monkeypatch):
    monkeypatch.setattr(health, "PATIENCE", 1.0)
    monkeypatch.setattr(health, "MOST_CONNECTIONS", 8)
    worker = run()
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", worker.port), timeout=PATIENCE))
            for _ in range(20)
        ]
        for client in clients:
            with contextlib.suppress(OSError):
                client.sendall(b"GET /livez HT")
        # Each of them is cut off, those that are too many at once.
        for client in clients:
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
    assert worker.get("/livez")[0] == 200


def test_a_port_that_is_taken(procrastinate_command, jobs_table):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = procrastinate_command.run("worker", PROCRASTINATE_WORKER_HEALTH_PORT=str(port))
    assert result.returncode == 1
    assert f"The health endpoint cannot listen on 127.0.0.1, port {port}: " in result.stderr
    assert "health_port" in result.stderr
    assert jobs_table.connection.execute("select count(*) from procrastinate_workers").fetchone() == (0,)


def test_a_host_that_is_none(run):
    worker = run(health_host="no-such-host.invalid")
    wait_until(lambda: worker.error)
    assert isinstance(worker.error, OSError)
    assert "cannot listen on no-such-host.invalid" in str(worker.error)


def free_ports() -> int:
    """Return the first of two neighbouring ports that are free."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first, contextlib.suppress(OSError, OverflowError):
            port = first.getsockname()[1]
            with socket.create_server(("127.0.0.1", port + 1)):
                return port


def test_several_processes(procrastinate_command):
    port = free_ports()
    supervisor = procrastinate_command.start("worker", "--processes=2", f"--health-port={port}")
    for each in (port, port + 1):
        supervisor.wait_for(f"Health endpoint on http://127.0.0.1:{each}/healthz")
    supervisor.process.send_signal(signal.SIGTERM)
    assert supervisor.end() == 0


def test_a_stopped_process_says_nothing_and_then_goes_on(procrastinate_command):
    worker = procrastinate_command.start("worker", "--health-port=0")
    worker.wait_for("Health endpoint on ")
    port = int(re.search(r"127\.0\.0\.1:(\d+)", worker.stderr)[1])
    os.kill(worker.process.pid, signal.SIGSTOP)
    stat = Path(f"/proc/{worker.process.pid}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", what="a process that stands still")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=0.5)
    with contextlib.closing(connection):
        connection.request("GET", "/livez")
        with pytest.raises(TimeoutError):
            connection.getresponse()
    os.kill(worker.process.pid, signal.SIGCONT)

    def is_alive() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", "/livez")
            return connection.getresponse().status == 200

    wait_until(is_alive)


# Observers


def test_jobs_that_start_and_end(run, defer):
    worker = run(health_port=None)
    good, bad = defer("add", args='{"a": 1, "b": 2}'), defer("fail")
    wait_until(lambda: len(worker.told(events.JobEnded)) == 2)
    assert {event.job.id for event in worker.told(events.JobStarted)} == {good, bad}
    ended = {event.job.id: event for event in worker.told(events.JobEnded)}
    assert (ended[good].status, ended[good].error) == (Status.SUCCEEDED, None)
    assert ended[bad].status is Status.FAILED
    assert isinstance(ended[bad].error, ValueError)
    assert all(event.seconds >= 0 for event in ended.values())


@pytest.mark.parametrize("queue", ["q", "elsewhere"])
def test_a_refused_outcome(run, defer, app, gate, database, queue):
    """Whether this worker takes the job again, and ends both runs in one batch, or nobody does."""
    worker = run(health_port=None, queues=["q"], concurrency=2)
    job_id = defer("hold", "q")
    wait_until(lambda: worker.told(events.JobStarted))
    with psycopg.connect(database, autocommit=True) as connection:
        app.job_manager.retry_job_by_id(job_id, types.utcnow(), queue=queue, connection=connection)
    if queue == "q":
        wait_until(lambda: len(worker.told(events.JobStarted)) == 2)
    gate.set()
    assert [event.job.id for event in worker.wait_told(events.OutcomeRefused)] == [job_id]


def test_a_rescued_job(run, database):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "insert into procrastinate_jobs (task_name, queue_name, status, worker_id, claims, attempted_at) "
            "values ('add', 'elsewhere', 'doing', 77, 1, now())"
        )
    worker = run(health_port=None, wait=True, queues=["q"], stalled_worker_timeout=1)
    [event] = worker.wait_told(events.JobRescued)
    assert (event.job_id, event.task_name, event.queue) == (1, "add", "elsewhere")
    assert (event.status, event.worker_id) == (Status.TODO, 77)


def test_the_connection_is_lost_and_found(run, database):
    worker = run(health_port=None)
    wait_until(lambda: worker.worker.worker_id)
    with away(database):
        wait_until(lambda: {"heartbeat", "fetcher"} <= {event.service for event in worker.told(events.ServiceFailed)})
    wait_until(
        lambda: {"heartbeat", "fetcher"} <= {event.service for event in worker.told(events.ServiceRecovered)},
        seconds=PATIENCE,
    )
    assert all(isinstance(event.error, Exception) and event.failures for event in worker.told(events.ServiceFailed))


def test_a_worker_that_was_taken_for_dead(run, database):
    worker = run(health_port=None)
    wait_until(lambda: worker.worker.worker_id)
    worker_id = worker.worker.worker_id
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("delete from procrastinate_workers")
    assert worker.wait_told(events.WorkerRevived) == [events.WorkerRevived(worker_id=worker_id)]


def test_the_watchdog(run, database):
    worker = run(health_port=None, database_timeout=1)
    wait_until(lambda: worker.worker.worker_id)
    with away(database):
        [event] = worker.wait_told(events.WatchdogFired)
        worker.join()
    assert event.seconds > 1
    assert isinstance(worker.error, exceptions.WorkerStopped)


def test_an_observer_that_fails_changes_nothing(run, defer, jobs_table, caplog):
    def broken(event):
        raise ValueError("a broken observer")

    run(health_port=None, observers=[broken])
    jobs_table.wait_for_status(defer("add", args='{"a": 1, "b": 2}'), "succeeded")
    assert "a broken observer" in caplog.text


def test_nothing_is_left_of_the_endpoint(run):
    worker = run()
    worker.wait_for("/readyz", 200)
    worker.worker.stop()
    worker.join()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", worker.port), timeout=PATIENCE)
    wait_until(lambda: "procrastinate health" not in {thread.name for thread in threading.enumerate()})
