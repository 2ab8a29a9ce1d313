"""When a worker looks for jobs once more, and when it does not."""

import asyncio

import psycopg

import procrastinate
from procrastinate.jobs import Status
from procrastinate.store.jobs import FetchJobs
from procrastinate.worker import fetcher
from worker.harness import worker_of

# Whoever defers a job waits at the very end of its transaction, as for a slow disk, while the test holds lock 42.
SLOW_COMMITS = """
create function commit_slowly() returns trigger language plpgsql as $$
begin
  perform pg_advisory_xact_lock_shared(42);
  return null;
end $$;
create constraint trigger commit_slowly after insert on procrastinate_jobs deferrable initially deferred
for each row execute function commit_slowly();
"""


class CountingConnector(procrastinate.PsycopgConnector):
    """Counts the claims that were answered."""

    claims = 0

    async def run_async(self, operation, connection=None):
        answer = await super().run_async(operation, connection)
        self.claims += isinstance(operation, FetchJobs)
        return answer


async def until(check):
    while not await check():
        await asyncio.sleep(0.01)


async def test_one_claim_for_each_job(database, monkeypatch) -> None:
    """A worker that has found all there was does not look again only because a job has ended."""
    monkeypatch.setattr(fetcher, "ECHOES", ())
    monkeypatch.setattr(fetcher, "SECOND_LOOK", 1_000)
    connector = CountingConnector(conninfo=database)
    app = procrastinate.App(connector=connector)

    @app.task(name="task")
    async def task():
        pass

    async def run_some(jobs):
        for _ in range(jobs):
            job_id = await task.defer_async()
            while await app.job_manager.get_job_status_async(job_id) is not Status.SUCCEEDED:
                await asyncio.sleep(0.01)

    async with app.open_async(), worker_of(app, fetch_job_polling_interval=1_000), asyncio.timeout(30):
        await run_some(5)  # the worker begins with claims of its own
        before = connector.claims
        await run_some(20)
        assert 20 <= connector.claims - before < 25


async def test_a_second_look_when_a_job_has_ended(database, monkeypatch) -> None:
    """What was deferred while it ran, if no notification told of that."""
    monkeypatch.setattr(fetcher, "PATIENCE", 1_000)
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=database))
    started, may_end, ran = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @app.task(name="long")
    async def long():
        started.set()
        await may_end.wait()

    @app.task(name="short")
    async def short():
        ran.set()

    async with app.open_async(), asyncio.timeout(30):
        await long.defer_async()
        async with worker_of(app, concurrency=2, fetch_job_polling_interval=1_000, listen_notify=False):
            await started.wait()
            await short.defer_async()
            may_end.set()
            await ran.wait()


async def test_a_job_that_is_committed_after_the_notification_for_it(database, monkeypatch) -> None:
    """Its notification was left to another deferrer, and the worker has looked too early."""
    monkeypatch.setattr(fetcher, "ECHOES", ())
    connector = CountingConnector(conninfo=database)
    app = procrastinate.App(connector=connector)
    ran = asyncio.Event()

    @app.task(name="task")
    async def task():
        ran.set()

    async with (
        app.open_async(),
        await psycopg.AsyncConnection.connect(database) as gate,
        await psycopg.AsyncConnection.connect(database) as ringing,
        await psycopg.AsyncConnection.connect(database, autocommit=True) as observer,
        asyncio.timeout(30),
    ):

        async def value(query):
            cursor = await observer.execute(query)
            (answer,) = await cursor.fetchone()
            return answer

        await observer.execute(SLOW_COMMITS)
        async with worker_of(app, fetch_job_polling_interval=1_000):
            await until(
                lambda: value("select count(*) from pg_stat_activity where query like 'listen%' and state = 'idle'")
            )
            monkeypatch.setattr(fetcher, "ECHOES", (2.0,))
            await gate.execute("select pg_advisory_xact_lock(42)")
            await ringing.execute("select pg_advisory_xact_lock(hashtextextended('default', 8080))")
            deferring = asyncio.create_task(task.defer_async())
            await until(lambda: value("select count(*) from pg_locks where locktype = 'advisory' and not granted"))
            before = connector.claims
            await ringing.execute("select procrastinate_notify_ready_v1('default', 1)")
            await ringing.commit()
            await until(lambda: asyncio.sleep(0, connector.claims > before))
            assert not ran.is_set()
            await gate.commit()
            await deferring
            await ran.wait()
