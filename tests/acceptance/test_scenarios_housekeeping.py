"""What a user may rely on: periodic tasks and housekeeping, numbers 28 to 34. The last test counts all of them."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

import procrastinate
from procrastinate import exceptions, jobs, types

Status = jobs.Status


@pytest.fixture
async def app(database):
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=database, min_size=1, max_size=4))

    @app.task(name="succeed")
    async def succeed(**kwargs):
        pass

    @app.task(name="fail")
    async def fail():
        raise ValueError("on purpose")

    async with app.open_async():
        yield app


@pytest.fixture
def manager(app):
    return app.job_manager


async def run_all(app, **options):
    await app.run_worker_async(wait=False, install_signal_handlers=False, **options)


async def run_one(app, name):
    """Run a job of the task to its end, and return its id."""
    job_id = await app.configure_task(name).defer_async()
    await run_all(app)
    return job_id


def events(connection, job_id):
    rows = connection.execute("select type::text from procrastinate_events where job_id = %s order by id", [job_id])
    return [kind for (kind,) in rows]


def tick(timestamp):
    return jobs.Job(
        queue="default", lock=None, queueing_lock=None, task_name="succeed", task_kwargs={"timestamp": timestamp}
    )


# Periodic


async def test_28_each_tick_is_deferred_once(manager, jobs_table):
    assert await manager.defer_periodic_job(tick(100), "a", 100) == 1
    assert await manager.defer_periodic_job(tick(100), "a", 100) is None
    other = await manager.defer_periodic_job(tick(100), "b", 100)
    later = await manager.defer_periodic_job(tick(160), "a", 160)
    assert other is not None
    assert later is not None
    # Nor does a worker that lags behind defer it again.
    assert await manager.defer_periodic_job(tick(100), "a", 100) is None
    assert jobs_table.column("id") == [1, other, later]


async def test_29_timestamps_must_agree(manager, jobs_table):
    with pytest.raises(exceptions.InvalidTimestamp):
        await manager.defer_periodic_job(tick(100), "", 160)
    assert jobs_table.column("id") == []


async def test_30_every_second(app):
    timestamps: asyncio.Queue[int] = asyncio.Queue()

    @app.periodic(cron="* * * * * *")
    @app.task(name="every_second")
    async def every_second(timestamp):
        timestamps.put_nowait(timestamp)

    loop = asyncio.get_running_loop()
    worker = asyncio.create_task(app.run_worker_async(install_signal_handlers=False))
    async with asyncio.timeout(30):
        first = await timestamps.get()
        start = loop.time()
        rest = [await timestamps.get() for _ in range(3)]
    elapsed = loop.time() - start
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    assert rest == [first + 1, first + 2, first + 3]
    assert 1.5 < elapsed < 15


# Housekeeping


async def test_31_retry_by_hand(app, manager, connection, jobs_table):
    failed = await run_one(app, "fail")
    await manager.retry_job_by_id_async(failed, retry_at=types.utcnow())
    assert jobs_table.status(failed) == "todo"
    assert jobs_table.column("attempts") == [2]
    assert events(connection, failed)[-2:] == ["scheduled", "retried"]


@pytest.mark.parametrize("status", ["todo", "succeeded", "cancelled", "unknown"])
async def test_31_retry_of_what_neither_failed_nor_runs(app, manager, jobs_table, status):
    job_id = 1234
    if status == "succeeded":
        job_id = await run_one(app, "succeed")
    elif status != "unknown":
        job_id = await app.configure_task("succeed").defer_async()
    if status == "cancelled":
        await manager.cancel_job_by_id_async(job_id)
    with pytest.raises(exceptions.ConnectorException, match="invalid status to retry"):
        await manager.retry_job_by_id_async(job_id, retry_at=types.utcnow())
    assert jobs_table.status(job_id) == (None if status == "unknown" else status)


async def test_32_finish_twice(app, manager, jobs_table):
    job_id = await app.configure_task("succeed").defer_async()
    job = await manager.fetch_job(None, await manager.register_worker())
    assert job.id == job_id
    with pytest.raises(exceptions.ConnectorException, match="End status"):
        await manager.finish_job(job, Status.TODO, delete_job=False)
    assert jobs_table.status(job_id) == "doing"
    await manager.finish_job(job, Status.FAILED, delete_job=False)
    with pytest.raises(exceptions.ConnectorException, match="not found or not in"):
        await manager.finish_job(job, Status.SUCCEEDED, delete_job=False)
    assert jobs_table.status(job_id) == "failed"


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        ({}, ["aborted", "cancelled", "failed"]),
        ({"include_failed": True}, ["aborted", "cancelled"]),
        ({"include_cancelled": True}, ["aborted", "failed"]),
        ({"include_aborted": True}, ["cancelled", "failed"]),
        ({"include_failed": True, "include_cancelled": True, "include_aborted": True}, []),
    ],
)
async def test_33_delete_old_jobs(app, manager, jobs_table, flags, left):
    @app.task(name="abort")
    async def abort():
        raise exceptions.JobAborted

    for name in ("succeed", "fail", "abort"):
        await run_one(app, name)
    await manager.cancel_job_by_id_async(await app.configure_task("succeed").defer_async())
    waiting = await app.configure_task("succeed").defer_async()
    await manager.delete_old_jobs(nb_hours=0, **flags)
    assert sorted(jobs_table.column("status", f"id <> {waiting}")) == left
    assert jobs_table.status(waiting) == "todo"
    orphans = "select count(*) from procrastinate_events where job_id not in (select id from procrastinate_jobs)"
    assert jobs_table.connection.execute(orphans).fetchone() == (0,)


async def test_34_remove_old_jobs_by_the_command_line(app, connection, procrastinate_command, jobs_table):
    task = "builtin:procrastinate.builtin_tasks.remove_old_jobs"
    deferred = await asyncio.to_thread(procrastinate_command.run, "defer", task, json.dumps({"max_hours": 72}))
    assert deferred.returncode == 0, deferred.stderr
    assert jobs_table.column("queue_name") == ["builtin"]
    assert jobs_table.column("args") == [{"max_hours": 72}]
    await run_all(app, queues=["builtin"])
    assert jobs_table.column("status") == ["succeeded"]


def test_all_are_here():
    sources = [path.read_text() for path in Path(__file__).parent.glob("test_scenarios*.py")]
    numbers = {int(number) for source in sources for number in re.findall(r"def test_(\d\d)_", source)}
    assert numbers == set(range(1, 35))
