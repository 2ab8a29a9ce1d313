"""Names that are written to hurt, through every verb: they are names, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import inspect
import json

import psycopg
import pytest
from acceptance_tools import wait_until

from conformance.conftest import CONNECTORS
from procrastinate import App, exceptions, types
from procrastinate.connector import BaseAsyncConnector
from procrastinate.jobs import Status
from procrastinate.schema import SchemaManager
from procrastinate.store.inspection import CountFoundJobs, FindJobs, JobFilter, MeasureLag
from procrastinate.testing import InMemoryConnector

NAMES = [
    '"; drop table procrastinate_jobs; --',
    "'; drop table procrastinate_jobs; --",
    "'); delete from procrastinate_jobs; --",
    "$$; drop table procrastinate_jobs; $$",
    "'",
    '"',
    "\\",
    "\\'; select 1; --",
    "E'\\x27'",
    "%s",
    "%(queue)s",
    "%(x)s %% %",
    "$1",
    ":name",
    "{0} {queue}",
    "a\nb\r\n\tc",
    "--",
    "/* a",
    "\u202edrop\u200b",
    "🐘" * 25,  # 100 bytes
    "NULL",
    "*",
    " ",
    "_%",
]
KINDS = ["memory", "psycopg", "sync_psycopg", "asyncpg"]


class Verbs:
    """The verbs of an app, of whatever colour its connector is."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._is_async = isinstance(app.connector, BaseAsyncConnector)

    async def __call__(self, owner, verb: str, *arguments, **options):
        name = f"{verb}_async" if self._is_async and hasattr(owner, f"{verb}_async") else verb
        method = getattr(owner, name)
        if inspect.iscoroutinefunction(method):
            return await method(*arguments, **options)
        return await asyncio.to_thread(method, *arguments, **options)

    async def manage(self, verb: str, *arguments, **options):
        return await self(self.app.job_manager, verb, *arguments, **options)

    async def ask(self, operation):
        if self._is_async:
            return await self.app.connector.run_async(operation)
        return await asyncio.to_thread(self.app.connector.run, operation)


@pytest.fixture(params=KINDS)
async def verbs(request):
    kind = request.param
    connector = InMemoryConnector() if kind == "memory" else CONNECTORS[kind](request.getfixturevalue("database"))
    app = App(connector=connector)
    if isinstance(connector, BaseAsyncConnector):
        async with app.open_async():
            yield Verbs(app)
    else:
        await asyncio.to_thread(app.open)
        yield Verbs(app)
        await asyncio.to_thread(app.close)


async def everything(verbs: Verbs) -> list:
    """Return all jobs. Fails if their table is gone."""
    return list(await verbs.manage("list_jobs"))


async def test_deferring(verbs):
    for count, name in enumerate(NAMES):
        deferrer = verbs.app.configure_task(
            name, queue=name, lock=name, queueing_lock=name, task_kwargs={name: name, "nested": [name, {name: name}]}
        )
        job_id = await verbs(deferrer, "defer")
        jobs = await everything(verbs)
        assert len(jobs) == count + 1
        job = jobs[-1]
        assert (job.id, job.task_name, job.queue, job.lock, job.queueing_lock) == (job_id, name, name, name, name)
        assert job.task_kwargs == {name: name, "nested": [name, {name: name}]}
        with pytest.raises(exceptions.AlreadyEnqueued) as refused:
            await verbs(deferrer, "defer")
        assert name in str(refused.value) or repr(name) in str(refused.value)


async def test_deferring_many(verbs):
    for name in NAMES:
        deferrer = verbs.app.configure_task(name, queue=name, lock=name)
        await verbs(deferrer, "batch_defer", {name: name}, {name: 2})
        await verbs(deferrer, "defer_many", [{name: 3}])
        await verbs.manage("batch_defer_jobs", [deferrer.make_new_job(**{name: n}) for n in (4, 5)])
    jobs = await everything(verbs)
    assert [(job.task_name, job.queue, job.lock) for job in jobs] == [
        (name, name, name) for name in NAMES for _ in range(5)
    ]
    assert [job.task_kwargs for job in jobs] == [{name: n} for name in NAMES for n in (name, 2, 3, 4, 5)]


