"""Workers on the connectors of other drivers: jobs with locks to the end, and aborts heard of by notification."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import selectors

import pytest

import procrastinate
from conformance.conftest import CONNECTORS, LISTENING
from procrastinate import jobs

OPTIONS = {"install_signal_handlers": False, "fetch_job_polling_interval": 1000, "abort_job_polling_interval": 1000}
PATIENCE = 20


@pytest.fixture(params=[kind for kind in LISTENING if kind != "psycopg"])
async def app(request, database):
    app = procrastinate.App(connector=CONNECTORS[request.param](database))
    async with app.open_async():
        yield app


async def test_fifty_jobs_with_locks(app, caplog):
    ran = collections.defaultdict(list)

    @app.task(name="work")
    async def work(lock, n):
        ran[lock].append(n)

    for n in range(50):
        await work.configure(lock=f"L{n % 7}").defer_async(lock=n % 7, n=n)
    async with asyncio.timeout(PATIENCE):
        await app.run_worker_async(wait=False, concurrency=5, **OPTIONS)
    assert dict(ran) == {lock: list(range(lock, 50, 7)) for lock in range(7)}
    found = await app.job_manager.list_queues_async()
    assert found[0]["succeeded"] == 50
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_told_of_new_jobs_and_aborts(app):
    """Both arrive long before anything is polled; deferred in a thread, and by another app's sync connector."""
    started, results = asyncio.Event(), []

    @app.task(name="sleep")
    async def sleep():
        started.set()
        await asyncio.Event().wait()

    @app.task(name="short")
    def short():
        results.append("short")

    worker = asyncio.create_task(app.run_worker_async(**OPTIONS))
    async with asyncio.timeout(PATIENCE):
        job_id = await asyncio.to_thread(sleep.defer)
        await started.wait()
        assert await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
        while await app.job_manager.get_job_status_async(job_id) is not jobs.Status.ABORTED:
            await asyncio.sleep(0.01)
        await short.defer_async()
        while not results:
            await asyncio.sleep(0.01)
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker


async def test_the_sync_twin(app):
    """What is deferred before the app is open asynchronously goes through a sync driver with the same settings."""

    @app.task(name="work")
    def work():
        pass

    await app.close_async()
    with app.open():
        work.defer()
    async with app.open_async():
        await work.defer_async()
        assert await asyncio.to_thread(work.defer) == 3
        with pytest.raises(RuntimeError, match="defer_async"):
            work.defer()
        app.open()
        app.close()
        assert app.check_connection is not None
        assert await app.check_connection_async()


@contextlib.asynccontextmanager
async def listening_on(connector, handle):
    """A task that hands to `handle` what arrives on the channel `here`, until the end of the block."""
    listening = asyncio.Event()
    await connector.open_async()
    listener = asyncio.create_task(connector.listen_notify(handle, ["here"], listening.set))
    try:
        await asyncio.wait([listener, asyncio.create_task(listening.wait())], return_when=asyncio.FIRST_COMPLETED)
        yield listener
    finally:
        listener.cancel()
        await asyncio.wait([listener])
        await connector.close_async()


@pytest.mark.parametrize("kind", LISTENING)
async def test_a_lost_listener_says_so(kind, database, connection):
    async def ignore(*, channel, payload):
        pass

    async with listening_on(CONNECTORS[kind](database), ignore) as listener, asyncio.timeout(PATIENCE):
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where query ilike 'listen%' and pid <> pg_backend_pid()"
        )
        with pytest.raises(procrastinate.exceptions.ConnectorException):
            await listener


@pytest.mark.parametrize("kind", LISTENING)
async def test_notifications_are_handled_one_after_another(kind, database, connection):
    """Also where a handler has to wait, and then one raises an error: who listens receives that."""
    may_go_on, handled = asyncio.Event(), []

    async def handle(*, channel, payload):
        if payload == "faulty":
            raise ValueError(payload)
        handled.append(f"{payload} begins")
        if payload == "slow":
            await may_go_on.wait()
        handled.append(f"{payload} ends")

    def send(*payloads):
        with connection.transaction():
            for payload in payloads:
                connection.execute("select pg_notify('here', %s)", [payload])

    async with listening_on(CONNECTORS[kind](database), handle) as listener, asyncio.timeout(PATIENCE):
        await asyncio.to_thread(send, "first", "slow", "last")
        while "slow begins" not in handled:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(send, "very last")
        assert handled == ["first begins", "first ends", "slow begins"]
        may_go_on.set()
        while "very last ends" not in handled:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(send, "faulty")
        with pytest.raises(ValueError, match="faulty"):
            await listener
    assert handled[3:] == ["slow ends", "last begins", "last ends", "very last begins", "very last ends"]


@pytest.mark.parametrize("kind", LISTENING)
async def test_notifications_arrive_after_silence(kind, database, connection, monkeypatch):
    """In silence the server is asked whether it is still there; nothing is lost before, beside or after that."""
    monkeypatch.setattr("procrastinate.connector.LISTEN_TIMEOUT", 0.05)
    handled = []

    async def handle(*, channel, payload):
        handled.append(int(payload))

    async with listening_on(CONNECTORS[kind](database), handle) as listener, asyncio.timeout(PATIENCE):
        for number in range(100):
            await asyncio.to_thread(connection.execute, "select pg_notify('here', %s)", [str(number)])
            await asyncio.sleep(number / 2_000)
        while len(handled) < 100:
            await asyncio.sleep(0.01)
        assert handled == list(range(100))
        assert not listener.done()
        listener.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listener


class _WatchedSelector(selectors.DefaultSelector):
    """Tells when the event loop would sleep for seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.on_long_sleep = lambda: None

    def select(self, timeout=None):
        if timeout is None or timeout > 5:
            self.on_long_sleep()
        return super().select(timeout)


@pytest.mark.parametrize("kind", LISTENING)
def test_who_listens_sleeps_until_something_happens(kind, database, connection):
    """An idle worker must not wake up ten times a second, as psycopg's `notifies` does."""
    selector = _WatchedSelector()

    async def listen():
        connector = CONNECTORS[kind](database)
        await connector.open_async()
        loop = asyncio.get_running_loop()
        is_asleep, received = asyncio.Event(), asyncio.Queue()

        async def receive(*, channel, payload):
            received.put_nowait((channel, payload))

        def fall_asleep():
            # Only once: the loop would not sleep any more if it were woken each time that it does.
            selector.on_long_sleep = lambda: None
            loop.call_soon_threadsafe(is_asleep.set)

        def listening():
            selector.on_long_sleep = fall_asleep

        listener = asyncio.create_task(connector.listen_notify(receive, ["here", "there"], listening))
        for payload in ("first", "second"):
            async with asyncio.timeout(PATIENCE):
                await is_asleep.wait()
            is_asleep.clear()
            selector.on_long_sleep = fall_asleep
            connection.execute("select pg_notify('here', %s), pg_notify('there', %s)", [payload, payload])
            async with asyncio.timeout(PATIENCE):
                assert [await received.get(), await received.get()] == [("here", payload), ("there", payload)]
        listener.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listener
        await connector.close_async()

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(listen())
