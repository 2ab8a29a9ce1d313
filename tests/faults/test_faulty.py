"""Faults by operation: the instrument itself, and a worker that loses no job to any of them."""

from __future__ import annotations

import asyncio
import time

import psycopg
import pytest

import procrastinate
from faults.faulty import Duplicate, FailAfter, FailBefore, Fault, FaultyConnector, Hold, Plan, SwallowCancellation
from procrastinate import exceptions, testing
from procrastinate.jobs import Job
from procrastinate.store.jobs import DeferJobs, DeleteJobs, FetchJobs, FinishJobs, ListJobs, ReleaseJobs, RetryJobs
from procrastinate.store.locks import FindSleepingLocks, OpenLocks
from procrastinate.store.schedule import StageJobs, TakeChores
from procrastinate.store.workers import PruneStalledWorkers, RegisterWorker, RescueJobs, UpdateHeartbeat

JOB = Job(queue="default", task_name="t", lock=None, queueing_lock=None)
DEFER = DeferJobs(jobs=[JOB])


@pytest.fixture
def inner():
    return testing.InMemoryConnector()


async def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, condition
        await asyncio.sleep(0.01)


# The instrument


@pytest.mark.parametrize(("fault", "count"), [(FailBefore, 0), (FailAfter, 1)])
@pytest.mark.parametrize("color", ["sync", "async"])
async def test_failure(inner, fault, count, color):
    plan = Plan(fault(DeferJobs))
    faulty = FaultyConnector(inner, plan)
    if color == "sync":
        with pytest.raises(exceptions.ConnectionLost):
            faulty.get_sync_connector().run(DEFER)
    else:
        with pytest.raises(exceptions.ConnectionLost):
            await faulty.run_async(DEFER)
    assert len(inner.jobs) == count
    assert plan.is_over
    assert await faulty.run_async(DEFER) == [count + 1]


def test_error_of_ones_own(inner):
    faulty = FaultyConnector(inner, Plan(FailBefore(DeferJobs, error=lambda: exceptions.InvalidData("no"))))
    with pytest.raises(exceptions.InvalidData):
        faulty.run(DEFER)


async def test_duplicate(inner):
    faulty = FaultyConnector(inner, Plan(Duplicate(DeferJobs, times=2)))
    assert faulty.run(DEFER) == [2]
    assert await faulty.run_async(DEFER) == [4]
    assert faulty.run(DEFER) == [5]


async def test_hold(inner):
    hold = Hold(DeferJobs)
    faulty = FaultyConnector(inner, Plan(hold))
    deferring = asyncio.create_task(faulty.run_async(DEFER))
    await hold.reached()
    assert inner.jobs == {}
    hold.release()
    assert await deferring == [1]


def test_only_what_is_meant_is_struck_and_only_so_often(inner):
    plan = Plan(FailBefore(DeferJobs, FetchJobs, times=2))
    faulty = FaultyConnector(inner, plan)
    assert faulty.run(ListJobs()) == []
    for operation in (DEFER, FetchJobs(queues=None, worker_id=1, limit=1)):
        assert not plan.is_over
        with pytest.raises(exceptions.ConnectionLost):
            faulty.run(operation)
    assert plan.is_over
    assert faulty.run(DEFER) == [1]


def test_side_connector_follows_the_plan(inner):
    worker_id = inner.run(RegisterWorker())
    side = FaultyConnector(inner, Plan(FailBefore(UpdateHeartbeat))).side_connector()
    assert side is not None
    with pytest.raises(exceptions.ConnectionLost):
        side.run(UpdateHeartbeat(worker_id=worker_id))
    assert side.run(UpdateHeartbeat(worker_id=worker_id)).was_known


# A worker