async def test_conditions_and_changes(verbs):
    ids = {name: await verbs(verbs.app.configure_task(name, queue=name, lock=name), "defer") for name in NAMES}
    for name, job_id in ids.items():
        for condition in ("queue", "task", "lock"):
            [job] = await verbs.manage("list_jobs", **{condition: name})
            assert job.id == job_id
            for group in ("queues", "tasks", "locks"):
                [counted] = await verbs.manage(f"list_{group}", **{condition: name})
                assert (counted["name"], counted["jobs_count"]) == (name, 1)
            [found] = await verbs.ask(FindJobs(conditions=JobFilter(**{condition: name}), limit=9))
            assert found.job.id == job_id
            assert await verbs.ask(CountFoundJobs(conditions=JobFilter(**{condition: name}))) == {"todo": 1}
        assert await verbs.manage("list_jobs", queueing_lock=name) == []
        assert list(await verbs.ask(MeasureLag(queues=[name]))) == [name]
    for name, job_id in ids.items():
        assert await verbs.manage("cancel_job_by_id", job_id)
        if isinstance(verbs.app.connector, BaseAsyncConnector):
            manager = verbs.app.job_manager
            assert await manager.get_stalled_jobs(queue=name, task_name=name) == []
            assert await manager.list_jobs_to_abort_async(queue=name) == []
            await manager.delete_old_jobs(0, queue=name, include_cancelled=False)
    assert [job.status for job in await everything(verbs)] == ["cancelled"] * len(NAMES)


async def test_what_is_no_status(verbs):
    await verbs(verbs.app.configure_task("t"), "defer")
    for name in NAMES:
        with pytest.raises(ValueError, match="There is no status"):
            await verbs.manage("list_jobs", status=name)
        with pytest.raises(exceptions.ConnectorException):
            await verbs.ask(FindJobs(conditions=JobFilter(statuses=[name]), limit=1))
    assert len(await everything(verbs)) == 1


@pytest.fixture(params=["memory", "psycopg", "asyncpg"])
async def app(request):
    connector = (
        InMemoryConnector()
        if request.param == "memory"
        else CONNECTORS[request.param](request.getfixturevalue("database"))
    )
    return App(connector=connector)


async def test_running_and_retrying(app):
    ran = []

    def declare(name: str) -> None:
        @app.task(name=name, queue=name, lock=name, queueing_lock=name, pass_context=True)
        async def task(context, **arguments):
            ran.append((context.job.queue, context.job.task_name, context.job.lock, arguments))
            raise ValueError(name)

    for name in NAMES:
        declare(name)
    async with app.open_async():
        for name in NAMES:
            await app.configure_task(name).defer_async(**{name: name})
        await app.run_worker_async(queues=NAMES, name=NAMES[0], wait=False, install_signal_handlers=False)
        assert sorted(ran) == sorted((name, name, name, {name: name}) for name in NAMES)
        jobs = await app.job_manager.list_jobs_async()
        assert [job.status for job in jobs] == ["failed"] * len(NAMES)
        for job, name in zip(jobs, NAMES, strict=True):
            at = types.utcnow() + datetime.timedelta(days=1)
            await app.job_manager.retry_job_by_id_async(job.id, at, queue=name, lock=f"{name}{name}")
        jobs = await app.job_manager.list_jobs_async(status="todo")
        assert [(job.queue, job.lock) for job in jobs] == [(name, name * 2) for name in NAMES]
        operation = FindJobs(conditions=JobFilter(), limit=len(NAMES), with_log=True)
        records = await app.connector.run_async(operation)
        assert [record.attempts_log[0]["message"] for record in records[::-1]] == NAMES


async def test_waking_workers_of_odd_queues(app):
    """Each queue has a channel of its own; the poll would come in an hour."""
    ran = []

    @app.task(name="note", pass_context=True)
    async def note(context):
        ran.append(context.job.queue)

    async with app.open_async():
        work = asyncio.create_task(
            app.run_worker_async(queues=NAMES, fetch_job_polling_interval=3600, install_signal_handlers=False)
        )
        for name in NAMES:
            await app.configure_task("note", queue=name).defer_async()
            async with asyncio.timeout(20):
                while not ran or ran[-1] != name:
                    assert not work.done()
                    await asyncio.sleep(0.01)
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
    assert ran == NAMES


