"""Workers on the in-memory connector, as users run them in their tests."""

from __future__ import annotations

import asyncio
import datetime
import threading

import pytest

import procrastinate
from procrastinate import exceptions, testing

HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def connector():
    return testing.InMemoryConnector()


@pytest.fixture
def app(connector):
    return procrastinate.App(connector=connector)


@pytest.fixture(params=["sync", "async"])
def run_worker(request, app):
    """Run all jobs: in a test without a loop, and from within one."""

    async def run_in_loop():
        await app.run_worker_async(wait=False, install_signal_handlers=False)

    if request.param == "sync":
        return lambda **options: app.run_worker(wait=False, **options)
    return lambda: asyncio.run(run_in_loop())


def statuses(connector):
    return [row["status"] for row in connector.jobs.values()]


def test_colors_and_results(app, connector, run_worker):
    threads = []

    @app.task
    def in_a_thread():
        threads.append(threading.current_thread() is threading.main_thread())

    @app.task
    async def on_the_loop():
        threads.append(threading.current_thread() is threading.main_thread())

    in_a_thread.defer()
    on_the_loop.defer()
    run_worker()
    assert sorted(threads) == [False, True]
    assert statuses(connector) == ["succeeded", "succeeded"]
    assert connector.workers == {}


async def test_in_an_async_test(app, connector):
    @app.task
    async def outer():
        await inner.defer_async()

    @app.task
    def inner():
        innermost.defer()

    @app.task
    async def innermost():
        pass

    await outer.defer_async()
    await app.run_worker_async(wait=False)
    assert [(row["task_name"].split(".")[-1], row["status"]) for row in connector.jobs.values()] == [
        ("outer", "succeeded"),
        ("inner", "succeeded"),
        ("innermost", "succeeded"),
    ]


def test_retries(app, connector, run_worker):
    @app.task(retry=2)
    def fail():
        raise ValueError("on purpose")

    fail.defer()
    run_worker()
    assert statuses(connector) == ["failed"]
    assert connector.jobs[1]["attempts"] == 3
    types = [event["type"] for event in connector.events[1]]
    assert (types.count("started"), types.count("deferred_for_retry"), types[-1]) == (3, 2, "failed")


def test_locks_keep_their_order(app, connector, run_worker):
    order = []

    @app.task(lock="one")
    async def t(number):
        order.append(number)

    for number in (1, 2):
        t.configure(schedule_in={"hours": 2 - number}).defer(number=number)
    run_worker()
    # As in PostgreSQL, the second waits for the first although it is due.
    assert order == []
    connector.advance(hours=1)
    run_worker()
    assert order == [1, 2]


def test_queueing_lock(app):
    @app.task(queueing_lock="one")
    def t():
        pass

    t.defer()
    with pytest.raises(exceptions.AlreadyEnqueued, match="one"):
        t.defer()


def test_scheduled_jobs_run_when_time_has_passed(app, connector, run_worker):
    @app.task
    def t():
        pass

    t.configure(schedule_in={"hours": 2}).defer()
    before = connector.jobs[1]["scheduled_at"]
    connector.advance(hours=1, minutes=59)
    run_worker()
    assert statuses(connector) == ["todo"]
    connector.advance(minutes=1)
    run_worker()
    assert statuses(connector) == ["succeeded"]
    assert before - connector.jobs[1]["scheduled_at"] == 2 * HOUR


def test_what_is_scheduled_after_time_has_passed_waits_anew(app, connector, run_worker):
    """A clock that ran ahead would make retries with a pause, and jobs that defer themselves, run without an end."""

    @app.task(retry=procrastinate.RetryStrategy(max_attempts=2, wait=3600))
    def fail():
        raise ValueError("on purpose")

    @app.task
    def again():
        again.configure(schedule_in={"hours": 1}).defer()

    fail.defer()
    again.defer()
    for runs in (1, 2, 3):
        run_worker()
        assert connector.jobs[1]["attempts"] == runs
        assert len(connector.jobs) == runs + 2
        connector.advance(hours=1)
    assert connector.jobs[1]["status"] == "failed"


def test_old_jobs_after_time_has_passed(app, connector, run_worker):
    @app.task(retry=1)
    def t():
        raise ValueError("on purpose")

    t.defer()
    run_worker()
    happened = connector.events[1]
    connector.advance(days=3)
    assert connector.events[1] == [{**event, "at": event["at"] - 72 * HOUR} for event in happened]
    asyncio.run(app.job_manager.delete_old_jobs(nb_hours=71, include_failed=True))
    assert connector.jobs == {}


async def test_running_worker_notices_that_time_has_passed(app, connector):
    ran = asyncio.Event()

    @app.task
    async def t():
        ran.set()

    await t.configure(schedule_in={"hours": 1}).defer_async()
    worker = asyncio.create_task(app.run_worker_async(fetch_job_polling_interval=1000, install_signal_handlers=False))
    async with asyncio.timeout(20):
        while not connector.notify_channels:
            await asyncio.sleep(0.01)
        connector.advance(hours=1)
        await ran.wait()
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


