"""What a user of the Python API may rely on, one promise after the other: numbers 1 to 24."""

from __future__ import annotations

import asyncio
import threading
import time

import attrs
import psycopg
import psycopg_pool
import pytest

import procrastinate
from procrastinate import exceptions, jobs


@pytest.fixture
def app(database):
    return procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=database, max_size=8))


@pytest.fixture
async def open_app(app):
    async with app.open_async():
        yield app


async def run_all(app, **options):
    await app.run_worker_async(**{"wait": False, "install_signal_handlers": False, **options})


async def until(condition, seconds=15):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, condition
        await asyncio.sleep(0.01)


@pytest.fixture
async def start_worker(open_app):
    """Start workers that go on until the end of the test."""
    tasks = []

    def start(**options):
        options = {"install_signal_handlers": False, **options}
        tasks.append(asyncio.create_task(open_app.run_worker_async(**options)))
        return tasks[-1]

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# Deferring


def test_01_defer(app, connection):
    @app.task(name="t")
    def t(a):
        pass

    with app.open():
        assert t.defer(a=1) == 1
        assert t.defer(a=1) == 2
    row = connection.execute(
        "select status::text, attempts, queue_name, priority, lock, queueing_lock, args from procrastinate_jobs"
    ).fetchone()
    assert row == ("todo", 0, "default", 0, None, None, {"a": 1})


def test_02_batch_defer(app, jobs_table):
    @app.task(name="t")
    def t(a):
        pass

    with app.open():
        first, second = t.batch_defer({"a": 1}, {"a": 2})
        assert second == first + 1
        assert t.batch_defer() == []
    assert jobs_table.column("args") == [{"a": 1}, {"a": 2}]


def test_03_batch_with_one_queueing_lock(app, jobs_table):
    @app.task(name="t")
    def t():
        pass

    with app.open():
        with pytest.raises(exceptions.AlreadyEnqueued, match="queueing lock z"):
            t.configure(queueing_lock="z").batch_defer({}, {})
        assert jobs_table.column("id") == []
        assert t.configure(queueing_lock="z").defer()


def test_04_arguments_that_are_no_json(app, jobs_table):
    @app.task(name="t")
    def t(a):
        pass

    with app.open():
        with pytest.raises(TypeError):
            t.defer(a=object())
        with pytest.raises(exceptions.ConnectorException):
            t.defer(a=float("nan"))
    assert jobs_table.column("id") == []


def test_05_alias(app, jobs_table):
    @app.task(name="canonical", aliases=["alias"])
    def t():
        pass

    with app.open():
        app.configure_task("alias").defer()
    assert jobs_table.column("task_name") == ["canonical"]


async def test_06_transaction_of_the_callers_own(open_app, database, jobs_table):
    @open_app.task(name="t")
    def t():
        pass

    async with await psycopg.AsyncConnection.connect(database) as own:
        rolled_back = await t.configure(connection=own).defer_async()
        await own.rollback()
        committed = await t.configure(connection=own).defer_async()
        assert jobs_table.column("id") == []
        await own.commit()
    assert committed > rolled_back
    assert jobs_table.column("id") == [committed]


def test_06_sync_transaction_of_the_callers_own(app, database, jobs_table):
    @app.task(name="t")
    def t():
        pass

    with app.open(), psycopg.connect(database) as own:
        t.configure(connection=own).defer()
        own.rollback()
        committed = t.configure(connection=own).defer()
        own.commit()
    assert jobs_table.column("id") == [committed]


async def test_07_not_open(app):
    @app.task(name="t")
    async def t():
        pass

    with pytest.raises(exceptions.AppNotOpen):
        await t.defer_async()
    await app.open_async()
    await app.open_async()
    await t.defer_async()
    await app.close_async()
    await app.close_async()
    with pytest.raises(exceptions.AppNotOpen):
        await t.defer_async()
    async with app.open_async():
        await t.defer_async()


async def test_08_sync_verbs_while_open_asynchronously(open_app, jobs_table):
    @open_app.task(name="t")
    def t():
        pass

    with pytest.raises(RuntimeError, match="async"):
        t.defer()
    assert await asyncio.to_thread(t.defer) == 1
    assert jobs_table.column("id") == [1]


