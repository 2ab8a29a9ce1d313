"""Cleaning up finished jobs, by the very lines that the documentation promises."""

from __future__ import annotations

import asyncio
import itertools
import os
import shlex
import time

import psycopg
import pytest

import procrastinate
from procrastinate import builtin_tasks, exceptions, types

AN_APP = """
import os
import procrastinate

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=os.environ["PROCRASTINATE_TEST_DSN"]), {options}
)

@app.task(name="succeed")
def succeed():
    pass

@app.task(name="fail")
def fail():
    raise ValueError("on purpose")
"""

CANONICAL = "builtin:procrastinate.builtin_tasks.remove_old_jobs"


def make_app(database: str, **options) -> procrastinate.App:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=database, max_size=4), **options)

    @app.task(name="succeed")
    def succeed():
        pass

    @app.task(name="fail")
    def fail():
        raise ValueError("on purpose")

    return app


@pytest.fixture
def command_in_own_app(procrastinate_command):
    """The command line with an app of its own, made with these options."""

    def make(options: str = ""):
        (procrastinate_command.folder / "own_app.py").write_text(AN_APP.format(options=options))
        procrastinate_command.environment["PROCRASTINATE_APP"] = "own_app.app"
        return procrastinate_command

    return make


@pytest.fixture
def two_jobs(connection):
    """One job that will succeed, and one that will fail."""
    for name in ("succeed", "fail"):
        connection.execute("insert into procrastinate_jobs (queue_name, task_name) values ('default', %s)", [name])


def add_finished(connection, status: str, hours: float, count: int = 1, queue: str = "default") -> None:
    connection.execute(
        """
        insert into procrastinate_jobs
          (queue_name, task_name, status, attempts, claims, created_at, attempted_at, finalized_at)
        select %(queue)s, 'old', %(status)s::procrastinate_job_status, 1, 1, moment, moment, moment
        from (select now() - make_interval(secs => %(hours)s::float8 * 3600) as moment) as moments,
          generate_series(1, %(count)s)
        """,
        {"queue": queue, "status": status, "hours": hours, "count": count},
    )


def left(connection) -> list[str]:
    rows = connection.execute(
        "select status::text from procrastinate_jobs where task_name <> %s order by 1", [CANONICAL]
    ).fetchall()
    return [row[0] for row in rows]


# delete_jobs


DELETE_JOBS = pytest.mark.parametrize(
    ("condition", "expected"),
    [("always", []), ("successful", ["failed"]), ("never", ["failed", "succeeded"])],
)


@DELETE_JOBS
def test_delete_jobs_as_worker_default(command_in_own_app, connection, two_jobs, condition, expected):
    command = command_in_own_app(f'worker_defaults={{"delete_jobs": "{condition}"}}')
    result = command.run("worker", "--one-shot")
    assert result.returncode == 0, result.stderr
    assert left(connection) == expected


@DELETE_JOBS
def test_delete_jobs_as_argument_of_run_worker(database, connection, two_jobs, condition, expected):
    app = make_app(database, worker_defaults={"wait": False})
    app.run_worker(delete_jobs=condition)
    assert left(connection) == expected


@DELETE_JOBS
def test_delete_jobs_on_the_command_line(command_in_own_app, connection, two_jobs, condition, expected):
    # What is typed goes before the app's own default.
    command = command_in_own_app('worker_defaults={"delete_jobs": "always"}')
    result = command.run(*shlex.split(f"worker --delete-jobs={condition}"), "--one-shot")
    assert result.returncode == 0, result.stderr
    assert left(connection) == expected


def test_delete_jobs_default_is_never(command_in_own_app, connection, two_jobs):
    assert command_in_own_app().run("worker", "--one-shot").returncode == 0
    assert left(connection) == ["failed", "succeeded"]


# remove_old_jobs from the command line