def test_time_takes_what_timedelta_takes(connector):
    with pytest.raises(TypeError, match="fortnights"):
        connector.advance(fortnights=1)


def test_time_of_the_users_own(run_worker):
    """Those who freeze all clocks need no other way."""
    now = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    connector = testing.InMemoryConnector(now=lambda: now)
    app = procrastinate.App(connector=connector)

    @app.task(name="t")
    def t():
        pass

    t.configure(schedule_at=now + HOUR).defer()
    app.run_worker(wait=False)
    assert statuses(connector) == ["todo"]
    now += HOUR
    app.run_worker(wait=False)
    assert statuses(connector) == ["succeeded"]
    assert connector.events[1][-1] == {"type": "succeeded", "at": now}


def test_periodic_tasks(app, connector, run_worker):
    ticks = []

    @app.periodic(cron="0 4 * * *")
    @app.periodic(cron="30 4 * * *", periodic_id="later", queue="other")
    @app.task(name="t")
    def t(timestamp):
        ticks.append(timestamp)

    four = datetime.datetime(2030, 1, 1, 4, tzinfo=datetime.UTC)
    assert testing.defer_periodic_jobs(app, four - HOUR) == []
    assert testing.defer_periodic_jobs(app, four) == [1]
    assert testing.defer_periodic_jobs(app, four + HOUR / 60) == []
    assert testing.defer_periodic_jobs(app, four + HOUR / 2) == [2]
    assert [row["queue_name"] for row in connector.jobs.values()] == ["default", "other"]
    assert connector.periodic_defers == {("t", ""): four.timestamp(), ("t", "later"): (four + HOUR / 2).timestamp()}
    run_worker()
    assert ticks == [four.timestamp(), (four + HOUR / 2).timestamp()]
    with pytest.raises(ValueError, match="aware"):
        testing.defer_periodic_jobs(app, datetime.datetime(2030, 1, 1))  # noqa: DTZ001  on purpose
    assert testing.defer_periodic_jobs(app) == []


def test_replace_connector(run_worker):
    real = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo="host=nowhere.invalid"))

    @real.task(name="t")
    def t(a):
        pass

    with real.replace_connector(testing.InMemoryConnector()) as app:
        t.defer(a=1)
        app.run_worker(wait=False)
        assert app.connector.states == ["open_async", "closed_async"]
        [row] = app.connector.finished_jobs
        assert row["status"] == "succeeded"
    with pytest.raises(exceptions.AppNotOpen):
        t.defer(a=1)


def test_arguments_are_what_comes_back_from_the_database(app, connector):
    @app.task
    def t(a):
        pass

    given = {"x": [1]}
    t.defer(a=given)
    given["x"].append(2)
    assert connector.jobs[1]["args"] == {"a": {"x": [1]}}
    t.defer(a=(1, {2: 3}))
    assert connector.jobs[2]["args"] == {"a": [1, {"2": 3}]}
    with pytest.raises(TypeError):
        t.defer(a=object())
    with pytest.raises(exceptions.ConnectorException):
        t.defer(a=float("nan"))


def test_divergences_of_other_in_memory_connectors(app, connector):
    """Each answer is that of PostgreSQL."""

    @app.task(name="t")
    def t():
        pass

    manager = app.job_manager
    done = t.defer()
    app.run_worker(wait=False)
    assert manager.cancel_job_by_id(done, abort=True) is False
    assert manager.cancel_job_by_id(1234) is False
    with pytest.raises(exceptions.NoResult):
        manager.get_job_status(1234)
    now = datetime.datetime.now(tz=datetime.UTC)
    for job_id in (done, 1234):
        with pytest.raises(exceptions.ConnectorException, match="invalid status to retry"):
            manager.retry_job_by_id(job_id, retry_at=now)
        with pytest.raises(exceptions.ConnectorException, match='not in "doing" or "todo"'):
            asyncio.run(manager.finish_job_by_id_async(job_id, procrastinate.jobs.Status.FAILED, delete_job=False))
    waiting = t.configure(lock="l").defer()
    assert manager.cancel_job_by_id(waiting, abort=True) is True
    assert [event["type"] for event in connector.events[waiting]] == ["deferred", "abort_requested", "cancelled"]
    assert [line["name"] for line in manager.list_locks()] == ["l"]
    with pytest.raises(exceptions.ConnectorException, match="No worker is registered"):
        asyncio.run(manager.fetch_job(None, 99))


def test_reset(app, connector):
    @app.task(name="t")
    def t():
        pass

    t.defer()
    connector.open()
    connector.table_exists = False
    assert app.check_connection() is False
    connector.reset()
    assert (connector.jobs, connector.states, connector.queries) == ({}, [], [])
    assert app.check_connection() is True
    assert t.defer() == 1
    name, parameters = connector.queries[-1]
    assert (name, parameters["job"].task_name) == ("defer_job", "t")
