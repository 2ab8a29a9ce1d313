"""Workers on this loop: what a job may do, and what becomes of it."""

import asyncio
import logging

import psycopg
import pytest

import procrastinate
from procrastinate import exceptions
from procrastinate.store.jobs import FetchJobs, FinishJobs
from procrastinate.worker import completer


@pytest.fixture
async def app(database: str):
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=database))
    async with app.open_async():
        yield app


async def drain(app: procrastinate.App, **options) -> None:
    await app.run_worker_async(**{"wait": False, "install_signal_handlers": False, "listen_notify": False, **options})


async def stored(app: procrastinate.App, job_id: int):
    query = "select status::text, attempts, attempts_log from procrastinate_jobs where id = %(id)s"
    return await app.connector.execute_query_one_async(query, id=job_id)


@pytest.mark.parametrize(
    "error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, RecursionError, MemoryError, StopIteration]
)
@pytest.mark.parametrize("is_async", [True, False])
async def test_whatever_a_job_raises_the_worker_goes_on(app, error, is_async) -> None:
    if is_async:

        @app.task(name="bad")
        async def bad():
            raise error

    else:

        @app.task(name="bad")
        def bad():
            raise error

    @app.task(name="good")
    async def good():
        pass

    first = await bad.defer_async()
    second = await good.defer_async()
    await drain(app)
    assert (await stored(app, first))["status"] == "failed"
    assert (await stored(app, second))["status"] == "succeeded"


async def test_unknown_task_and_bad_arguments_fail_and_the_worker_goes_on(app, caplog) -> None:
    @app.task(name="good", check_arguments=False)
    async def good(a):
        pass

    unknown = await app.configure_task("nobody.knows").defer_async()
    bad = await good.defer_async(b=1)
    fine = await good.defer_async(a=1)
    await drain(app)
    assert [(await stored(app, job_id))["status"] for job_id in (unknown, bad, fine)] == [
        "failed",
        "failed",
        "succeeded",
    ]
    assert "nobody.knows" in (await stored(app, unknown))["attempts_log"][0]["message"]
    assert any(getattr(record, "action", None) == "task_not_found" for record in caplog.records)


async def test_a_retried_job_that_meets_a_sibling_ends_failed_and_frees_its_lock(app) -> None:
    @app.task(name="task", queueing_lock="one", lock="lock", retry=True)
    async def task():
        if not siblings:
            siblings.append(await task.defer_async())
            raise ValueError("again")

    siblings: list[int] = []
    first = await task.defer_async()
    await drain(app)
    job = await stored(app, first)
    assert job["status"] == "failed"
    assert "queueing lock" in job["attempts_log"][-1]["reason"]
    assert (await stored(app, siblings[0]))["status"] == "succeeded"


async def test_retries_with_a_delay_come_back_by_themselves(app) -> None:
    attempts = []

    @app.task(name="task", retry=procrastinate.RetryStrategy(max_attempts=2, wait=0.2))
    async def task():
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError("not yet")
        done.set()

    done = asyncio.Event()
    job_id = await task.defer_async()
    # Far above the test's own limit: only the stager's own alarm can bring the job back in time.
    worker = asyncio.create_task(drain(app, wait=True, fetch_job_polling_interval=1_000))
    await asyncio.wait_for(done.wait(), 10)
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker
    assert (await stored(app, job_id))["attempts"] == 3


@pytest.mark.parametrize("listen_notify", [True, False])
async def test_abort_of_a_running_job(app, listen_notify) -> None:
    started = asyncio.Event()

    @app.task(name="task", retry=True)
    async def task():
        started.set()
        await asyncio.sleep(60)

    job_id = await task.defer_async()
    worker = asyncio.create_task(
        drain(app, listen_notify=listen_notify, abort_job_polling_interval=1_000 if listen_notify else 0.05)
    )
    await asyncio.wait_for(started.wait(), 10)
    assert await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
    await asyncio.wait_for(worker, 10)
    assert (await stored(app, job_id))["status"] == "aborted"


async def test_a_second_cancellation_aborts_the_running_jobs(app) -> None:
    started = asyncio.Event()

    @app.task(name="task")
    async def task():
        started.set()
        await asyncio.sleep(60)

    job_id = await task.defer_async()
    worker = asyncio.create_task(drain(app))
    await asyncio.wait_for(started.wait(), 10)
    worker.cancel()
    _, pending = await asyncio.wait([worker], timeout=0.2)
    assert pending, "the first cancellation waits for the job"
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(worker, 10)
    assert (await stored(app, job_id))["status"] == "aborted"
    row = await app.connector.execute_query_one_async("select count(*) as workers from procrastinate_workers")
    assert row["workers"] == 0


async def test_a_row_that_somebody_holds_delays_only_its_own_outcome(app, database) -> None:
    @app.task(name="task")
    async def task():
        pass

    first, *others = await task.batch_defer_async(*[{}] * 20)
    claimed = asyncio.Event()

    @app.task(name="gate", priority=10)
    async def gate():
        claimed.set()
        await held.wait()

    held = asyncio.Event()
    await gate.defer_async()
    async with await psycopg.AsyncConnection.connect(database) as connection:
        worker = asyncio.create_task(drain(app, concurrency=30))
        await asyncio.wait_for(claimed.wait(), 10)
        async with asyncio.timeout(20):
            while (await stored(app, others[-1]))["status"] == "todo":
                await asyncio.sleep(0.01)
            await connection.execute("select from procrastinate_jobs where id = %s for update", [first])
            held.set()
            while {(await stored(app, job_id))["status"] for job_id in others} != {"succeeded"}:
                await asyncio.sleep(0.01)
        await connection.rollback()
    await asyncio.wait_for(worker, 20)
    assert (await stored(app, first))["status"] == "succeeded"


