"""Sync calls on an app that is open asynchronously, and the other way round."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from acceptance_tools import wait_until

import procrastinate
from procrastinate import exceptions


@pytest.fixture
def app(database):
    return procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=database, min_size=1, max_size=4))


@pytest.fixture
async def open_app(app):
    async with app.open_async():
        yield app


@pytest.fixture
def leaf(app):
    """A task that others defer."""

    @app.task(name="leaf")
    def leaf(number=0):
        pass

    return leaf


async def run_all(app, **options):
    await app.run_worker_async(wait=False, install_signal_handlers=False, **options)


def statuses(jobs_table):
    return dict(zip(jobs_table.column("task_name"), jobs_table.column("status"), strict=True))


# Opening


async def test_sync_open_and_close_leave_an_async_app_open(open_app, leaf, jobs_table):
    assert open_app.open() is open_app
    await leaf.defer_async()
    open_app.close()
    await leaf.defer_async()
    with open_app.open():
        pass
    await leaf.defer_async()
    assert await asyncio.to_thread(leaf.defer) == 4
    assert len(jobs_table.column("id")) == 4


async def test_sync_open_in_a_thread(open_app, leaf):
    def use():
        with open_app.open():
            return leaf.defer()

    assert await asyncio.to_thread(use) == 1
    assert await leaf.defer_async() == 2


def test_one_after_the_other(app, leaf):
    with app.open():
        assert leaf.defer() == 1

    async def use():
        async with app.open_async():
            return await leaf.defer_async()

    assert asyncio.run(use()) == 2
    with pytest.raises(exceptions.AppNotOpen):
        leaf.defer()
    with app.open():
        assert leaf.defer() == 3
    assert asyncio.run(use()) == 4


def test_async_calls_need_an_async_app(app, leaf):
    with app.open(), pytest.raises(exceptions.AppNotOpen):
        asyncio.run(leaf.defer_async())


def test_async_calls_of_a_sync_connector(database):
    app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=database))
    task = app.task(name="t")(lambda: None)
    with app.open():
        assert task.defer() == 1
        with pytest.raises(exceptions.SyncConnectorConfigurationError, match="PsycopgConnector"):
            asyncio.run(task.defer_async())
    with pytest.raises(exceptions.SyncConnectorConfigurationError):
        app.run_worker(wait=False)


# On the loop's thread


async def test_sync_verbs_on_the_loops_own_thread(open_app, leaf):
    with pytest.raises(RuntimeError, match="defer_async"):
        leaf.defer()
    with pytest.raises(RuntimeError, match=r"asyncio\.to_thread"):
        leaf.batch_defer({}, {})
    with pytest.raises(RuntimeError, match="async"):
        open_app.job_manager.list_jobs()
    # Nothing was spoilt.
    assert await leaf.defer_async() == 1


async def test_async_task_that_defers_synchronously_fails_with_advice(open_app, leaf, jobs_table, caplog):
    @open_app.task(name="parent")
    async def parent():
        leaf.defer()

    await parent.defer_async()
    await run_all(open_app)
    assert statuses(jobs_table) == {"parent": "failed"}
    assert any("defer_async" in str(record.exc_info) for record in caplog.records if record.exc_info)


# In threads


@pytest.mark.parametrize("concurrency", [1, 10])
async def test_tasks_in_threads_defer_others(open_app, leaf, jobs_table, concurrency):
    @open_app.task(name="parent", pass_context=True)
    def parent(context, number):
        leaf.defer(number=number)
        leaf.configure(priority=1).batch_defer({"number": number}, {"number": number})
        assert len(context.app.job_manager.list_jobs(task="leaf")) >= 3

    await parent.batch_defer_async(*({"number": number} for number in range(10)))
    await run_all(open_app, concurrency=concurrency)
    assert jobs_table.column("status") == ["succeeded"] * 40


async def test_async_tasks_defer_others_through_threads(open_app, leaf, jobs_table):
    @open_app.task(name="parent")
    async def parent():
        await leaf.defer_async()
        await asyncio.to_thread(leaf.defer)

    await parent.defer_async()
    await run_all(open_app)
    assert jobs_table.column("status") == ["succeeded"] * 3


async def test_more_threads_than_connections(open_app, leaf, jobs_table):
    with ThreadPoolExecutor(32) as threads:
        loop = asyncio.get_running_loop()
        ids = await asyncio.gather(*(loop.run_in_executor(threads, leaf.defer) for _ in range(64)))
    assert sorted(ids) == sorted(jobs_table.column("id")) == list(range(1, 65))


async def test_every_sync_verb_in_a_thread(open_app, leaf):
    manager = open_app.job_manager

    def use():
        with pytest.raises(exceptions.AlreadyEnqueued):
            leaf.configure(queueing_lock="q").batch_defer({}, {})
        job_id = leaf.defer(number=5)
        assert manager.cancel_job_by_id(job_id)
        assert manager.get_job_status(job_id).value == "cancelled"
        assert [job.task_kwargs for job in manager.list_jobs()] == [{"number": 5}]
        assert [each["name"] for each in manager.list_queues()] == ["default"]
        assert open_app.check_connection()
        return job_id

    assert await asyncio.to_thread(use)


def test_main_thread_defers_while_a_worker_runs_in_another(app, leaf, jobs_table):
    class Stopper:
        worker = None

    @app.task(name="hook", pass_context=True)
    def hook(context):
        opened.set()

    async def catch(call_next, context, worker):
        Stopper.worker = worker
        return await call_next()

    opened = threading.Event()
    with app.open():
        hook.defer()
    thread = threading.Thread(
        target=app.run_worker, kwargs={"install_signal_handlers": False, "worker_middleware": [catch]}
    )
    thread.start()
    try:
        assert opened.wait(20)
        leaf.defer()
        wait_until(lambda: statuses(jobs_table) == {"hook": "succeeded", "leaf": "succeeded"})
    finally:
        Stopper.worker.stop()
        thread.join(20)
    assert not thread.is_alive()


# On another loop


async def test_deferring_from_another_loop(open_app, leaf, jobs_table):
    @open_app.task(name="parent")
    def parent():
        assert asyncio.run(leaf.defer_async()) == 2

    await parent.defer_async()
    await run_all(open_app)
    assert statuses(jobs_table) == {"parent": "succeeded", "leaf": "succeeded"}


async def test_more_loops_than_connections(open_app, leaf, jobs_table):
    def defer():
        for _ in range(4):
            asyncio.run(leaf.defer_async())
        rows = asyncio.run(open_app.connector.execute_query_all_async("select %(number)s::int as number", number=1))
        assert rows == [{"number": 1}]
        with pytest.raises(exceptions.AlreadyEnqueued):
            asyncio.run(leaf.configure(queueing_lock="q").batch_defer_async({}, {}))

    with ThreadPoolExecutor(16) as threads:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(threads, defer) for _ in range(16)))
    assert len(jobs_table.column("id")) == 64
