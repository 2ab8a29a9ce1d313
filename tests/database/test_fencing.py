"""An outcome counts only under the worker and the token that the job carries now."""

from __future__ import annotations

import pytest

from database import support
from procrastinate import jobs, types
from procrastinate.store.jobs import (
    CancelJob,
    DeleteJobs,
    FinishJob,
    FinishJobs,
    ReleaseJobs,
    RetryJob,
    RetryJobs,
    Verdict,
)
from procrastinate.store.workers import PruneStalledWorkers, RescueJobs, UpdateHeartbeat

RESCUE = RescueJobs(seconds_since_heartbeat=30, max_rescues=3, limit=10)


def finish(claim: jobs.Claim, worker: int):
    return FinishJobs(verdicts=[Verdict(claim=claim, status=jobs.Status.FAILED)], worker_id=worker)


def delete(claim: jobs.Claim, worker: int):
    return DeleteJobs(verdicts=[Verdict(claim=claim, status=jobs.Status.SUCCEEDED)], worker_id=worker)


def retry(claim: jobs.Claim, worker: int):
    verdict = Verdict(claim=claim, status=jobs.Status.TODO, retry_at=types.utcnow(), priority=9, report={"number": 1})
    return RetryJobs(verdicts=[verdict], worker_id=worker)


def release(claim: jobs.Claim, worker: int):
    return ReleaseJobs(claims=[claim], worker_id=worker)


each_outcome = pytest.mark.parametrize("outcome", [finish, delete, retry, release])


def row(connection):
    """The only job, whole."""
    (only,) = connection.execute("select * from procrastinate_jobs").fetchall()
    return only


def declare_dead(connection, worker: int) -> None:
    connection.execute(
        "update procrastinate_workers set last_heartbeat = now() - interval '1 hour' where id = %s", [worker]
    )


@pytest.fixture
def worker(connection):
    return support.register(connection)


@pytest.fixture
def stale_claim(connection, worker):
    """A claim of a worker that was declared dead; the job waits again."""
    support.defer(connection)
    claim = support.claim(connection, worker)
    declare_dead(connection, worker)
    assert [rescued.status for rescued in support.run(RESCUE, connection)] == ["todo"]
    return claim


@each_outcome
def test_accepted_under_the_claim(connection, worker, outcome):
    (job_id,) = support.defer(connection)
    claim = support.claim(connection, worker)
    answer = support.run(outcome(claim, worker), connection)
    assert list(answer) == [(job_id, claim.token)]


@each_outcome
def test_refused_after_rescue(connection, worker, stale_claim, outcome):
    before = row(connection)
    assert not support.run(outcome(stale_claim, worker), connection)
    assert row(connection) == before


@each_outcome
def test_refused_while_another_worker_runs_it(connection, worker, stale_claim, outcome):
    other = support.register(connection)
    claim = support.claim(connection, other)
    before = row(connection)
    assert not support.run(outcome(stale_claim, worker), connection)
    # Nor is a guessed token of use.
    assert not support.run(outcome(claim, worker), connection)
    assert row(connection) == before
    assert support.succeed(connection, other, claim) == [claim.job.id]


@each_outcome
def test_refused_while_the_same_worker_runs_it_again(connection, worker, stale_claim, outcome):
    assert support.run(UpdateHeartbeat(worker_id=worker), connection).was_known
    claim = support.claim(connection, worker)
    assert (claim.job.id, claim.token) == (stale_claim.job.id, stale_claim.token + 1)
    before = row(connection)
    assert not support.run(outcome(stale_claim, worker), connection)
    assert row(connection) == before
    assert support.succeed(connection, worker, claim) == [claim.job.id]


@each_outcome
def test_refused_after_the_end_of_the_later_run(connection, worker, stale_claim, outcome):
    support.run(UpdateHeartbeat(worker_id=worker), connection)
    support.succeed(connection, worker, support.claim(connection, worker))
    before = row(connection)
    assert not support.run(outcome(stale_claim, worker), connection)
    assert row(connection) == before


