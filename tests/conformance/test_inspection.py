"""What people see when they look at jobs and workers, whatever connector answers."""

from __future__ import annotations

import datetime

import pytest

from procrastinate import exceptions
from procrastinate.jobs import Job, Status
from procrastinate.store import inspection, jobs, workers
from procrastinate.store.inspection import JobFilter

PAST = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)


def a_job(**values):
    return Job(**{"queue": "q", "task_name": "t", "lock": None, "queueing_lock": None, **values})


async def found(store, *, limit=10, before=None, **conditions):
    records = await store.ask(inspection.FindJobs(conditions=JobFilter(**conditions), limit=limit, before=before))
    return [record.job.id for record in records]


async def fail(store, worker_id, *, limit=1, report=None):
    claims = (await store.ask(jobs.FetchJobs(queues=None, worker_id=worker_id, limit=limit))).claims
    verdicts = [jobs.Verdict(claim=claim, status=Status.FAILED, report=report) for claim in claims]
    await store.ask(jobs.FinishJobs(verdicts=verdicts, worker_id=worker_id))


async def test_newest_first_page_by_page(store):
    await store.ask(jobs.DeferJobs(jobs=[a_job()] * 5))
    assert await found(store, limit=2) == [5, 4]
    assert await found(store, limit=2, before=4) == [3, 2]
    assert await found(store, limit=2, before=2) == [1]
    assert await found(store, limit=2, before=1) == []


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, [4, 3, 2, 1]),
        ({"id": 2}, [2]),
        ({"queue": "other"}, [2]),
        ({"task": "u"}, [3]),
        ({"lock": "x"}, [3]),
        ({"queueing_lock": "y"}, [4]),
        ({"statuses": ["failed"]}, [1]),
        ({"statuses": ("todo", "failed")}, [4, 3, 2, 1]),
        ({"statuses": []}, []),
        ({"worker_id": 1}, [1]),
        ({"queue": "q", "statuses": ["todo"]}, [4, 3]),
    ],
)
async def test_conditions(store, conditions, expected):
    batch = [a_job(), a_job(queue="other"), a_job(task_name="u", lock="x"), a_job(queueing_lock="y")]
    await store.ask(jobs.DeferJobs(jobs=batch))
    await fail(store, await store.worker())
    assert await found(store, **conditions) == expected
    counts = await store.ask(inspection.CountFoundJobs(conditions=JobFilter(**conditions)))
    assert sum(counts.values()) == len(expected)
    assert counts.get("failed", 0) == (1 in expected)


async def test_what_is_no_status(store):
    await store.ask(jobs.DeferJobs(jobs=[a_job()]))
    conditions = JobFilter(statuses=["done"])
    with pytest.raises(exceptions.ConnectorException):
        await store.ask(inspection.FindJobs(conditions=conditions, limit=1))
    with pytest.raises(exceptions.ConnectorException):
        await store.ask(inspection.CountFoundJobs(conditions=conditions))


async def test_the_history_of_a_job(store):
    await store.ask(jobs.DeferJobs(jobs=[a_job(task_kwargs={"a": 1}), a_job(lock="x", scheduled_at=None)]))
    await fail(store, await store.worker(), report={"number": 1, "event": "failed", "final": True})
    [waiting, failed] = await store.ask(inspection.FindJobs(conditions=JobFilter(), limit=2, with_log=True))
    assert failed.job == a_job(id=1, status="failed", task_kwargs={"a": 1}, attempts=1, worker_id=1)
    assert failed.created_at <= failed.attempted_at <= failed.finalized_at
    assert failed.attempts_log == [{"number": 1, "event": "failed", "final": True}]
    assert (waiting.attempted_at, waiting.finalized_at, waiting.waits_for) == (None, None, None)
    assert waiting.attempts_log == []
    [_, without] = await store.ask(inspection.FindJobs(conditions=JobFilter(), limit=2))
    assert without.attempts_log is None


async def test_counts_up_to_a_limit(store):
    await store.ask(jobs.DeferJobs(jobs=[a_job(queue=name) for name in ("b", "a", "c", "a")]))
    await fail(store, await store.worker())
    counts = await store.ask(jobs.CountJobs(by="queue", limit=2))
    assert [(line["name"], line["jobs_count"]) for line in counts] == [("a", 2), ("b", 1)]
    assert [line["failed"] for line in counts] == [0, 1]


async def test_workers(store):
    named = await store.ask(workers.RegisterWorker(worker_name="named"))
    nameless = await store.worker()
    await store.ask(jobs.DeferJobs(jobs=[a_job()] * 3))
    await fail(store, named)
    await store.ask(jobs.FetchJobs(queues=None, worker_id=named, limit=2))
    store.set_heartbeat(nameless, PAST)
    first, second = await store.ask(inspection.ListWorkers(limit=5))
    assert (first.id, first.name, first.running) == (named, "named", 2)
    assert (second.id, second.name, second.running) == (nameless, None, 0)
    assert first.started_at == first.last_heartbeat
    assert 0 <= first.silence < 60
    assert second.last_heartbeat == PAST
    assert second.silence > 60 * 60 * 24 * 365 * 20
    assert [worker.id for worker in await store.ask(inspection.ListWorkers(limit=1))] == [named]


async def test_a_worker_that_came_back(store):
    worker_id = await store.ask(workers.RegisterWorker(worker_name="named"))
    await store.ask(workers.UnregisterWorker(worker_id=worker_id))
    assert await store.ask(inspection.ListWorkers(limit=5)) == []
    await store.ask(workers.UpdateHeartbeat(worker_id=worker_id, revive=True))
    [worker] = await store.ask(inspection.ListWorkers(limit=5))
    assert (worker.id, worker.running) == (worker_id, 0)


async def test_the_lag_of_each_queue(store):
    batch = [a_job(queue="a"), a_job(queue="a", priority=5), a_job(queue="b"), a_job(queue="c"), a_job(queue="d")]
    await store.ask(jobs.DeferJobs(jobs=batch))
    store.change_job(1, created_at=PAST)
    store.change_job(4, created_at=PAST, waits_for="lock")
    store.change_job(5, created_at=PAST, scheduled_at=datetime.datetime.now(datetime.UTC))
    lag = await store.ask(inspection.MeasureLag())
    assert list(lag) == ["a", "b", "d"]
    assert lag["a"] > 60 * 60 * 24 * 365 * 20
    assert lag["b"] < 60
    assert lag["d"] < 60
    assert list(await store.ask(inspection.MeasureLag(queues=("b", "c")))) == ["b"]


async def test_no_lag(store):
    assert await store.ask(inspection.MeasureLag()) == {}


async def test_living_and_silent_workers(store):
    living, silent, gone = await store.worker(), await store.worker(), await store.worker()
    await store.ask(jobs.DeferJobs(jobs=[a_job()] * 6))
    for worker_id, count in ((living, 1), (silent, 2), (gone, 3)):
        await store.ask(jobs.FetchJobs(queues=None, worker_id=worker_id, limit=count))
    store.set_heartbeat(silent, PAST)
    await store.ask(workers.UnregisterWorker(worker_id=gone))
    counts = await store.ask(inspection.CountWorkers(seconds_since_heartbeat=60))
    assert counts == inspection.WorkerCounts(alive=1, silent=1, stalled_jobs=5)