async def test_09_pool_of_the_callers_own_stays_open(app, database, jobs_table):
    @app.task(name="t")
    async def t():
        pass

    async with psycopg_pool.AsyncConnectionPool(database, min_size=1, open=False) as pool:
        async with app.open_async(pool):
            await t.defer_async()
        assert not pool.closed
        async with pool.connection() as own:
            await own.execute("select 1")
        # It is forgotten all the same, so that another one can be given.
        with pytest.raises(exceptions.AppNotOpen):
            await t.defer_async()


# Fetching and running


async def test_10_priorities(open_app):
    order = []

    @open_app.task(name="t")
    async def t(number):
        order.append(number)

    for number in (5, 7, 6):
        await t.configure(priority=number).defer_async(number=number)
    await run_all(open_app)
    assert order == [7, 6, 5]


async def test_11_one_lock_two_workers(open_app, start_worker):
    events = []
    gate = asyncio.Event()

    @open_app.task(name="t", lock="l")
    async def t(number):
        events.append(f"start {number}")
        await gate.wait()
        events.append(f"end {number}")

    await t.defer_async(number=1)
    start_worker(name="a")
    start_worker(name="b")
    await until(lambda: events == ["start 1"])
    await t.configure(priority=10).defer_async(number=2)
    # Time enough for a notified worker to make the mistake.
    await asyncio.sleep(0.3)
    assert events == ["start 1"]
    gate.set()
    await until(lambda: len(events) == 4)
    assert events == ["start 1", "end 1", "start 2", "end 2"]


async def test_12_priority_within_a_lock(open_app):
    order = []

    @open_app.task(name="t", lock="l")
    async def t(number):
        order.append(number)

    for number in (5, 10):
        await t.configure(priority=number).defer_async(number=number)
    await run_all(open_app, concurrency=5)
    assert order == [10, 5]


async def test_13_first_of_a_lock_in_the_future(open_app, jobs_table):
    @open_app.task(name="t", lock="l")
    async def t():
        pass

    later = await t.configure(schedule_in={"hours": 1}).defer_async()
    behind = await t.defer_async()
    await run_all(open_app)
    assert jobs_table.column("status") == ["todo", "todo"]
    assert await open_app.job_manager.cancel_job_by_id_async(later)
    await run_all(open_app)
    assert jobs_table.status(behind) == "succeeded"


async def test_14_retry(open_app, jobs_table):
    runs = []

    @open_app.task(name="t", retry=2, pass_context=True)
    async def t(context):
        runs.append(context.job.attempts)
        raise ValueError("on purpose")

    await t.defer_async()
    await run_all(open_app)
    assert runs == [0, 1, 2]
    assert jobs_table.column("status") == ["failed"]
    assert jobs_table.column("attempts") == [3]


async def test_15_bad_arguments_and_unknown_task(open_app, jobs_table, caplog):
    @open_app.task(name="t")
    async def t(a):
        pass

    jobs_table.connection.execute(
        "insert into procrastinate_jobs (queue_name, task_name, args) values "
        "('default', 't', '{\"b\": 1}'), ('default', 'unknown', '{}')"
    )
    await run_all(open_app)
    assert jobs_table.column("status") == ["failed", "failed"]
    assert jobs_table.column("attempts") == [1, 1]
    [record] = [record for record in caplog.records if getattr(record, "action", None) == "task_not_found"]
    assert record.levelname == "ERROR"


@pytest.mark.parametrize("color", ["sync", "async"])
async def test_16_concurrency(open_app, color, jobs_table):
    running = 0
    most = 0
    guard = threading.Lock()

    def count(change):
        nonlocal running, most
        with guard:
            running += change
            most = max(most, running)

    if color == "async":

        @open_app.task(name="t")
        async def t():
            count(1)
            await asyncio.sleep(0.1)
            count(-1)
    else:

        @open_app.task(name="t")
        def t():
            count(1)
            time.sleep(0.1)
            count(-1)

    await t.batch_defer_async(*({} for _ in range(100)))
    start = time.monotonic()
    await run_all(open_app, concurrency=20)
    elapsed = time.monotonic() - start
    assert jobs_table.column("status") == ["succeeded"] * 100
    assert 10 < most <= 20
    assert 0.5 <= elapsed < 5


