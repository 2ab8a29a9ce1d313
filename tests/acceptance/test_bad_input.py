"""What users get wrong: a clear error, or it works; and the worker goes on."""

from __future__ import annotations

import asyncio
import datetime
import time

import psycopg
import pytest
from acceptance_tools import wait_until

import procrastinate
from procrastinate import exceptions


@pytest.fixture
def app(database):
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=database, max_size=4, timeout=20))

    @app.task(name="add")
    def add(a, b):
        return a + b

    @app.task(name="anything")
    async def anything(**kwargs):
        return kwargs

    return app


@pytest.fixture
async def open_app(app):
    async with app.open_async():
        yield app


async def run_all(app, **options):
    await app.run_worker_async(**{"wait": False, "install_signal_handlers": False, **options})


# Tasks and arguments


async def test_unknown_task(open_app, jobs_table, caplog):
    await open_app.configure_task("nobody.knows").defer_async()
    await open_app.configure_task("add").defer_async(a=1, b=2)
    await run_all(open_app)
    assert jobs_table.column("status") == ["failed", "succeeded"]
    assert jobs_table.column("attempts") == [1, 1]
    [record] = [record for record in caplog.records if getattr(record, "action", "") == "task_not_found"]
    assert record.levelname == "ERROR"
    assert "nobody.knows" in record.getMessage()


async def test_unknown_task_can_be_refused(open_app):
    with pytest.raises(exceptions.TaskNotFound, match=r"nobody\.knows"):
        open_app.configure_task("nobody.knows", allow_unknown=False)


async def test_arguments_that_do_not_fit(open_app, jobs_table):
    # An app that knows the task says so at once.
    with pytest.raises(TypeError, match="c"):
        await open_app.configure_task("add").defer_async(a=1, c=2)
    assert jobs_table.column("id") == []
    # One that does not leaves it to the worker.
    jobs_table.connection.execute(
        "insert into procrastinate_jobs (queue_name, task_name, args) values ('default', 'add', '{\"c\": 1}')"
    )
    await open_app.configure_task("add").defer_async(a=1, b=2)
    await run_all(open_app)
    assert jobs_table.column("status") == ["failed", "succeeded"]
    assert jobs_table.column("attempts") == [1, 1]


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("a\0b", exceptions.ConnectorException),
        (float("nan"), exceptions.ConnectorException),
        (float("inf"), exceptions.ConnectorException),
        ("\ud800", exceptions.ConnectorException),
        (object(), TypeError),
        ({1, 2}, TypeError),
    ],
)
async def test_values_that_postgresql_cannot_store(open_app, jobs_table, value, error):
    with pytest.raises(error) as caught:
        await open_app.configure_task("anything").defer_async(value=value)
    assert str(caught.value).strip()
    with pytest.raises(error):
        await open_app.configure_task("anything").batch_defer_async({"value": 1}, {"value": value})
    assert jobs_table.column("id") == []
    # Nothing is broken.
    await open_app.configure_task("anything").defer_async(value=1)
    await run_all(open_app)
    assert jobs_table.column("status") == ["succeeded"]


@pytest.mark.parametrize("word", ["value=a\\u0000b", 'value="a\\u0000b"', '{"value": NaN}'])
def test_values_that_postgresql_cannot_store_from_the_command_line(procrastinate_command, jobs_table, word):
    result = procrastinate_command.run("defer", "anything", word)
    if word.startswith("value=a"):
        # No JSON, so these are six letters of text.
        assert result.returncode == 0, result.stderr
        return
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip()) > 10
    assert jobs_table.column("id") == []


# Names


@pytest.mark.parametrize("option", ["queue", "task"])
async def test_names_over_128_characters(open_app, jobs_table, option):
    long = "x" * 129
    name = long if option == "task" else "anything"
    options = {"queue": long} if option == "queue" else {}
    with pytest.raises((exceptions.ConnectorException, ValueError)) as caught:
        await open_app.configure_task(name, **options).defer_async()
    assert "128" in str(caught.value)
    assert jobs_table.column("id") == []
    options = {"queue": "x" * 128} if option == "queue" else {}
    await open_app.configure_task("x" * 128 if option == "task" else "anything", **options).defer_async()
    await run_all(open_app)
    assert jobs_table.column("status") == ["failed" if option == "task" else "succeeded"]


