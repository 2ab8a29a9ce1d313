"""Floors make claims look less far, and nothing be forgotten."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

import procrastinate
from procrastinate.jobs import Claim, Job
from procrastinate.worker import floors
from procrastinate.worker.floors import FULL_SCAN_INTERVAL, MARGIN, MOST_FLOORS, SLOW, Floors
from worker.harness import Clock, worker_of


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hints(clock: Clock) -> Floors:
    return Floors(clock)


def claims(*ids: int, priority: int = 0) -> list[Claim]:
    plain = {"queue": "default", "task_name": "task", "lock": None, "queueing_lock": None}
    return [Claim(job=Job(id=job_id, priority=priority, **plain), token=1) for job_id in ids]


def settle(hints: Floors, clock: Clock, *found: Claim, seconds: float = 2 * SLOW) -> None:
    """Claim, and let the time pass after which floors count."""
    hints.claimed(found, looked_everywhere=True, seconds=seconds)
    for _ in range(2):
        clock.now += MARGIN
        hints.claimed([], looked_everywhere=True, seconds=seconds)


def test_quick_claims_look_everywhere(hints: Floors, clock: Clock) -> None:
    settle(hints, clock, *claims(1, 2), seconds=SLOW / 2)
    assert hints.for_claim() == {}


def test_slow_claims_get_floors_by_priority(hints: Floors, clock: Clock) -> None:
    settle(hints, clock, *claims(3, 7), *claims(5, priority=-1))
    assert hints.for_claim() == {0: 7, -1: 5}


def test_a_floor_stays_behind_what_was_claimed(hints: Floors, clock: Clock) -> None:
    settle(hints, clock, *claims(7))
    hints.claimed(claims(9), looked_everywhere=True, seconds=2 * SLOW)
    assert hints.for_claim() == {0: 7}


def test_everything_is_looked_at_now_and_then(hints: Floors, clock: Clock) -> None:
    settle(hints, clock, *claims(7))
    hints.claimed([], looked_everywhere=True, seconds=2 * SLOW)
    clock.now += FULL_SCAN_INTERVAL
    assert hints.for_claim() == {}


def test_a_quick_look_at_everything_ends_it(hints: Floors, clock: Clock) -> None:
    settle(hints, clock, *claims(7))
    hints.claimed(claims(8), looked_everywhere=False, seconds=0)
    assert hints.for_claim()
    hints.claimed(claims(9), looked_everywhere=True, seconds=0)
    assert hints.for_claim() == {}


@pytest.mark.parametrize(("job_id", "is_below"), [(6, True), (7, True), (8, False), (None, True)])
def test_a_job_below_the_floor_is_looked_for(hints: Floors, clock: Clock, job_id, is_below) -> None:
    settle(hints, clock, *claims(7))
    hints.look_everywhere(job_id)
    assert (hints.for_claim() == {}) is is_below


def test_only_the_busiest_priorities_get_floors(hints: Floors, clock: Clock) -> None:
    many = [claim for priority in range(20) for claim in claims(*range(1, priority + 2), priority=priority)]
    settle(hints, clock, *many)
    assert sorted(hints.for_claim()) == list(range(20 - MOST_FLOORS, 20))


@pytest.mark.parametrize("listen_notify", [True, False])
async def test_a_transaction_that_commits_late(database, monkeypatch, listen_notify) -> None:
    """Its job has a lower id than those that were claimed meanwhile, with floors always in use."""
    monkeypatch.setattr(floors, "SLOW", -1.0)
    monkeypatch.setattr(floors, "MARGIN", 0.0)
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=database))
    ran = asyncio.Queue()

    @app.task(name="task")
    async def task(name):
        ran.put_nowait(name)

    async with app.open_async(), await psycopg.AsyncConnection.connect(database) as connection:
        await task.configure(connection=connection).defer_async(name="late")
        async with worker_of(app, listen_notify=listen_notify, fetch_job_polling_interval=0.1), asyncio.timeout(20):
            for number in range(5):
                await task.defer_async(name=number)
                assert await ran.get() == number
            await connection.commit()
            assert await ran.get() == "late"


async def test_a_worker_that_stops_when_nothing_is_left_has_looked_everywhere(database, monkeypatch) -> None:
    monkeypatch.setattr(floors, "SLOW", -1.0)
    monkeypatch.setattr(floors, "MARGIN", 0.0)
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=database))

    @app.task(name="task", pass_context=True)
    async def task(context):
        # Ids of later jobs are higher, but not those that come back.
        if context.job.attempts < 2:
            await app.job_manager.retry_job(context.job)

    async with app.open_async():
        await task.batch_defer_async(*[{}] * 50)
        await app.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)
        assert {job.status for job in await app.job_manager.list_jobs_async()} == {"succeeded"}