@pytest.mark.parametrize(
    "task",
    [
        "builtin:procrastinate.builtin_tasks.remove_old_jobs",
        "procrastinate_builtin_tasks.remove_old_jobs",
        "procrastinate.builtin_tasks.remove_old_jobs",
        "builtin:procrastinate.builtin.remove_old_jobs",
    ],
)
def test_remove_old_jobs_by_the_command_line(command_in_own_app, connection, task):
    command = command_in_own_app()
    for status, hours in itertools.product(("succeeded", "failed"), (71, 73)):
        add_finished(connection, status, hours)
    result = command.run(*shlex.split(f"defer {task} max_hours=72"))
    assert result.returncode == 0, result.stderr
    row = connection.execute(
        "select task_name, queue_name, args from procrastinate_jobs where id = %s", [int(result.stdout)]
    ).fetchone()
    assert row == (CANONICAL, "builtin", {"max_hours": 72})
    result = command.run("worker", "--one-shot")
    assert result.returncode == 0, result.stderr
    assert left(connection) == ["failed", "failed", "succeeded"]


def test_remove_old_jobs_deferred_twice(command_in_own_app, jobs_table):
    command = command_in_own_app()
    line = (
        "defer --queueing-lock=remove_old_jobs --ignore-already-enqueued "
        "procrastinate_builtin_tasks.remove_old_jobs max_hours=72"
    )
    first = command.run(*shlex.split(line))
    assert first.returncode == 0, first.stderr
    second = command.run(*shlex.split(line))
    assert second.returncode == 0, second.stderr
    assert "(ignored)" in second.stderr
    third = command.run(*shlex.split(line.replace("--ignore-already-enqueued ", "")))
    assert third.returncode == 1
    assert "there is already a job in the queue with the queueing lock remove_old_jobs" in third.stderr
    assert "Traceback" not in third.stderr
    assert jobs_table.column("id") == [int(first.stdout)]


# remove_old_jobs from code


def test_remove_old_jobs_from_code(database, connection):
    app = make_app(database)
    add_finished(connection, "succeeded", hours=73)
    with app.open():
        builtin_tasks.remove_old_jobs.defer(max_hours=72)
        builtin_tasks.remove_old_jobs.configure(queueing_lock="remove_old_jobs").defer(max_hours=72)
        with pytest.raises(exceptions.AlreadyEnqueued):
            builtin_tasks.remove_old_jobs.configure(queueing_lock="remove_old_jobs").defer(max_hours=72)
    names = connection.execute("select distinct task_name from procrastinate_jobs where status = 'todo'").fetchall()
    assert names == [(CANONICAL,)]
    app.run_worker(wait=False)
    assert left(connection) == []


@pytest.mark.parametrize(
    ("parameters", "kept"),
    [
        ({}, ["failed", "cancelled", "aborted", "other queue"]),
        ({"remove_failed": True}, ["cancelled", "aborted", "other queue"]),
        ({"remove_cancelled": True}, ["failed", "aborted", "other queue"]),
        ({"remove_aborted": True}, ["failed", "cancelled", "other queue"]),
        ({"queue": "q"}, ["failed", "cancelled", "aborted"]),
    ],
)
def test_remove_old_jobs_parameters(database, connection, parameters, kept):
    queue = parameters.get("queue", "default")
    for status in ("succeeded", "failed", "cancelled", "aborted"):
        add_finished(connection, status, hours=73, queue=queue)
    if "queue" in parameters:
        add_finished(connection, "succeeded", hours=73, queue="default")
        kept = [*kept, "succeeded"]
    kept = sorted(status for status in kept if status != "other queue")
    app = make_app(database)
    with app.open():
        builtin_tasks.remove_old_jobs.defer(max_hours=72, **parameters)
    app.run_worker(wait=False)
    assert left(connection) == kept


def test_max_hours_is_mandatory(database):
    app = make_app(database)
    with app.open(), pytest.raises(TypeError, match="max_hours"):
        builtin_tasks.remove_old_jobs.defer()