async def test_17_additional_context(open_app):
    seen = []

    @open_app.task(name="t", pass_context=True)
    async def t(context):
        seen.append(context.additional_context["x"])
        context.additional_context["x"] = 2

    await t.batch_defer_async({}, {})
    await run_all(open_app, additional_context={"x": 1})
    assert seen == [1, 1]


@pytest.mark.parametrize(
    ("condition", "kept"),
    [("successful", ["aborted", "failed"]), ("always", []), ("never", ["aborted", "failed", "succeeded"])],
)
async def test_18_delete_jobs(open_app, connection, condition, kept):
    @open_app.task(name="succeed")
    async def succeed():
        pass

    @open_app.task(name="fail")
    async def fail():
        raise ValueError("on purpose")

    @open_app.task(name="abort")
    async def abort():
        raise exceptions.JobAborted

    for task in (succeed, fail, abort):
        await task.defer_async()
    await run_all(open_app, delete_jobs=condition)
    rows = connection.execute("select status::text from procrastinate_jobs order by status::text").fetchall()
    assert [row[0] for row in rows] == kept


# Cancelling


async def test_19_cancel_waiting(open_app, jobs_table):
    @open_app.task(name="t")
    async def t():
        pass

    cancel = open_app.job_manager.cancel_job_by_id_async
    job_id = await t.defer_async()
    assert await cancel(job_id) is True
    assert jobs_table.status(job_id) == "cancelled"
    assert await cancel(job_id) is False
    assert await cancel(12345) is False
    gone = await t.defer_async()
    assert await cancel(gone, delete_job=True) is True
    assert jobs_table.status(gone) is None


@pytest.mark.parametrize("listen", [True, False])
async def test_20_abort_running_async(open_app, start_worker, jobs_table, listen):
    @open_app.task(name="t")
    async def t():
        await asyncio.sleep(60)

    job_id = await t.defer_async()
    start_worker(listen_notify=listen, abort_job_polling_interval=1000 if listen else 0.1)
    await until(lambda: jobs_table.status(job_id) == "doing")
    cancel = open_app.job_manager.cancel_job_by_id_async
    assert await cancel(job_id) is False
    assert jobs_table.status(job_id) == "doing"
    start = time.monotonic()
    assert await cancel(job_id, abort=True) is True
    await until(lambda: jobs_table.status(job_id) == "aborted")
    assert time.monotonic() - start < 5
    assert jobs_table.column("attempts") == [1]
    assert jobs_table.column("abort_requested") == [False]
    assert await cancel(job_id, abort=True) is False


async def test_20_abort_running_sync(open_app, start_worker, jobs_table):
    asked = threading.Event()
    ignoring = threading.Event()

    @open_app.task(name="polite", pass_context=True)
    def polite(context):
        while not context.should_abort():
            time.sleep(0.01)
        asked.set()
        raise exceptions.JobAborted

    @open_app.task(name="stubborn")
    def stubborn():
        ignoring.wait(15)

    job_ids = [await polite.defer_async(), await stubborn.defer_async()]
    start_worker(concurrency=2)
    await until(lambda: jobs_table.column("status") == ["doing", "doing"])
    for job_id in job_ids:
        assert await open_app.job_manager.cancel_job_by_id_async(job_id, abort=True) is True
    await until(asked.is_set)
    await until(lambda: jobs_table.column("status") == ["aborted", "doing"])
    ignoring.set()
    await until(lambda: jobs_table.column("status") == ["aborted", "succeeded"])


async def test_21_swallowed_cancellation(open_app, start_worker, jobs_table):
    @open_app.task(name="t")
    async def t():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return

    job_id = await t.defer_async()
    start_worker()
    await until(lambda: jobs_table.status(job_id) == "doing")
    await open_app.job_manager.cancel_job_by_id_async(job_id, abort=True)
    await until(lambda: jobs_table.status(job_id) == "succeeded")