@pytest.mark.parametrize("queue", ["q" * 100, "ü" * 64, "a 'b' \"c\" \\ %s # 🎉", "x" * 128])
async def test_long_and_odd_queue_names_are_notified(open_app, jobs_table, queue):
    # With these intervals only a notification can be what brings the job to the worker in time.
    worker = asyncio.create_task(
        open_app.run_worker_async(
            queues=[queue], install_signal_handlers=False, fetch_job_polling_interval=1000, listen_notify=True
        )
    )
    try:
        first = await open_app.configure_task("anything", queue=queue).defer_async()
        await done(jobs_table, first, worker)
        # The first may have been there before the worker looked; now it certainly waits.
        await asyncio.sleep(0.3)
        second = await open_app.configure_task("anything", queue=queue).defer_async()
        start = time.monotonic()
        await done(jobs_table, second, worker)
        assert time.monotonic() - start < 5
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def done(jobs_table, job_id, worker, seconds=15):
    deadline = time.monotonic() + seconds
    while jobs_table.status(job_id) != "succeeded":
        assert not worker.done(), worker
        assert time.monotonic() < deadline, jobs_table.status(job_id)
        await asyncio.sleep(0.01)


def test_queue_name_of_100_bytes_from_end_to_end(procrastinate_command, jobs_table):
    queue = "q" * 100
    worker = procrastinate_command.start("worker", "-q", queue, "-p", "1000")
    jobs_table.wait_for_status(procrastinate_command.run("defer", "--queue", queue, "anything").stdout, "succeeded")
    jobs_table.wait_for_status(procrastinate_command.run("defer", "--queue", queue, "anything").stdout, "succeeded")
    worker.process.terminate()
    assert worker.end() == 0


# Times


async def test_naive_datetime(open_app, jobs_table):
    with pytest.raises(ValueError, match=r"[Tt]ime ?zone"):
        open_app.configure_task("anything", schedule_at=datetime.datetime(2030, 1, 1))  # noqa: DTZ001
    assert jobs_table.column("id") == []


@pytest.mark.parametrize("cron", ["", "* * * *", "61 * * * *", "every day", "* * * * * * * * *"])
def test_bad_cron(app, cron):
    @app.task(name="tick")
    def tick(timestamp):
        pass

    with pytest.raises(ValueError, match=r"(?i)cron") as caught:
        app.periodic(cron=cron)(tick)
    assert repr(cron) in str(caught.value) or cron in str(caught.value)


# The schema


def test_schema_never_applied(make_commands, empty_database):
    commands = make_commands(empty_database)
    for arguments in (("defer", "anything"), ("worker", "--one-shot"), ("worker",)):
        result = commands.run(*arguments)
        assert result.returncode == 1, result.stderr
        assert "procrastinate schema --apply" in result.stderr
        assert "Traceback" not in result.stderr
        assert result.stdout == ""


async def test_schema_never_applied_from_code(empty_database):
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=empty_database))
    async with app.open_async():
        assert not await app.check_connection_async()
        with pytest.raises(exceptions.ConnectorException, match="schema --apply"):
            await app.configure_task("anything").defer_async()
        with pytest.raises(exceptions.ConnectorException, match="schema --apply"):
            await run_all(app)


async def test_schema_applied_twice_from_code(open_app):
    with pytest.raises(exceptions.ConnectorException, match="applied before"):
        await open_app.schema_manager.apply_schema_async()
    assert await open_app.schema_manager.is_applied_async()


# The server


NOBODY = "host=127.0.0.1 port=1 dbname=nothing"