@each_outcome
@pytest.mark.parametrize(
    "change",
    [
        lambda job_id: FinishJob(job_id=job_id, status=jobs.Status.FAILED, delete=False),
        lambda job_id: RetryJob(job_id=job_id, retry_at=types.utcnow(), priority=None, queue=None, lock=None),
    ],
)
def test_refused_after_somebody_changed_the_job_by_hand(connection, worker, outcome, change):
    support.defer(connection)
    claim = support.claim(connection, worker)
    assert support.run(change(claim.job.id), connection).changed
    before = row(connection)
    assert not support.run(outcome(claim, worker), connection)
    assert row(connection) == before


@each_outcome
def test_refused_if_decided_while_the_outcome_waits_for_the_row(database, connection, worker, outcome):
    """The check holds for the row as it is when the outcome gets it, not for the snapshot."""
    support.defer(connection)
    claim = support.claim(connection, worker)
    declare_dead(connection, worker)
    with support.connected(database) as rescuer, support.connected(database, autocommit=True) as late:
        assert len(support.run(RESCUE, rescuer)) == 1
        with support.threads() as threads:
            waiting = threads.submit(support.run_patiently, outcome(claim, worker), late)
            support.wait_until_blocked(connection, late, waiting)
            rescuer.commit()
            assert not waiting.result(support.PATIENCE)
    assert support.state(connection, claim.job.id) == ("todo", None)


@pytest.mark.parametrize(("outcome", "expected"), [(retry, "failed"), (release, "aborted")])
def test_an_abort_asked_for_while_the_outcome_waits_for_the_row_counts(database, connection, worker, outcome, expected):
    support.defer(connection)
    claim = support.claim(connection, worker)
    with support.connected(database) as user, support.connected(database, autocommit=True) as own:
        assert support.run(CancelJob(job_id=claim.job.id, abort=True, delete=False), user).changed
        with support.threads() as threads:
            waiting = threads.submit(support.run_patiently, outcome(claim, worker), own)
            support.wait_until_blocked(connection, own, waiting)
            user.commit()
            assert len(waiting.result(support.PATIENCE)) == 1
    assert support.state(connection, claim.job.id) == (expected, None)


def test_accepted_outcomes_of_a_batch_with_refused_ones(connection, worker, stale_claim):
    support.run(UpdateHeartbeat(worker_id=worker), connection)
    again = support.claim(connection, worker)
    (other_id,) = support.defer(connection)
    other = support.claim(connection, worker)
    assert support.succeed(connection, worker, stale_claim, other) == [other_id]
    assert support.state(connection, again.job.id) == ("doing", None)


def test_a_removed_worker_claims_nothing_until_it_is_back(connection, worker):
    declare_dead(connection, worker)
    assert support.run(PruneStalledWorkers(seconds_since_heartbeat=30), connection) == [worker]
    support.defer(connection)
    assert support.fetch(connection, worker).scanned == 0
    assert support.fetch(connection, worker, queues=["default"]).scanned == 0
    assert not support.run(UpdateHeartbeat(worker_id=worker), connection).was_known
    assert support.fetch(connection, worker).scanned == 0
    assert not support.run(UpdateHeartbeat(worker_id=worker, revive=True), connection).was_known
    assert support.run(UpdateHeartbeat(worker_id=worker), connection).was_known
    assert len(support.fetch(connection, worker).claims) == 1


def test_an_abort_request_that_meets_a_claim_halfway(connection, database, worker):
    """The snapshot of the request still shows a waiting job; the row that it gets hold of is running."""
    support.defer(connection)
    with support.connected(database) as claimer, support.connected(database) as asker, support.threads(1) as threads:
        claimed = support.claim(claimer, worker)
        request = threads.submit(support.run, CancelJob(job_id=claimed.job.id, abort=True, delete=False), asker)
        support.wait_until_blocked(connection, asker, request)
        claimer.commit()
        answer = request.result(support.PATIENCE)
        asker.commit()
    assert (answer.status, answer.changed) == ("doing", True)
    assert support.value(connection, "select abort_requested from procrastinate_jobs") is True