class Bench:
    """An app on a faulty connector, with jobs that succeed, fail, wait for a lock or are retried."""

    def __init__(self, inner, plan):
        self.app = procrastinate.App(connector=FaultyConnector(inner, plan))
        self.runs: list[int] = []

        @self.app.task(name="quick", pass_context=True)
        async def quick(context):
            self.runs.append(context.job.id)

        @self.app.task(name="retried", pass_context=True, retry=3)
        async def retried(context):
            self.runs.append(context.job.id)
            if context.job.attempts < 1:
                raise ValueError("on purpose")

    async def defer(self):
        """Defer jobs of all sorts; return how many."""
        await self.app.configure_task("quick").batch_defer_async(*[{}] * 5)
        await self.app.configure_task("quick", lock="l").batch_defer_async(*[{}] * 3)
        await self.app.configure_task("retried").batch_defer_async({}, {})
        await self.app.configure_task("quick", schedule_in={"seconds": 0.2}).defer_async()
        return 11


@pytest.fixture(params=["memory", "psycopg"])
def real(request):
    if request.param == "memory":
        return testing.InMemoryConnector()
    return procrastinate.PsycopgConnector(conninfo=request.getfixturevalue("database"), min_size=1, max_size=4)


OPERATIONS = [FinishJobs, DeleteJobs, RetryJobs, OpenLocks, StageJobs, TakeChores, FetchJobs]
FAULTS = [
    pytest.param(operation, fault, id=f"{fault.__name__}-{operation.__name__}")
    for operation in OPERATIONS
    for fault in (FailBefore, FailAfter, Duplicate)
    # No connector sends a claim twice: its first answer would be lost without a sign.
    if (operation, fault) != (FetchJobs, Duplicate)
]


@pytest.mark.parametrize(("operation", "fault"), FAULTS)
async def test_worker_loses_no_job(real, operation, fault):
    plan = Plan()
    bench = Bench(real, plan)
    async with bench.app.open_async():
        count = await bench.defer()
        plan.add(fault(operation))
        worker = asyncio.create_task(
            bench.app.run_worker_async(
                concurrency=3,
                install_signal_handlers=False,
                fetch_job_polling_interval=0.2,
                delete_jobs="always" if operation is DeleteJobs else "never",
            )
        )
        done = 0

        async def all_done():
            nonlocal done
            jobs = await bench.app.job_manager.list_jobs_async()
            done = count - sum(job.status != "succeeded" for job in jobs)
            return done == count

        deadline = time.monotonic() + 20
        while not await all_done() and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        assert plan.is_over
        assert done == count
    # No run is lost, and none is repeated: outcomes that were sent are not sent for a second run.
    assert len(bench.runs) == count + 2


@pytest.mark.parametrize("fault", [FailBefore, FailAfter])
async def test_jobs_that_could_not_be_given_back_are_run_after_all(real, fault):
    """By the worker that holds them: nobody else would take them while it lives."""
    plan = Plan(fault(ReleaseJobs))
    bench = Bench(real, plan)
    go_on = asyncio.Event()

    @bench.app.task(name="long")
    async def long():
        await go_on.wait()

    async with bench.app.open_async():
        before = await bench.app.configure_task("quick").batch_defer_async(*[{}] * 100)
        await bench.app.configure_task("long").defer_async()
        behind = await bench.app.configure_task("quick").batch_defer_async(*[{}] * 20)
        worker = asyncio.create_task(
            bench.app.run_worker_async(install_signal_handlers=False, fetch_job_polling_interval=0.2)
        )
        # Fast jobs are claimed ahead: behind a long one they are given back.
        await until(lambda: plan.is_over)
        assert bench.runs == before
        go_on.set()
        await until(lambda: len(bench.runs) == 120)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    assert sorted(bench.runs[100:]) == behind


async def test_claims_that_were_held_up_are_run(real):
    hold = Hold(FetchJobs)
    bench = Bench(real, Plan(hold))
    async with bench.app.open_async():
        job_id = await bench.app.configure_task("quick").defer_async()
        worker = asyncio.create_task(bench.app.run_worker_async(install_signal_handlers=False))
        await hold.reached()
        # Asked to stop in the middle of a claim: it is answered, and the job goes back.
        worker.cancel()
        hold.release()
        await asyncio.gather(worker, return_exceptions=True)
        [job] = await bench.app.job_manager.list_jobs_async(id=job_id)
        assert (job.status, job.attempts, job.worker_id) == ("todo", 0, None)
        assert bench.runs == []
        await bench.app.run_worker_async(wait=False, install_signal_handlers=False)
        assert bench.runs == [job_id]