async def test_users_own_periodic_task(database, connection):
    app = make_app(database)
    # Not now, nor some minutes ago: the worker would run it once more.
    hour = (types.utcnow().hour + 12) % 24

    @app.periodic(cron=f"0 {hour} * * *")
    @app.task(queueing_lock="remove_old_jobs", pass_context=True)
    async def remove_old_jobs(context, timestamp):
        return await builtin_tasks.remove_old_jobs(
            context, max_hours=72, remove_failed=True, remove_cancelled=True, remove_aborted=True
        )

    for status in ("succeeded", "failed", "cancelled", "aborted"):
        add_finished(connection, status, hours=73)
        add_finished(connection, status, hours=71)
    async with app.open_async():
        await remove_old_jobs.defer_async(timestamp=0)
        await app.run_worker_async(wait=False, install_signal_handlers=False)
    rows = connection.execute("select task_name, status::text from procrastinate_jobs order by 1, 2").fetchall()
    assert rows == [
        *(("old", status) for status in ("aborted", "cancelled", "failed", "succeeded")),
        (remove_old_jobs.name, "succeeded"),
    ]


# Two apps in one process


@pytest.fixture
def second_database(database, template_database):
    """The conninfo of another database with the schema."""
    with psycopg.connect(database, autocommit=True) as connection:
        name = connection.info.dbname + "_2"
        connection.execute(f'create database "{name}" template "{template_database}" strategy file_copy')
    yield psycopg.conninfo.make_conninfo(database, dbname=name)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f'drop database "{name}" with (force)')


async def test_two_apps_each_keep_their_builtin_tasks(database, second_database):
    apps = [make_app(database), make_app(second_database)]
    for conninfo in (database, second_database):
        with psycopg.connect(conninfo, autocommit=True) as connection:
            add_finished(connection, "succeeded", hours=73)
    for app, conninfo in zip(apps, (database, second_database), strict=True):
        assert app.tasks[CANONICAL].name == CANONICAL
        async with app.open_async():
            await app.configure_task("procrastinate.builtin_tasks.remove_old_jobs").defer_async(max_hours=72)
            await app.run_worker_async(wait=False, install_signal_handlers=False)
        with psycopg.connect(conninfo) as connection:
            assert left(connection) == []
            rows = connection.execute("select task_name, status::text from procrastinate_jobs").fetchall()
            assert rows == [(CANONICAL, "succeeded")]


# Very many old jobs

MANY = int(os.environ.get("PROCRASTINATE_TEST_OLD_JOBS", "200000"))


@pytest.mark.timeout(180)
async def test_deleting_very_many_goes_by_windows_and_never_blocks_claiming(database, connection):
    add_finished(connection, "succeeded", hours=73, count=MANY)
    connection.execute("analyze procrastinate_jobs")
    app = make_app(database)
    counts: list[int] = []
    pauses: list[float] = []
    longest = 0.0
    async with app.open_async(), await psycopg.AsyncConnection.connect(database, autocommit=True) as watcher:
        worker_id = await app.job_manager.register_worker()
        deletion = asyncio.create_task(app.job_manager.delete_old_jobs(nb_hours=72))
        while not deletion.done():
            start = time.monotonic()
            job_id = await app.configure_task("succeed", queue="probe").defer_async()
            job = await app.job_manager.fetch_job(["probe"], worker_id)
            assert job is not None
            assert job.id == job_id
            pauses.append(time.monotonic() - start)
            cursor = await watcher.execute(
                "select (select count(*) from procrastinate_jobs where status = 'succeeded'), "
                "(select coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::float8 "
                "from pg_stat_activity where datname = current_database() and query ilike '%%for update skip locked%%' "
                "and state = 'active' and pid <> pg_backend_pid())"
            )
            row = await cursor.fetchone()
            assert row is not None
            counts.append(row[0])
            longest = max(longest, row[1])
        await deletion
    assert left(connection).count("succeeded") == 0
    # Each statement is a transaction of its own: somebody who looks sees the table shrink step by step.
    assert len(set(counts) - {0, MANY}) >= 3, counts
    assert longest < 2, "one statement deletes for so long"
    # Defer and claim took their usual time all along; a single transaction would not block them either, but it would
    # hold back vacuum, and a lock on the table would show here.
    assert max(pauses) < 2, max(pauses)
