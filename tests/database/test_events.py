"""`procrastinate_events` reads like a table of events, though nothing is written for them but the job's own row."""

from __future__ import annotations

import datetime

import pytest

from database import support
from procrastinate import jobs, types
from procrastinate.store.jobs import CancelJob, FinishJob, FinishJobs, ReleaseJobs, RetryJob, RetryJobs, Verdict
from procrastinate.store.workers import RescueJobs

FUTURE = datetime.datetime(2080, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture
def worker(connection):
    return support.register(connection)


@pytest.fixture
def job_id(connection):
    (job_id,) = support.defer(connection)
    return job_id


def events(connection) -> list[str]:
    query = "select type::text from procrastinate_events order by id"
    return [row[0] for row in connection.execute(query)]


def moments(connection, kind: str) -> list[datetime.datetime]:
    query = "select at from procrastinate_events where type::text = %s order by id"
    return [row[0] for row in connection.execute(query, [kind])]


def end(connection, worker: int, claim: jobs.Claim, status: jobs.Status = jobs.Status.SUCCEEDED) -> None:
    report = None
    if status is not jobs.Status.SUCCEEDED:
        now = types.utcnow().isoformat()
        report = {"number": 1, "event": status.value, "started_at": now, "ended_at": now, "final": True}
    verdict = Verdict(claim=claim, status=status, report=report)
    assert support.run(FinishJobs(verdicts=[verdict], worker_id=worker), connection)


def retry(connection, worker: int, claim: jobs.Claim, when: datetime.datetime | None = None) -> None:
    now = types.utcnow().isoformat()
    report = {"number": claim.token, "event": "deferred_for_retry", "started_at": now, "ended_at": now}
    verdict = Verdict(claim=claim, status=jobs.Status.TODO, retry_at=when, report=report)
    assert support.run(RetryJobs(verdicts=[verdict], worker_id=worker), connection)


def retry_by_hand(connection, job_id: int) -> None:
    change = RetryJob(job_id=job_id, retry_at=types.utcnow(), priority=None, queue=None, lock=None)
    assert support.run(change, connection).changed


def cancel(connection, job_id: int, *, abort: bool = False, delete: bool = False) -> None:
    assert support.run(CancelJob(job_id=job_id, abort=abort, delete=delete), connection).changed


def test_the_columns_that_users_know(connection, job_id):
    query = """
        select column_name, data_type, udt_name from information_schema.columns
        where table_name = 'procrastinate_events' order by ordinal_position
    """
    assert connection.execute(query).fetchall() == [
        ("id", "bigint", "int8"),
        ("job_id", "bigint", "int8"),
        ("type", "USER-DEFINED", "procrastinate_job_event_type"),
        ("at", "timestamp with time zone", "timestamptz"),
    ]


def test_deferred(connection, job_id):
    assert events(connection) == ["deferred"]
    assert moments(connection, "deferred") == [support.value(connection, "select created_at from procrastinate_jobs")]


def test_scheduled(connection):
    support.defer(connection, support.job(scheduled_at=FUTURE))
    assert events(connection) == ["scheduled", "deferred"]
    assert moments(connection, "scheduled") == [FUTURE]


def test_started(connection, worker, job_id):
    support.claim(connection, worker)
    assert events(connection) == ["deferred", "started"]


@pytest.mark.parametrize("status", [jobs.Status.SUCCEEDED, jobs.Status.FAILED, jobs.Status.ABORTED])
def test_finished(connection, worker, job_id, status):
    end(connection, worker, support.claim(connection, worker), status)
    assert events(connection) == ["deferred", "started", status.value]
    (ended_at,) = moments(connection, status.value)
    assert ended_at == support.value(connection, "select finalized_at from procrastinate_jobs")


def test_retried_by_its_worker(connection, worker, job_id):
    retry(connection, worker, support.claim(connection, worker))
    assert events(connection) == ["deferred", "started", "deferred_for_retry"]
    end(connection, worker, support.claim(connection, worker))
    assert events(connection) == ["deferred", "started", "deferred_for_retry", "started", "succeeded"]


def test_retried_later(connection, worker, job_id):
    retry(connection, worker, support.claim(connection, worker), FUTURE)
    assert events(connection) == ["deferred", "started", "scheduled", "deferred_for_retry"]
    assert moments(connection, "scheduled") == [FUTURE]


def test_retried_by_hand_after_a_failure(connection, worker, job_id):
    end(connection, worker, support.claim(connection, worker), jobs.Status.FAILED)
    retry_by_hand(connection, job_id)
    assert events(connection) == ["deferred", "started", "failed", "scheduled", "retried"]


def test_retried_by_hand_after_a_failure_without_a_report(connection, worker, job_id):
    support.claim(connection, worker)
    support.run(FinishJob(job_id=job_id, status=jobs.Status.FAILED, delete=False), connection)
    retry_by_hand(connection, job_id)
    assert events(connection) == ["deferred", "started", "failed", "scheduled", "retried"]


def test_retried_by_hand_while_running(connection, worker, job_id):
    support.claim(connection, worker)
    retry_by_hand(connection, job_id)
    assert events(connection) == ["deferred", "started", "scheduled", "deferred_for_retry"]


def test_cancelled(connection, job_id):
    cancel(connection, job_id)
    assert events(connection) == ["deferred", "cancelled"]


def test_cancelled_with_abort(connection, job_id):
    cancel(connection, job_id, abort=True)
    assert events(connection) == ["deferred", "abort_requested", "cancelled"]
    # Asked of a job that waited, it is done: nothing is left to be asked.
    assert support.value(connection, "select abort_requested from procrastinate_jobs") is False


def test_aborted(connection, worker, job_id):
    claim = support.claim(connection, worker)
    cancel(connection, job_id, abort=True)
    assert events(connection) == ["deferred", "started", "abort_requested"]
    end(connection, worker, claim, jobs.Status.ABORTED)
    assert events(connection) == ["deferred", "started", "abort_requested", "aborted"]


def test_asked_twice_to_abort(connection, worker, job_id):
    support.claim(connection, worker)
    cancel(connection, job_id, abort=True)
    first = moments(connection, "abort_requested")
    cancel(connection, job_id, abort=True)
    assert moments(connection, "abort_requested") == first


@pytest.mark.parametrize("by_hand", [True, False])
def test_retry_of_a_job_that_should_abort_fails(connection, worker, job_id, by_hand):
    claim = support.claim(connection, worker)
    cancel(connection, job_id, abort=True)
    if by_hand:
        retry_by_hand(connection, job_id)
    else:
        retry(connection, worker, claim)
    assert events(connection) == ["deferred", "started", "abort_requested", "failed"]


def test_given_back_and_rescued(connection, worker, job_id):
    claim = support.claim(connection, worker)
    assert support.run(ReleaseJobs(claims=[claim], worker_id=worker), connection) == {claim.key}
    # It never started.
    assert events(connection) == ["deferred"]
    support.claim(connection, worker)
    connection.execute("delete from procrastinate_workers")
    support.run(RescueJobs(seconds_since_heartbeat=30, max_rescues=0, limit=1), connection)
    assert events(connection) == ["deferred", "started", "failed"]


def test_rescued_and_run_again(connection, worker, job_id):
    support.claim(connection, worker)
    connection.execute("delete from procrastinate_workers")
    support.run(RescueJobs(seconds_since_heartbeat=30, max_rescues=1, limit=1), connection)
    other = support.register(connection)
    end(connection, other, support.claim(connection, other))
    assert events(connection) == ["deferred", "started", "deferred_for_retry", "started", "succeeded"]


def test_deleted(connection, job_id):
    cancel(connection, job_id, delete=True)
    assert events(connection) == []


def test_the_log_keeps_the_latest_attempts_and_ids_stay_unique(connection, worker):
    ids = support.defer(connection, *[support.job() for _ in range(2)])
    for _ in range(55):
        for claim in support.fetch(connection, worker).claims:
            retry(connection, worker, claim)
    log = support.value(connection, "select attempts_log from procrastinate_jobs where id = %s", ids[0])
    assert [entry["number"] for entry in log] == list(range(6, 56))
    assert support.value(connection, "select max(attempts) from procrastinate_jobs") == 55
    total, distinct = connection.execute("select count(*), count(distinct id) from procrastinate_events").fetchone()
    assert total == distinct == 2 * (1 + 2 * 50)
    query = "select at from procrastinate_events where job_id = %s order by id"
    times = [row[0] for row in connection.execute(query, [ids[1]])]
    assert times == sorted(times)


def test_rows_changed_by_hand_have_events_too(connection, job_id):
    connection.execute("update procrastinate_jobs set status = 'failed', finalized_at = now()")
    assert events(connection) == ["deferred", "cancelled"]