async def test_outcome_that_is_held_up_is_recorded_before_the_worker_ends(real):
    hold = Hold(FinishJobs)
    bench = Bench(real, Plan(hold))
    async with bench.app.open_async():
        job_id = await bench.app.configure_task("quick").defer_async()
        worker = asyncio.create_task(bench.app.run_worker_async(install_signal_handlers=False))
        await hold.reached()
        worker.cancel()
        hold.release()
        await asyncio.gather(worker, return_exceptions=True)
        [job] = await bench.app.job_manager.list_jobs_async(id=job_id)
        assert (job.status, job.attempts) == ("succeeded", 1)


@pytest.mark.parametrize("fault", [FailBefore, FailAfter])
async def test_jobs_that_could_not_be_given_back_at_the_end(inner, fault):
    """The worker tries again before it leaves."""
    hold = Hold(FetchJobs)
    plan = Plan(hold, fault(ReleaseJobs))
    bench = Bench(inner, plan)
    async with bench.app.open_async():
        job_id = await bench.app.configure_task("quick").defer_async()
        worker = asyncio.create_task(bench.app.run_worker_async(install_signal_handlers=False))
        await hold.reached()
        worker.cancel()
        hold.release()
        await asyncio.gather(worker, return_exceptions=True)
        assert plan.is_over
        [job] = await bench.app.job_manager.list_jobs_async()
        assert (job.status, job.attempts) == ("todo", 0)
        await bench.app.run_worker_async(wait=False, install_signal_handlers=False)
        assert bench.runs == [job_id]


@pytest.mark.parametrize("fault", [FailBefore, FailAfter])
async def test_worker_lives_on_without_heartbeats_for_a_while(inner, fault):
    plan = Plan(fault(UpdateHeartbeat, times=3))
    bench = Bench(inner, plan)
    worker = asyncio.create_task(
        bench.app.run_worker_async(install_signal_handlers=False, update_heartbeat_interval=0.05)
    )
    await until(lambda: plan.is_over)
    job_id = await bench.app.configure_task("quick").defer_async()
    await until(lambda: bench.runs == [job_id])
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    assert inner.workers == {}


async def test_chores_taken_together_are_all_done_although_the_first_fails(inner):
    """Nobody else would do them before their next turn."""
    chores = [FailBefore(operation) for operation in (RescueJobs, FindSleepingLocks, PruneStalledWorkers)]
    again = Hold(TakeChores)
    bench = Bench(inner, Plan(Fault(TakeChores), again, *chores))
    go_on = asyncio.Event()
    await bench.app.task(name="long")(go_on.wait).defer_async()
    # One that will not stay does not wait for signs of life before it looks for dead workers.
    worker = asyncio.create_task(bench.app.run_worker_async(wait=False, install_signal_handlers=False))
    await again.reached()
    assert [chore.left for chore in chores] == [0, 0, 0]
    again.release()
    go_on.set()
    await worker


async def test_cancellation_that_a_driver_swallows(inner, caplog):
    """asyncio.wait_for did that until Python 3.12."""
    swallow = SwallowCancellation(TakeChores)
    bench = Bench(inner, Plan(swallow))
    worker = asyncio.create_task(bench.app.run_worker_async(install_signal_handlers=False))
    await swallow.reached()
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    assert "cancel_tasks_failed" not in [getattr(record, "action", None) for record in caplog.records]
    assert inner.workers == {}


async def test_worker_that_cannot_register_says_so(inner):
    bench = Bench(inner, Plan(FailBefore(RegisterWorker)))
    with pytest.raises(exceptions.ConnectionLost):
        await bench.app.run_worker_async(wait=False, install_signal_handlers=False)
    assert inner.workers == {}


def test_no_table_is_left_behind(database):
    """The faulty connector on a database reaches that database."""
    faulty = FaultyConnector(procrastinate.SyncPsycopgConnector(conninfo=database, min_size=1), Plan())
    faulty.open()
    assert faulty.run(DEFER) == [1]
    faulty.close()
    with psycopg.connect(database) as connection:
        assert connection.execute("select count(*) from procrastinate_jobs").fetchone() == (1,)
