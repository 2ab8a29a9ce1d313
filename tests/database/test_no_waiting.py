"""Somebody's open transaction must not stop the workers, and what everybody does must not fill the server's log."""

from __future__ import annotations

import time

import psycopg
import pytest

from database import support
from procrastinate import exceptions, jobs, types
from procrastinate.store.jobs import (
    DeleteJobs,
    DeleteOldJobs,
    FinishJobs,
    ReleaseJobs,
    RetryJobs,
    Verdict,
)
from procrastinate.store.locks import OpenLocks
from procrastinate.store.schedule import DeferPeriodicJob, StageJobs
from procrastinate.store.workers import RescueJobs

RESCUE = RescueJobs(seconds_since_heartbeat=30, max_rescues=3, limit=10)
# The statements' own is 2 s. A test that waits for ever fails by this one, with another error.
LONGEST_WAIT = "5s"


@pytest.fixture
def worker(connection):
    return support.register(connection)


@pytest.fixture
def impatient(database):
    """A connection on which a statement that waits at all for somebody's lock fails."""
    with support.connected(database, autocommit=True, lock_timeout="20ms", statement_timeout=LONGEST_WAIT) as impatient:
        yield impatient


@pytest.fixture
def patient(database):
    with support.connected(database, autocommit=True, statement_timeout=LONGEST_WAIT) as patient:
        yield patient


@pytest.fixture
def holder(database):
    """A user's transaction."""
    with support.connected(database) as holder:
        yield holder


def hold(holder, *job_ids: int) -> None:
    query = "select id from procrastinate_jobs where id = any (%s) for update"
    assert len(holder.execute(query, [list(job_ids)]).fetchall()) == len(job_ids)


def declare_dead(connection, worker: int) -> None:
    connection.execute(
        "update procrastinate_workers set last_heartbeat = now() - interval '1 hour' where id = %s", [worker]
    )


class TestHeldRows:
    def test_claim_goes_past_them(self, connection, impatient, holder, worker):
        held, head, free = support.defer(connection, support.job(), support.job(lock="L"), support.job())
        support.defer(connection, support.job(lock="L"))
        hold(holder, held, head)
        answer = support.fetch(impatient, worker)
        assert [claim.job.id for claim in answer.claims] == [free]
        assert answer.parked_locks == ["L"]
        holder.rollback()
        assert [claim.job.id for claim in support.fetch(impatient, worker).claims] == [held, head]

    def test_claim_of_queues_goes_past_them(self, connection, impatient, holder, worker):
        held, free = support.defer(connection, support.job(), support.job())
        hold(holder, held)
        assert [claim.job.id for claim in support.fetch(impatient, worker, queues=["default"]).claims] == [free]

    def test_stage_goes_past_them(self, connection, impatient, holder):
        soon = types.time_from_now({"milliseconds": 1})
        held, free = support.defer(connection, support.job(scheduled_at=soon), support.job(scheduled_at=soon))
        connection.execute("select pg_sleep(0.01)")
        hold(holder, held)
        assert support.run(StageJobs(limit=10), impatient).count == 1
        assert support.state(connection, free) == ("todo", None)
        holder.rollback()
        assert support.run(StageJobs(limit=10), impatient).count == 1

    def test_open_goes_past_them_and_says_so(self, connection, impatient, holder, worker):
        ids = support.defer(connection, *[support.job(lock=lock) for lock in ("L", "M", "L", "M")])
        claims = support.fetch(connection, worker).claims
        support.succeed(connection, worker, *claims)
        hold(holder, ids[2])
        opened = support.run(OpenLocks(locks=["L", "M"]), impatient)
        assert (opened.still_parked, opened.queues) == (["L"], ["default"])
        holder.rollback()
        assert support.run(OpenLocks(locks=["L"]), impatient).still_parked == []

    def test_rescue_goes_past_them(self, connection, impatient, holder, worker):
        held, free = support.defer(connection, support.job(), support.job())
        support.fetch(connection, worker)
        declare_dead(connection, worker)
        hold(holder, held)
        assert [job.job_id for job in support.run(RESCUE, impatient)] == [free]
        holder.rollback()
        assert [job.job_id for job in support.run(RESCUE, impatient)] == [held]

    def test_clean_up_goes_past_them(self, connection, impatient, holder, worker):
        support.defer(connection, support.job(), support.job())
        claims = support.fetch(connection, worker).claims
        held, _ = support.succeed(connection, worker, *claims)
        hold(holder, held)
        old = DeleteOldJobs(nb_hours=-1, queue=None, statuses=["succeeded"], after=0, window=10)
        assert support.run(old, impatient).count == 1
        holder.rollback()
        assert support.run(old, impatient).count == 1

    @pytest.mark.parametrize("outcome", ["finish", "delete", "retry", "release"])
    def test_outcomes_give_up_in_time_and_work_afterwards(self, connection, patient, holder, worker, outcome):
        support.defer(connection)
        claim = support.claim(connection, worker)
        operation = ending(outcome, claim, worker)
        hold(holder, claim.job.id)
        before = time.monotonic()
        with pytest.raises(exceptions.LockNotAvailable):
            support.run(operation, patient)
        assert 1.5 < time.monotonic() - before < 4
        # The setting was the statement's own.
        assert support.value(patient, "show lock_timeout") == "0"
        holder.rollback()
        assert len(support.run(operation, patient)) == 1


