"""Jobs of dead workers come back, or end in a way that says why; lines that dead workers left closed are found."""

from __future__ import annotations

import pytest

from database import support
from procrastinate.store.jobs import CancelJob, GetStalledJobs, ListJobs
from procrastinate.store.locks import FindSleepingLocks, OpenLocks
from procrastinate.store.workers import PruneStalledWorkers, RescueJobs, UnregisterWorker

PATIENCE = 30


def rescue(connection, *, max_rescues: int = 3, limit: int = 10):
    return support.run(RescueJobs(seconds_since_heartbeat=PATIENCE, max_rescues=max_rescues, limit=limit), connection)


def log(connection, job_id: int) -> list[dict]:
    return support.value(connection, "select attempts_log from procrastinate_jobs where id = %s", job_id)


def get(connection, job_id: int):
    (job,) = support.run(ListJobs(id=job_id), connection)
    return job


@pytest.fixture
def worker(connection):
    return support.register(connection)


def age(connection, worker: int, seconds: int) -> None:
    connection.execute(
        "update procrastinate_workers set last_heartbeat = now() - make_interval(secs => %s) where id = %s",
        [seconds, worker],
    )


def stale(connection, worker: int) -> None:
    age(connection, worker, PATIENCE + 1)


def remove(connection, worker: int) -> None:
    connection.execute("delete from procrastinate_workers where id = %s", [worker])


def prune(connection, worker: int) -> None:
    stale(connection, worker)
    assert support.run(PruneStalledWorkers(seconds_since_heartbeat=PATIENCE), connection) == [worker]


def unregister(connection, worker: int) -> None:
    support.run(UnregisterWorker(worker_id=worker), connection)


deaths = pytest.mark.parametrize("death", [stale, remove, prune, unregister])


def test_the_living_are_left_alone(connection, worker):
    support.defer(connection)
    support.fetch(connection, worker)
    age(connection, worker, PATIENCE - 5)
    assert rescue(connection) == []


@deaths
def test_a_job_goes_back_to_wait(connection, worker, death):
    (job_id,) = support.defer(connection, support.job(lock="L"))
    support.fetch(connection, worker)
    death(connection, worker)
    (rescued,) = rescue(connection)
    assert (rescued.job_id, rescued.task_name, rescued.queue) == (job_id, "task", "default")
    assert (rescued.status, rescued.lock) == ("todo", "L")
    assert support.state(connection, job_id) == ("todo", None)
    # The attempt was not the job's fault.
    assert get(connection, job_id).attempts == 0
    (entry,) = log(connection, job_id)
    assert (entry["number"], entry["event"], entry["reason"]) == (1, "deferred_for_retry", "the worker died")
    assert entry["started_at"] < entry["ended_at"]
    assert rescue(connection) == []


@deaths
def test_what_is_rescued_is_what_is_stalled(connection, worker, death):
    (dead_id,) = support.defer(connection)
    support.fetch(connection, worker)
    support.defer(connection)
    support.fetch(connection, support.register(connection))
    death(connection, worker)
    stalled = GetStalledJobs(queue=None, task_name=None, seconds_since_heartbeat=PATIENCE)
    assert [job.id for job in support.run(stalled, connection)] == [dead_id]
    assert [rescued.job_id for rescued in rescue(connection)] == [dead_id]


def test_a_job_that_kills_its_workers_fails_in_the_end(connection, worker):
    (job_id,) = support.defer(connection)
    for expected in ("todo", "todo", "failed"):
        support.fetch(connection, worker)
        stale(connection, worker)
        (rescued,) = rescue(connection, max_rescues=2)
        assert rescued.status == expected
        age(connection, worker, 0)
    assert support.state(connection, job_id) == ("failed", None)
    assert get(connection, job_id).attempts == 1
    assert log(connection, job_id)[-1]["reason"] == "the worker died, and so did those of the 2 runs before"
    assert support.fetch(connection, worker).claims == []


def test_a_job_that_should_abort_is_aborted(connection, worker):
    (job_id,) = support.defer(connection, support.job(lock="L"))
    support.fetch(connection, worker)
    assert support.run(CancelJob(job_id=job_id, abort=True, delete=False), connection).changed
    stale(connection, worker)
    (rescued,) = rescue(connection)
    assert (rescued.status, rescued.lock) == ("aborted", "L")
    assert support.state(connection, job_id) == ("aborted", None)
    assert not get(connection, job_id).abort_requested


def test_a_job_whose_queueing_lock_is_taken_fails_with_the_reason(connection, worker):
    (job_id,) = support.defer(connection, support.job(queueing_lock="Q"))
    support.fetch(connection, worker)
    (sibling,) = support.defer(connection, support.job(queueing_lock="Q"))
    stale(connection, worker)
    (rescued,) = rescue(connection)
    assert (rescued.job_id, rescued.status) == (job_id, "failed")
    assert (
        log(connection, job_id)[-1]["reason"] == "the worker died, and another job with this queueing lock is waiting"
    )
    assert support.state(connection, sibling) == ("todo", None)


