"""Cancelling and aborting: jobs that wait, are claimed ahead, or run; heard of by notification or by polling."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

import procrastinate
from procrastinate import exceptions
from worker.harness import worker_of

# How a worker learns of an abort request, and nothing but this way within the test's time.
WAYS = {
    "notification": {"listen_notify": True, "abort_job_polling_interval": 1_000},
    "polling": {"listen_notify": False, "abort_job_polling_interval": 0.05},
}


@pytest.fixture
async def app(database: str):
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=database))
    async with app.open_async():
        yield app


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


async def status_of(app, job_id):
    return (await app.job_manager.get_job_status_async(job_id)).value


async def eventually(app, job_id, status):
    async with asyncio.timeout(20):
        while await status_of(app, job_id) != status:
            await asyncio.sleep(0.01)


async def abort(app, job_id):
    return await app.job_manager.cancel_job_by_id_async(job_id, abort=True)


async def test_a_waiting_job_is_cancelled_and_never_runs(app) -> None:
    ran = []

    @app.task(name="task")
    async def task():
        ran.append(1)

    job_id = await task.defer_async()
    assert await abort(app, job_id)
    await app.run_worker_async(wait=False, install_signal_handlers=False)
    assert await status_of(app, job_id) == "cancelled"
    assert not ran
    [job] = await app.job_manager.list_jobs_async(id=job_id)
    assert job.abort_requested is False


async def test_a_running_coroutine(app, way) -> None:
    started = asyncio.Event()

    @app.task(name="task", retry=True)
    async def task():
        started.set()
        await asyncio.sleep(60)

    job_id = await task.defer_async()
    async with worker_of(app, **way):
        await asyncio.wait_for(started.wait(), 10)
        assert await abort(app, job_id)
        await eventually(app, job_id, "aborted")


async def test_a_running_function_in_a_thread_is_told(app, way) -> None:
    started, reasons = threading.Event(), []

    @app.task(name="task", pass_context=True)
    def task(context):
        started.set()
        while not context.should_abort():
            pass
        reasons.append(context.abort_reason())
        raise exceptions.JobAborted

    job_id = await task.defer_async()
    async with worker_of(app, **way):
        await asyncio.to_thread(started.wait, 10)
        assert await abort(app, job_id)
        await eventually(app, job_id, "aborted")
    assert [reason.value for reason in reasons] == ["user_request"]


async def test_a_job_that_was_claimed_ahead_never_starts(app, way) -> None:
    """Many quick jobs make the worker claim ahead; behind a long one, the last of them is claimed but cannot start."""
    held, release = asyncio.Event(), asyncio.Event()
    ran = set()

    @app.task(name="quick")
    async def quick(number):
        ran.add(number)

    @app.task(name="long")
    async def long():
        held.set()
        await release.wait()

    await quick.batch_defer_async(*({"number": number} for number in range(200)))
    await long.defer_async()
    behind = await quick.batch_defer_async(*({"number": number} for number in range(200, 300)))
    async with worker_of(app, **way):
        await asyncio.wait_for(held.wait(), 20)
        # While the long job runs, the claims behind it are held for a moment and then given back: whichever it is just
        # now, it ends without a run.
        assert await abort(app, behind[-1])
        async with asyncio.timeout(20):
            while await status_of(app, behind[-1]) not in ("cancelled", "aborted"):
                await asyncio.sleep(0.01)
        release.set()
        await eventually(app, behind[0], "succeeded")
    assert 299 not in ran


async def test_while_the_worker_drains(app, way) -> None:
    started = asyncio.Event()

    @app.task(name="task", retry=True)
    async def task():
        started.set()
        await asyncio.sleep(60)

    job_id = await task.defer_async()
    async with worker_of(app, **way) as worker:
        await asyncio.wait_for(started.wait(), 10)
        worker.cancel()  # a graceful stop: it waits for the job
        _, pending = await asyncio.wait([worker], timeout=0.1)
        assert pending
        assert await abort(app, job_id)
        await asyncio.wait([worker], timeout=20)
        assert worker.done()
    assert await status_of(app, job_id) == "aborted"


async def test_a_notification_alone_aborts_nothing(app) -> None:
    """Anybody may send on a channel, and another instance in the same database has jobs of the same ids."""
    started, release = asyncio.Event(), asyncio.Event()

    @app.task(name="task")
    async def task():
        started.set()
        await release.wait()

    @app.task(name="after")
    async def after():
        release.set()

    job_id = await task.defer_async()
    async with worker_of(app, concurrency=2, **WAYS["notification"]):
        await asyncio.wait_for(started.wait(), 10)
        payload = json.dumps({"type": "abort_job_requested", "job_id": job_id})
        await app.connector.execute_query_async(
            "select pg_notify('procrastinate_any_queue_v1', %(payload)s)", payload=payload
        )
        # Notifications arrive in order: when this one has done its work, the forged one was heard before.
        await after.defer_async()
        await eventually(app, job_id, "succeeded")


async def test_a_second_request_changes_nothing(app) -> None:
    cancellations = []
    started = asyncio.Event()

    @app.task(name="task")
    async def task():
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancellations.append(1)
            await abort(app, job_id)
            raise

    job_id = await task.defer_async()
    async with worker_of(app, **WAYS["notification"]):
        await asyncio.wait_for(started.wait(), 10)
        assert await abort(app, job_id)
        await eventually(app, job_id, "aborted")
    assert cancellations == [1]
