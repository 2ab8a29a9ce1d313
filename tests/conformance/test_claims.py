"""What a worker holds, asked of the database."""

from __future__ import annotations

import pytest

from procrastinate.jobs import Job
from procrastinate.store.jobs import DeferJobs, FetchJobs, ReleaseJobs
from procrastinate.store.workers import FindClaims

JOB = Job(queue="q", task_name="t", lock=None, queueing_lock=None, task_kwargs={"a": 1})


@pytest.fixture
async def worker_id(store):
    return await store.worker()


async def test_claims_are_those_that_were_answered(store, worker_id):
    other = await store.worker()
    await store.ask(DeferJobs(jobs=[JOB, JOB.evolve(priority=1), JOB, JOB]))
    answered = (await store.ask(FetchJobs(queues=None, worker_id=worker_id, limit=3))).claims
    await store.ask(FetchJobs(queues=None, worker_id=other, limit=3))
    assert await store.ask(FindClaims(worker_id=worker_id)) == answered
    assert len(answered) == 3
    known = [claim.job.id for claim in answered[:2]]
    assert await store.ask(FindClaims(worker_id=worker_id, known=known)) == answered[2:]


async def test_token_is_that_of_the_latest_claim(store, worker_id):
    await store.ask(DeferJobs(jobs=[JOB]))
    [first] = (await store.ask(FetchJobs(queues=None, worker_id=worker_id, limit=1))).claims
    await store.ask(ReleaseJobs(claims=[first], worker_id=worker_id))
    assert await store.ask(FindClaims(worker_id=worker_id)) == []
    await store.ask(FetchJobs(queues=None, worker_id=worker_id, limit=1))
    [second] = await store.ask(FindClaims(worker_id=worker_id))
    assert second.token > first.token
    assert second.key != first.key
