"""How many jobs a worker claims ahead of those that it runs."""

from __future__ import annotations

import time

import pytest

import procrastinate
from procrastinate.store.jobs import FetchJobs
from procrastinate.store.operation import FEW
from procrastinate.worker import executor


class WatchedConnector(procrastinate.PsycopgConnector):
    """Keeps how many jobs each claim asked for."""

    def __init__(self, **settings) -> None:
        super().__init__(**settings)
        self.wanted: list[int] = []

    async def run_async(self, operation, connection=None):
        if isinstance(operation, FetchJobs):
            self.wanted.append(operation.most or 0)
        return await super().run_async(operation, connection)


@pytest.fixture
def connector(database) -> WatchedConnector:
    return WatchedConnector(conninfo=database)


@pytest.fixture
def app(connector) -> procrastinate.App:
    return procrastinate.App(connector=connector)


@pytest.fixture
def task(app):
    @app.task(name="task")
    async def task(number):
        pass

    return task


async def drain(app: procrastinate.App) -> None:
    await app.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False, concurrency=10)


@pytest.mark.parametrize("locks", [0, 50])
async def test_with_locks_that_collide_fewer_jobs_are_claimed_ahead(connector, app, task, locks) -> None:
    async with app.open_async():
        for number in range(max(locks, 1)):
            deferrer = task.configure(lock=f"lock {number}") if locks else task
            await deferrer.batch_defer_async(*[{"number": number}] * (10_000 // max(locks, 1)))
        await drain(app)
        assert (await app.job_manager.list_queues_async())[0]["succeeded"] == 10_000
    # The first claims learn how fast the jobs are, the next ones how they collide.
    if locks:
        # A claim that met no lock may have let it grow by half a step, now and then.
        assert max(connector.wanted[6:12]) <= 3 * executor.LEAST_AHEAD
    else:
        assert max(connector.wanted) > 1_000


async def test_after_a_claim_that_found_few_the_next_one_asks_for_few(connector, app, task) -> None:
    """A claim of few is a statement whose plan is kept, so that to look in vain stays cheap."""
    async with app.open_async():
        for _ in range(2):
            connector.wanted.clear()
            await task.batch_defer_async(*({"number": number} for number in range(3_000)))
            await drain(app)
            # The first claim takes what there are slots for.
            assert connector.wanted[0] == 10
            assert max(connector.wanted) > FEW
            assert connector.wanted[-1] <= FEW


async def test_what_is_claimed_ahead_follows_from_the_pace_and_not_from_how_long_jobs_run(connector, app) -> None:
    """Where workers share a machine with others, they start far fewer jobs than their duration makes believe."""

    @app.task(name="task")
    async def task(number):
        if number % 10 == 9:
            time.sleep(0.02)  # noqa: ASYNC251  somebody else has the processor

    async with app.open_async():
        await task.batch_defer_async(*({"number": number} for number in range(1_000)))
        await drain(app)
    # Ten jobs in 20 ms are 500 a second: 25 in a twentieth of a second, 100 in the longest horizon.
    assert max(connector.wanted) <= 10 + 100