async def test_periodic_tasks(app):
    @app.task(name="tick")
    async def tick(timestamp, **arguments): ...

    for name in NAMES:
        app.periodic(
            cron="* * * * *", periodic_id=name, queue=name, lock=name, queueing_lock=name, task_kwargs={name: name}
        )(tick)
    async with app.open_async():
        for name in NAMES:
            deferrer = app.tasks["tick"].configure(queue=name, lock=name, queueing_lock=name)
            job = deferrer.make_new_job(timestamp=60, **{name: name})
            assert await app.job_manager.defer_periodic_job(job, name, 60) is not None
            assert await app.job_manager.defer_periodic_job(job, name, 60) is None
        jobs = await app.job_manager.list_jobs_async()
    assert [(job.queue, job.lock) for job in jobs] == [(name, name) for name in NAMES]


@pytest.mark.parametrize("name", ["a\0b", "\0"])
async def test_nul(verbs, name):
    """PostgreSQL's texts know no NUL, and no driver may cut a name there."""
    for options in ({"queue": name}, {"lock": name}, {"queueing_lock": name}, {"task_kwargs": {name: 1}}):
        with pytest.raises((exceptions.ConnectorException, ValueError)):
            await verbs(verbs.app.configure_task("t", **options), "defer")
    assert await everything(verbs) == []


SCHEMAS = [name for name in NAMES if "$$" not in name and len(name.encode()) < 64] + ["🐘" * 15]


@pytest.mark.parametrize("kind", ["psycopg", "sync_psycopg", "asyncpg"])
@pytest.mark.parametrize("schema", SCHEMAS)
async def test_schemas(kind, schema, empty_database):
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(SchemaManager.get_schema(schema).encode())
        own = CONNECTORS[kind](empty_database, schema=schema)
        verbs = Verbs(App(connector=own))
        if isinstance(own, BaseAsyncConnector):
            async with verbs.app.open_async():
                await deferred_and_cancelled(verbs)
        else:
            await asyncio.to_thread(verbs.app.open)
            await deferred_and_cancelled(verbs)
            await asyncio.to_thread(verbs.app.close)
        query = (
            "select relnamespace::regnamespace::oid = (select oid from pg_namespace where nspname = %s) from pg_class"
        )
        found = connection.execute(f"{query} where relname = 'procrastinate_jobs'", [schema]).fetchall()
        assert found == [(True,)]


async def deferred_and_cancelled(verbs: Verbs) -> None:
    job_id = await verbs(verbs.app.configure_task("t", lock="l"), "defer", a=1)
    await verbs(verbs.app.configure_task("t"), "batch_defer", {"a": 2}, {"a": 3})
    assert await verbs.manage("cancel_job_by_id", job_id)
    assert await verbs.manage("get_job_status", job_id) is Status.CANCELLED
    assert len(await everything(verbs)) == 3


# The command line


ON_THE_COMMAND_LINE = [name for name in NAMES if not name.startswith("-") and name.strip()]


def test_command_line(in_process, connection):
    for count, name in enumerate(ON_THE_COMMAND_LINE, 1):
        result = in_process.run(
            "defer",
            f"--queue={name}",
            f"--lock={name}",
            f"--queueing-lock={name}",
            "--unknown",
            name,
            json.dumps({"a": name}),
        )
        assert result.returncode == 0, result.stderr
        row = connection.execute(
            "select queue_name, task_name, lock, queueing_lock, args ->> 'a' from procrastinate_jobs where id = %s",
            [int(result.stdout)],
        ).fetchone()
        assert row == (name, name, name, name, name)
        for conditions in (f"--queue={name}", f"--lock={name}", f"--task={name}", f"--queueing-lock={name}"):
            result = in_process.run("jobs", conditions, "--json")
            assert [job["queue"] for job in json.loads(result.stdout)] == [name]
        for command in ("queues", "tasks", "locks"):
            [line] = json.loads(in_process.run(command, f"--queue={name}", "--json").stdout)
            assert line["name"] == name
        assert in_process.run("cancel", "--yes", f"--queue={name}").returncode == 0
        statuses = connection.execute("select count(*) from procrastinate_jobs where status = 'cancelled'").fetchone()
        assert statuses == (count,)


def test_a_worker_on_the_command_line(procrastinate_command, jobs_table, insert_job):
    names = [name for name in ON_THE_COMMAND_LINE if "," not in name]
    ids = [insert_job(queue_name=name, task_name="add", args='{"a": 1, "b": 2}') for name in names]
    result = procrastinate_command.run("worker", "--one-shot", f"--name={names[0]}", "--", *names)
    assert result.returncode == 0, result.stderr
    wait_until(lambda: [jobs_table.status(job_id) for job_id in ids] == ["succeeded"] * len(ids))