async def test_a_batch_with_one_row_that_somebody_holds_is_parted_and_not_taken_apart(database) -> None:
    """With many workers a claim may lock rows of others for a moment; outcomes one by one would fill the machine."""
    batches: list[int] = []

    class WatchedConnector(procrastinate.PsycopgConnector):
        async def run_async(self, operation, connection=None):
            if isinstance(operation, FinishJobs):
                batches.append(len(operation.verdicts))
            return await super().run_async(operation, connection)

    app = procrastinate.App(connector=WatchedConnector(conninfo=database))
    release = asyncio.Event()

    @app.task(name="task")
    async def task():
        await release.wait()

    async def count(status: str) -> int:
        query = "select count(*) from procrastinate_jobs where status::text = %(status)s"
        return (await app.connector.execute_query_one_async(query, status=status))["count"]

    async with app.open_async(), await psycopg.AsyncConnection.connect(database) as holder:
        ids = await task.batch_defer_async(*[{}] * 100)
        worker = asyncio.create_task(drain(app, concurrency=100))
        async with asyncio.timeout(20):
            while await count("doing") < 100:
                await asyncio.sleep(0.01)
            await holder.execute("select from procrastinate_jobs where id = %s for update", [ids[10]])
            release.set()
            while await count("succeeded") < 99:
                await asyncio.sleep(0.01)
            # Ten tens, a ten in four parts, three alone, and some that ended by themselves.
            assert len(batches) < 40
            await holder.rollback()
            await worker
        assert await count("succeeded") == 100


async def test_a_worker_on_a_closed_app_fails(database) -> None:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=database))
    with pytest.raises(exceptions.AppNotOpen):
        await drain(app)


async def test_unknown_options_are_refused(app) -> None:
    with pytest.raises(TypeError, match="concurency"):
        await app.run_worker_async(concurency=3)


async def test_a_long_job_gives_back_what_was_claimed_ahead(app, caplog) -> None:
    """Quick jobs make the worker claim ahead; when a long one then holds the slot, another worker gets the rest."""
    caplog.set_level(logging.WARNING)
    release = asyncio.Event()

    @app.task(name="quick")
    async def quick():
        pass

    @app.task(name="long")
    async def long():
        await release.wait()

    await quick.batch_defer_async(*[{}] * 300)
    await long.defer_async()
    await quick.batch_defer_async(*[{}] * 300)
    first = asyncio.create_task(drain(app))
    query = "select count(*) as remaining from procrastinate_jobs where task_name = 'quick' and status <> 'succeeded'"
    async with asyncio.timeout(20):
        while not (await app.job_manager.list_jobs_async(task="long", status="doing")):
            await asyncio.sleep(0.01)
        second = asyncio.create_task(drain(app, wait=True, fetch_job_polling_interval=0.1))
        while (await app.connector.execute_query_one_async(query))["remaining"]:
            await asyncio.sleep(0.02)
    release.set()
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert (await app.job_manager.list_queues_async())[0]["succeeded"] == 601


async def test_arguments_that_python_cannot_read_fail_their_own_job(app) -> None:
    """PostgreSQL nests JSON deeper than Python's reader goes; such a row must not take a whole claim with it."""

    @app.task(name="task")
    async def task(**kwargs):
        pass

    fine = await task.defer_async(a=1)
    deep = "[" * 13_000 + "]" * 13_000  # Python 3.13 reads 10,000
    inserted = await app.connector.execute_query_one_async(
        "insert into procrastinate_jobs (queue_name, task_name, args) "
        "values ('default', 'task', %(args)s::text::jsonb) returning id",
        args=f'{{"a": {deep}}}',
    )
    await drain(app)
    assert (await stored(app, fine))["status"] == "succeeded"
    assert (await stored(app, inserted["id"]))["status"] == "failed"


async def test_outcomes_that_piled_up_do_not_stop_the_worker(app, monkeypatch) -> None:
    """Too many outcomes wait, so nothing is claimed; once they are recorded, somebody must look again."""
    monkeypatch.setattr(completer, "LIMIT", 20)

    @app.task(name="task")
    async def task():
        pass

    await task.batch_defer_async(*[{}] * 2_000)
    # Far above the test's own limit: polling must not be what goes on.
    worker = asyncio.create_task(drain(app, wait=True, concurrency=100, fetch_job_polling_interval=1_000))
    async with asyncio.timeout(20):
        while (await app.job_manager.list_queues_async())[0]["succeeded"] < 2_000:
            await asyncio.sleep(0.02)
    worker.cancel()
    await asyncio.wait([worker])


async def test_a_long_line_behind_a_busy_lock_is_parked_in_big_steps(app) -> None:
    """A worker that wants one job looks at more than one when all it sees can only be parked."""
    release = asyncio.Event()

    @app.task(name="busy", lock="busy")
    async def busy():
        await release.wait()

    @app.task(name="free")
    async def free():
        release.set()

    await busy.batch_defer_async(*[{}] * 3_000)
    await free.defer_async()
    claims = []
    run_async = app.connector.run_async

    async def count(operation, connection=None):
        claims.extend([operation.limit] if isinstance(operation, FetchJobs) else [])
        return await run_async(operation, connection)

    app.connector.run_async = count
    worker = asyncio.create_task(drain(app, wait=True, concurrency=2))
    await asyncio.wait_for(release.wait(), 20)
    worker.cancel()
    await asyncio.wait([worker], timeout=20)
    assert len(claims) < 40