def ending(outcome: str, claim: jobs.Claim, worker: int):
    verdict = Verdict(claim=claim, status=jobs.Status.SUCCEEDED)
    again = Verdict(claim=claim, status=jobs.Status.TODO, retry_at=types.utcnow())
    return {
        "finish": FinishJobs(verdicts=[verdict], worker_id=worker),
        "delete": DeleteJobs(verdicts=[verdict], worker_id=worker),
        "retry": RetryJobs(verdicts=[again], worker_id=worker),
        "release": ReleaseJobs(claims=[claim], worker_id=worker),
    }[outcome]


class TestUncommittedInsert:
    """A user's transaction inserted a job with a queueing lock, and is not committed."""

    QUEUEING = {"queueing_lock": "Q", "lock": "L"}

    def test_claim(self, connection, impatient, holder, worker):
        (job_id,) = support.defer(connection, support.job(**self.QUEUEING))
        connection.execute("update procrastinate_jobs set queueing_lock = null")
        support.defer(holder, support.job(**self.QUEUEING))
        assert support.claim(impatient, worker).job.id == job_id

    def test_claim_and_end_of_the_sibling(self, connection, impatient, holder, worker):
        (job_id,) = support.defer(connection, support.job(**self.QUEUEING))
        claim = support.claim(connection, worker)
        support.defer(holder, support.job(**self.QUEUEING))
        assert support.succeed(impatient, worker, claim) == [job_id]
        assert support.run(OpenLocks(locks=["L"]), impatient).still_parked == []

    def test_stage(self, connection, impatient, holder):
        support.defer(connection, support.job(scheduled_at=types.time_from_now({"milliseconds": 1})))
        connection.execute("select pg_sleep(0.01)")
        support.defer(holder, support.job(**self.QUEUEING))
        assert support.run(StageJobs(limit=10), impatient).count == 1

    def test_rescue_of_other_jobs(self, connection, impatient, holder, worker):
        held, *others = support.defer(
            connection, support.job(**self.QUEUEING), support.job(queueing_lock="R"), support.job()
        )
        support.fetch(connection, worker)
        declare_dead(connection, worker)
        support.defer(holder, support.job(**self.QUEUEING))
        assert [job.job_id for job in support.run(RESCUE, impatient)] == others[1:]
        # The other two come one at a time, in any order. The statement's own patience would be two seconds.
        text = support.postgres.statement(RESCUE).replace("'2s'", "'1ms'")
        rescued = []
        for _ in range(100):
            try:
                rescued += impatient.execute(text, RESCUE.parameters(support.postgres.JsonText())).fetchall()
            except psycopg.errors.LockNotAvailable:
                continue
            if rescued:
                break
        assert [row[0] for row in rescued] == others[:1]
        assert support.state(connection, held) == ("doing", None)

    @pytest.mark.parametrize("outcome", ["retry", "release", "rescue"])
    def test_going_back_to_wait_gives_up_in_time(self, connection, patient, holder, worker, outcome):
        support.defer(connection, support.job(**self.QUEUEING))
        claim = support.claim(connection, worker)
        if outcome == "rescue":
            declare_dead(connection, worker)
        operation = RESCUE if outcome == "rescue" else ending(outcome, claim, worker)
        support.defer(holder, support.job(**self.QUEUEING))
        before = time.monotonic()
        with pytest.raises(exceptions.LockNotAvailable):
            support.run(operation, patient)
        assert time.monotonic() - before < 4
        holder.commit()
        assert len(support.run(operation, patient)) == 1
        ends = {"retry": "failed", "release": "cancelled", "rescue": "failed"}
        assert support.state(connection, claim.job.id) == (ends[outcome], None)

    def test_periodic_tick_gives_up_in_time(self, patient, holder):
        support.defer(holder, support.job(**self.QUEUEING))
        tick = DeferPeriodicJob(job=support.job(**self.QUEUEING), periodic_id="", defer_timestamp=60)
        with pytest.raises(exceptions.LockNotAvailable):
            support.run(tick, patient)
        holder.rollback()
        assert support.run(tick, patient) is not None


def test_taken_queueing_locks_are_no_errors_to_the_server(connection, postgres_server):
    folder = getattr(postgres_server, "data_dir", None)
    if folder is None:
        pytest.skip("the log of a server that PG* variables name is out of reach")
    log = folder / "server.log"
    offset = log.stat().st_size
    locked = support.job(queueing_lock="Q")
    support.defer(connection, locked)
    for batch in ([locked], [support.job(), locked], [support.job(queueing_lock="R"), support.job(queueing_lock="R")]):
        with pytest.raises(exceptions.AlreadyEnqueued):
            support.defer(connection, *batch)
    with pytest.raises(exceptions.AlreadyEnqueued):
        support.run(DeferPeriodicJob(job=locked, periodic_id="", defer_timestamp=60), connection)
    assert support.value(connection, "select count(*) from procrastinate_jobs") == 1
    # What an error would look like there, so that the test can fail.
    with pytest.raises(exceptions.UniqueViolation), support.errors_translated():
        connection.execute(
            "insert into procrastinate_jobs (queue_name, task_name, queueing_lock) values ('q', 't', 'Q')"
        )
    written = log.read_bytes()[offset:].decode()
    ours = [line for line in written.splitlines() if "ERROR" in line and "violates" in line]
    assert len(ours) == 1
