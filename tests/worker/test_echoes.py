"""A job whose notification was left to another deferrer, and that is committed after the worker has looked."""

import asyncio

import psycopg

import procrastinate
from procrastinate.store.jobs import FetchJobs
from procrastinate.worker import fetcher

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


async def test_a_job_that_is_committed_after_the_notification_for_it(database, monkeypatch) -> None:
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
        worker = asyncio.create_task(
            app.run_worker_async(install_signal_handlers=False, fetch_job_polling_interval=1_000)
        )
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
        worker.cancel()
        await asyncio.wait([worker])
