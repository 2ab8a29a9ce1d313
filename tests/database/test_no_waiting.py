"""Somebody's open transaction must not stop the workers, and what everybody does must not fill the server's log."""

from __future__ import annotations

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
# The statements' own patience is shorter. A test that waits for ever fails by this one, with another error.
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
def holder(database):
    """A user's transaction."""
    with support.connected(database) as holder:
        yield holder


def hold(holder, *job_ids: int) -> None:
    query = "select id from procrastinate_jobs where id = any (%s) for update"
    assert len(holder.execute(query, [list(job_ids)]).fetchall()) == len(job_ids)


def make_due(connection) -> None:
    connection.execute("update procrastinate_jobs set scheduled_at = now(), waits_for = 'time'")


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
        held, free = support.defer(connection, support.job(), support.job())
        make_due(connection)
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

    def test_outcomes_give_up_in_time_and_work_afterwards(self, database, connection, holder, worker):
        outcomes = ["finish", "delete", "retry", "release"]
        support.defer(connection, *[support.job() for _ in outcomes])
        claims = support.fetch(connection, worker).claims
        hold(holder, *[claim.job.id for claim in claims])
        operations = [ending(outcome, claim, worker) for outcome, claim in zip(outcomes, claims, strict=True)]
        assert give_up(database, operations) == having_given_up(operations)
        holder.rollback()
        for operation in operations:
            assert len(support.run(operation, connection)) == 1


def give_up(database: str, operations: list) -> list[tuple]:
    """Run each operation on its own connection, at the same time; answer its error, and what it left set there."""

    def attempt(operation) -> tuple:
        with support.connected(database, autocommit=True, statement_timeout=LONGEST_WAIT) as own:
            try:
                support.run(operation, own)
            except exceptions.ConnectorException as error:
                return operation.name, type(error), support.value(own, "show lock_timeout")
        return operation.name, None, None

    with support.threads(len(operations)) as threads:
        return list(threads.map(attempt, operations))


def having_given_up(operations: list) -> list[tuple]:
    return [(operation.name, exceptions.LockNotAvailable, "0") for operation in operations]


def ending(outcome: str, claim: jobs.Claim, worker: int):
    verdict = Verdict(claim=claim, status=jobs.Status.SUCCEEDED)
    again = Verdict(claim=claim, status=jobs.Status.TODO, retry_at=types.utcnow())
    return {
        "finish": FinishJobs(verdicts=[verdict], worker_id=worker),
        "delete": DeleteJobs(verdicts=[verdict], worker_id=worker),
        "retry": RetryJobs(verdicts=[again], worker_id=worker),
        "release": ReleaseJobs(claims=[claim], worker_id=worker),
    }[outcome]


QUEUEING = {"queueing_lock": "Q", "lock": "L"}


class TestUncommittedInsert:
    """A user's transaction inserted a job with a queueing lock, and is not committed."""

    def test_claim(self, connection, impatient, holder, worker):
        (job_id,) = support.defer(connection, support.job(**QUEUEING))
        connection.execute("update procrastinate_jobs set queueing_lock = null")
        support.defer(holder, support.job(**QUEUEING))
        assert support.claim(impatient, worker).job.id == job_id

    def test_claim_and_end_of_the_sibling(self, connection, impatient, holder, worker):
        (job_id,) = support.defer(connection, support.job(**QUEUEING))
        claim = support.claim(connection, worker)
        support.defer(holder, support.job(**QUEUEING))
        assert support.succeed(impatient, worker, claim) == [job_id]
        assert support.run(OpenLocks(locks=["L"]), impatient).still_parked == []

    def test_stage(self, connection, impatient, holder):
        support.defer(connection)
        make_due(connection)
        support.defer(holder, support.job(**QUEUEING))
        assert support.run(StageJobs(limit=10), impatient).count == 1

    def test_rescue_of_other_jobs(self, connection, impatient, holder, worker):
        held, *others = support.defer(
            connection, support.job(**QUEUEING), support.job(queueing_lock="R"), support.job()
        )
        support.fetch(connection, worker)
        declare_dead(connection, worker)
        support.defer(holder, support.job(**QUEUEING))
        assert [job.job_id for job in support.run(RESCUE, impatient)] == others[1:]
        # The other two come one at a time, in any order. The statement's own patience would be two seconds.
        text = support.postgres.statement(RESCUE).replace("'200ms'", "'1ms'")
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

    def test_going_back_to_wait_gives_up_in_time(self, database, connection, holder, worker):
        dead = support.register(connection)
        claims = {}
        for outcome in ("retry", "release", "rescue"):
            support.defer(connection, support.job(queueing_lock=outcome))
            claims[outcome] = support.claim(connection, dead if outcome == "rescue" else worker)
        declare_dead(connection, dead)
        tick = DeferPeriodicJob(job=support.job(queueing_lock="tick"), periodic_id="", defer_timestamp=60)
        support.defer(holder, *[support.job(queueing_lock=lock) for lock in (*claims, "tick")])
        retry, release = (ending(outcome, claims[outcome], worker) for outcome in ("retry", "release"))
        operations = [retry, release, RESCUE, tick]
        assert give_up(database, operations) == having_given_up(operations)

        holder.commit()
        for operation in (retry, release, RESCUE):
            assert len(support.run(operation, connection)) == 1
        with pytest.raises(exceptions.AlreadyEnqueued):
            support.run(tick, connection)
        ends = [support.state(connection, claim.job.id)[0] for claim in claims.values()]
        assert ends == ["failed", "cancelled", "failed"]


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
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute(
            "insert into procrastinate_jobs (queue_name, task_name, queueing_lock) values ('q', 't', 'Q')"
        )
    written = log.read_bytes()[offset:].decode()
    ours = [line for line in written.splitlines() if "ERROR" in line and "violates" in line]
    assert len(ours) == 1