@pytest.mark.parametrize(
    ("dsn", "arguments"),
    [
        (NOBODY, ("worker",)),
        (NOBODY, ("healthchecks",)),
        (NOBODY, ("defer", "anything")),
        (NOBODY, ("schema", "--apply")),
        ("host=no-such-host.invalid dbname=nothing", ("worker",)),
        ("this is no dsn", ("worker",)),
    ],
)
def test_wrong_dsn(make_commands, dsn, arguments):
    commands = make_commands(dsn)
    start = time.monotonic()
    result = commands.run(*arguments, PROCRASTINATE_TEST_POOL_TIMEOUT="1")
    assert result.returncode == 1, result.stderr
    assert time.monotonic() - start < 15
    assert len(result.stderr.strip()) > 10
    assert "Traceback" not in result.stderr
    assert "DB connection: OK" not in result.stdout


def test_forgotten_dsn_starts_no_server(make_commands, tmp_path):
    # Nothing says where the database is, and binaries of PostgreSQL are at hand: still a clear error.
    commands = make_commands("")
    for name in [name for name in commands.environment if name.startswith("PG")]:
        del commands.environment[name]
    variables = {
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "PROCRASTINATE_TEST_POOL_TIMEOUT": "2",
        # Whatever server may run on this machine, it is not here.
        "PGHOST": str(tmp_path),
    }
    result = commands.run("worker", **variables)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "data").exists()


# Workers


def test_two_workers_with_one_name(procrastinate_command, jobs_table, tmp_path):
    gates = [tmp_path / "gate-0", tmp_path / "gate-1"]
    workers = [procrastinate_command.start("worker", "--name", "twin") for _ in gates]
    held = [procrastinate_command.run("defer", "hold", f"path={gate}").stdout for gate in gates]
    for job_id in held:
        jobs_table.wait_for_status(job_id, "doing")
    assert len(set(jobs_table.column("worker_id"))) == 2
    for gate in gates:
        gate.touch()
    for job_id in held:
        jobs_table.wait_for_status(job_id, "succeeded")
    for worker in workers:
        worker.process.terminate()
    assert [worker.end() for worker in workers] == [0, 0]
    assert jobs_table.connection.execute("select count(*) from procrastinate_workers").fetchone() == (0,)


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"fetch_job_polling_interval": 0},
        {"delete_jobs": "sometimes"},
        {"queues": "one"},
        {"no_such_option": 1},
    ],
)
async def test_worker_options_that_make_no_sense(open_app, options):
    with pytest.raises((ValueError, TypeError)) as caught:
        await run_all(open_app, **options)
    assert str(caught.value)


def test_worker_goes_on(procrastinate_command, connection, jobs_table):
    """One worker is given everything that can be wrong with a job, and still works."""
    worker = procrastinate_command.start("worker", "--concurrency", "3")
    for name, arguments in [
        ("nobody.knows", "{}"),
        ("add", '{"c": 1}'),
        ("add", '{"self": 1, "a": 1, "b": 2}'),
        ("add", '{"a": 1, "b": "text"}'),
        ("fail", "{}"),
        ("x" * 128, "{}"),
    ]:
        connection.execute(
            "insert into procrastinate_jobs (queue_name, task_name, args) values ('default', %s, %s::jsonb)",
            [name, arguments],
        )
    wait_until(lambda: set(jobs_table.column("status")) == {"failed"}, what="all of them failed")
    good = procrastinate_command.run("defer", "add", "a=1", "b=2").stdout
    jobs_table.wait_for_status(good, "succeeded")
    worker.process.terminate()
    assert worker.end() == 0


def test_arguments_that_are_no_object(connection, procrastinate_command, jobs_table):
    """Only somebody who writes SQL can do this."""
    try:
        connection.execute(
            "insert into procrastinate_jobs (queue_name, task_name, args) values ('default', 'add', '[1]')"
        )
    except psycopg.errors.CheckViolation:
        return
    good = procrastinate_command.run("defer", "add", "a=1", "b=2").stdout
    result = procrastinate_command.run("worker", "--one-shot")
    assert result.returncode == 0, result.stderr
    assert jobs_table.status(good) == "succeeded"
    assert jobs_table.column("status")[0] == "failed"