async def test_22_spontaneous_abort_is_not_retried(open_app, jobs_table):
    @open_app.task(name="t", retry=True)
    async def t():
        raise exceptions.JobAborted

    await t.defer_async()
    await run_all(open_app)
    assert jobs_table.column("status") == ["aborted"]
    assert jobs_table.column("attempts") == [1]


async def test_23_aborted_by_the_user_is_not_retried(open_app, start_worker, jobs_table):
    @open_app.task(name="t", retry=True)
    async def t():
        await asyncio.sleep(60)

    job_id = await t.defer_async()
    start_worker()
    await until(lambda: jobs_table.status(job_id) == "doing")
    await open_app.job_manager.cancel_job_by_id_async(job_id, abort=True)
    await until(lambda: jobs_table.status(job_id) == "aborted")
    assert jobs_table.column("attempts") == [1]
    assert jobs_table.column("abort_requested") == [False]


async def test_24_failure_after_an_abort_request_is_not_retried(open_app, jobs_table):
    @open_app.task(name="t", retry=True, pass_context=True)
    def t(context):
        context.app.job_manager.cancel_job_by_id(context.job.id, abort=True)
        while not context.should_abort():
            time.sleep(0.01)
        raise ValueError("on purpose")

    await t.defer_async()
    await run_all(open_app, abort_job_polling_interval=0.1)
    assert jobs_table.column("status") == ["failed"]
    assert jobs_table.column("attempts") == [1]


# Beyond the list


async def test_lock_that_became_free_is_used_at_once(open_app, start_worker, jobs_table):
    @open_app.task(name="t", lock="l")
    async def t():
        await asyncio.sleep(0.05)

    start = time.monotonic()
    await t.batch_defer_async(*({} for _ in range(5)))
    start_worker(concurrency=3, fetch_job_polling_interval=1000)
    await until(lambda: set(jobs_table.column("status")) == {"succeeded"})
    assert time.monotonic() - start < 5


async def test_immediate_retry_does_not_wait_for_polling(open_app, start_worker, jobs_table):
    @open_app.task(name="t", retry=3, pass_context=True)
    async def t(context):
        if context.job.attempts < 3:
            raise ValueError("on purpose")

    start = time.monotonic()
    job_id = await t.defer_async()
    start_worker(concurrency=3, fetch_job_polling_interval=1000)
    await until(lambda: jobs_table.status(job_id) == "succeeded")
    assert time.monotonic() - start < 5


async def test_scheduled_job_starts_when_it_is_due(open_app, start_worker, jobs_table):
    started = []

    @open_app.task(name="t")
    async def t():
        started.append(time.time())

    start_worker(fetch_job_polling_interval=1000)
    warm = await t.defer_async()
    await until(lambda: jobs_table.status(warm) == "succeeded")
    due = time.time() + 1
    await t.configure(schedule_in={"seconds": 1}).defer_async()
    await until(lambda: len(started) == 2)
    assert -0.05 < started[1] - due < 2


async def test_job_context(open_app):
    contexts = []

    @open_app.task(name="t", pass_context=True)
    def t(context, a):
        contexts.append(context)

    job_id = await t.defer_async(a=1)
    await run_all(open_app, name="me", queues=["default"])
    [context] = contexts
    assert context.app is open_app
    assert context.worker_name == "me"
    assert list(context.worker_queues) == ["default"]
    assert context.task is t
    assert (context.job.id, context.job.status, context.job.attempts) == (job_id, "doing", 0)
    assert context.job.worker_id is not None
    assert context.abort_reason() is None
    assert context.should_abort() is False


async def test_job_manager_sees_what_happened(open_app):
    @open_app.task(name="t")
    async def t():
        pass

    job_id = await t.defer_async()
    assert await open_app.job_manager.get_job_status_async(job_id) is jobs.Status.TODO
    await run_all(open_app)
    assert await open_app.job_manager.get_job_status_async(job_id) is jobs.Status.SUCCEEDED
    [job] = await open_app.job_manager.list_jobs_async(id=job_id)
    assert attrs.evolve(job, worker_id=None) == jobs.Job(
        id=job_id, status="succeeded", queue="default", lock=None, queueing_lock=None, task_name="t", attempts=1
    )