def test_of_two_stalled_jobs_with_one_queueing_lock_one_waits(connection, worker):
    ids = []
    for _ in range(2):
        ids += support.defer(connection, support.job(queueing_lock="Q"))
        support.fetch(connection, worker)
    ids += support.defer(connection, support.job())
    support.fetch(connection, worker)
    stale(connection, worker)
    rescued = rescue(connection)
    # Those with a queueing lock come last and alone, in any order.
    assert [job.job_id for job in rescued] == ids[2:]
    for _ in range(2):
        (job,) = rescue(connection)
        rescued.append(job)
    assert [job.status for job in rescued] == ["todo", "todo", "failed"]
    assert sorted(job.job_id for job in rescued) == ids
    assert rescue(connection) == []


def test_one_statement_takes_no_more_than_its_limit(connection, worker):
    ids = support.defer(connection, *[support.job() for _ in range(5)])
    support.fetch(connection, worker)
    stale(connection, worker)
    found = [sorted(job.job_id for job in rescue(connection, limit=2)) for _ in range(4)]
    assert found == [ids[0:2], ids[2:4], ids[4:], []]


def test_a_job_claimed_again_meanwhile_is_not_taken_from_its_new_worker(database, connection, worker):
    """A rescuer whose snapshot shows a dead worker's job meets the row when a living worker runs it."""
    blocker_id, job_id = support.defer(connection, support.job(), support.job())
    support.fetch(connection, worker)
    stale(connection, worker)
    living = support.register(connection)
    with support.connected(database) as late, support.threads() as threads:
        # The advisory lock, the only change to the statement, stops it between its snapshot and its first row lock.
        connection.execute("select pg_advisory_lock(1)")
        operation = RescueJobs(seconds_since_heartbeat=PATIENCE, max_rescues=3, limit=10)
        text = support.postgres.statement(operation)
        condition = "  where j.status = 'doing'\n"
        assert condition in text
        text = text.replace(condition, condition + "    and (select pg_advisory_xact_lock(1) is not null)\n", 1)
        parameters = operation.parameters(support.postgres.JsonText())
        rescuing = threads.submit(lambda: late.execute(text, parameters).fetchall())
        support.wait_until_blocked(connection, late, rescuing)
        assert len(rescue(connection)) == 2
        (claimed, _) = support.fetch(connection, living).claims
        connection.execute("select pg_advisory_unlock(1)")
        assert rescuing.result(support.PATIENCE) == []
        late.commit()
    assert claimed.job.id == blocker_id
    assert support.succeed(connection, living, claimed) == [blocker_id]
    assert support.state(connection, job_id) == ("doing", None)


def test_lines_left_closed_are_found_and_opened(connection, worker):
    """The worker ends jobs, and dies before it opens their locks."""
    locks = ["a", "b", "c"]
    ids = support.defer(connection, *[support.job(lock=lock) for lock in locks for _ in range(3)])
    claims = support.fetch(connection, worker, limit=100).claims
    assert len(claims) == 3
    assert support.run(FindSleepingLocks(limit=10), connection) == []
    support.succeed(connection, worker, *claims[:2])
    assert support.run(FindSleepingLocks(limit=10), connection) == ["a", "b"]
    assert support.run(FindSleepingLocks(limit=1), connection) == ["a"]
    support.run(OpenLocks(locks=["a", "b"]), connection)
    assert support.run(FindSleepingLocks(limit=10), connection) == []
    assert [support.state(connection, id_)[1] for id_ in ids] == [
        None,
        None,
        "lock",
        None,
        None,
        "lock",
        None,
        *["lock"] * 2,
    ]


def test_a_rescued_job_stands_at_the_head_of_its_line(connection, worker):
    first, second = support.defer(connection, support.job(lock="L"), support.job(lock="L"))
    support.fetch(connection, worker)
    stale(connection, worker)
    rescue(connection)
    living = support.register(connection)
    assert support.claim(connection, living).job.id == first
    assert support.state(connection, second) == ("todo", "lock")


@pytest.mark.parametrize("end", ["cancel", "delete"])
def test_a_head_that_leaves_a_free_line_names_its_lock(connection, worker, end):
    first, second, third = support.defer(connection, *[support.job(lock="L") for _ in range(3)])
    (claim,) = support.fetch(connection, worker).claims
    support.succeed(connection, worker, claim)
    assert claim.job.id == first
    changed = support.run(CancelJob(job_id=second, abort=False, delete=end == "delete"), connection)
    assert (changed.changed, changed.freed_locks) == (True, ["L"])
    support.run(OpenLocks(locks=changed.freed_locks), connection)
    assert support.state(connection, third) == ("todo", None)
