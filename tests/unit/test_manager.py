"""The job manager, over the store in memory."""

import asyncio
import datetime
import hashlib
import inspect

import pytest

from procrastinate import Job, exceptions, manager, testing, types
from procrastinate.jobs import Status
from procrastinate.store.channels import channels_for

TWINS = [name for name in vars(manager.JobManager) if name.endswith("_async") and not name.startswith("_")]
# What existed without a twin keeps its name.
ASYNC_ONLY = {"finish_job_by_id_async", "list_jobs_to_abort_async"}


def job(**changes):
    return Job(**{"queue": "q", "lock": None, "queueing_lock": None, "task_name": "t", **changes})


@pytest.fixture
def jobs(app):
    return app.job_manager


def claim(jobs, queues=None):
    """Claim a job for a new worker."""

    async def fetch():
        return await jobs.fetch_job(queues, await jobs.register_worker())

    return asyncio.run(fetch())


@pytest.mark.parametrize("name", sorted(set(TWINS) - ASYNC_ONLY))
def test_twins_have_one_signature(name):
    verb = getattr(manager.JobManager, name)
    assert inspect.iscoroutinefunction(verb)
    twin = getattr(manager.JobManager, name.removesuffix("_async"))
    assert not inspect.iscoroutinefunction(twin)
    assert inspect.signature(twin) == inspect.signature(verb)


def test_twins_are_found():
    assert {"defer_job_async", "cancel_job_by_id_async", "list_queues_async"} <= set(TWINS)


def test_public_verbs_are_documented():
    for name, verb in vars(manager.JobManager).items():
        assert name.startswith("_") or verb.__doc__, name


@pytest.mark.parametrize(
    ("queues", "channels"),
    [
        (None, ["procrastinate_any_queue_v1"]),
        (["a", "b"], ["procrastinate_queue_v1#a", "procrastinate_queue_v1#b"]),
        (["q" * 40], [f"procrastinate_queue_v1#{'q' * 40}"]),
        (["é" * 20], [f"procrastinate_queue_v1#{'é' * 20}"]),
        # Longer than 40 bytes: the MD5 of the name, as the trigger has it.
        (["é" * 21], [f"procrastinate_queue_v1#{hashlib.md5(('é' * 21).encode()).hexdigest()}"]),
    ],
)
def test_channels(queues, channels):
    assert channels_for(queues) == manager.get_channel_for_queues(queues) == channels
    assert all(len(channel.encode()) <= 63 for channel in channels)


def test_deferred_job_has_its_id(jobs):
    assert jobs.defer_job(job()) == job(id=1, status="todo")
    assert [each.id for each in jobs.batch_defer_jobs([job(), job()])] == [2, 3]
    assert jobs.batch_defer_jobs([]) == []


def test_cancelling(jobs):
    jobs.defer_job(job())
    assert jobs.cancel_job_by_id(1)
    assert jobs.get_job_status(1) is Status.CANCELLED
    assert not jobs.cancel_job_by_id(1)
    assert not jobs.cancel_job_by_id(99)


def test_running_a_scheduled_job_now(jobs):
    jobs.defer_job(job(scheduled_at=types.utcnow() + datetime.timedelta(hours=1)))
    assert jobs.run_job_now_by_id(1)
    assert not jobs.run_job_now_by_id(1)
    assert claim(jobs).id == 1


def test_status_of_an_unknown_job(jobs):
    with pytest.raises(exceptions.NoResult, match="99"):
        jobs.get_job_status(99)


def test_cancelling_the_head_of_a_line_wakes_the_next(jobs):
    jobs.batch_defer_jobs([job(lock="l"), job(lock="l"), job(lock="l")])
    assert claim(jobs).id == 1
    assert claim(jobs) is None
    assert jobs.list_jobs(lock="l", status=Status.DOING)[0].id == 1
    asyncio.run(jobs.finish_job_by_id_async(1, Status.FAILED, delete_job=False))
    assert jobs.cancel_job_by_id(2)
    assert claim(jobs).id == 3


def test_fetching_looks_at_what_became_due():
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    jobs = manager.JobManager(testing.InMemoryConnector(now=lambda: now))
    jobs.defer_job(job(scheduled_at=now + datetime.timedelta(minutes=1)))
    assert claim(jobs) is None
    now += datetime.timedelta(minutes=1)
    assert claim(jobs).id == 1


def test_fetching_passes_over_what_is_blocked(jobs):
    jobs.batch_defer_jobs([job(lock="l"), job(lock="l", priority=-1), job(priority=-2)])
    assert [claim(jobs).id for _ in range(2)] == [1, 3]


def test_fetching_from_queues(jobs):
    jobs.batch_defer_jobs([job(queue="a"), job(queue="b")])
    assert claim(jobs, ["b"]).id == 2
    assert claim(jobs, []) is None


def test_fetching_for_an_unknown_worker(jobs):
    jobs.defer_job(job())
    with pytest.raises(exceptions.ConnectorException, match="No worker is registered with id 99"):
        asyncio.run(jobs.fetch_job(None, 99))


def test_retrying(jobs):
    jobs.defer_job(job())
    now = datetime.datetime.now(tz=datetime.UTC)
    with pytest.raises(exceptions.ConnectorException, match=r"invalid status to retry \(job id: 1\)"):
        jobs.retry_job_by_id(1, now)
    with pytest.raises(exceptions.ConnectorException, match=r"Job was not found .* \(job id: 99\)"):
        jobs.retry_job_by_id(99, now)
    asyncio.run(jobs.finish_job(claim(jobs), Status.FAILED, delete_job=False))
    jobs.retry_job_by_id(1, now, priority=3, queue="other", lock="l")
    (again,) = jobs.list_jobs()
    assert (again.status, again.attempts, again.priority, again.queue, again.lock) == ("todo", 2, 3, "other", "l")


def test_retrying_at_a_naive_time(jobs):
    with pytest.raises(ValueError, match="aware"):
        jobs.retry_job_by_id(1, datetime.datetime(2030, 1, 1))  # noqa: DTZ001  that is the point


@pytest.mark.parametrize("status", [Status.TODO, Status.DOING, Status.CANCELLED])
def test_finishing_with_a_status_that_is_no_end(jobs, status):
    with pytest.raises(exceptions.ConnectorException, match=r'either "succeeded", "failed" or "aborted" \(job id: 1\)'):
        asyncio.run(jobs.finish_job_by_id_async(1, status, delete_job=False))


def test_finishing_twice(jobs):
    jobs.defer_job(job())
    asyncio.run(jobs.finish_job_by_id_async(1, Status.SUCCEEDED, delete_job=False))
    with pytest.raises(exceptions.ConnectorException, match=r'not in "doing" or "todo" status \(job id: 1\)'):
        asyncio.run(jobs.finish_job_by_id_async(1, Status.SUCCEEDED, delete_job=False))


@pytest.mark.parametrize("status", ["todo", Status.TODO])
def test_listing_by_status(jobs, status):
    jobs.batch_defer_jobs([job(), job(queue="other", lock="l")])
    assert [each.id for each in jobs.list_jobs(status=status)] == [1, 2]
    assert [line["name"] for line in jobs.list_queues(status=status)] == ["other", "q"]
    assert [(line["name"], line["jobs_count"], line["todo"]) for line in jobs.list_tasks(status=status)] == [
        ("t", 2, 2)
    ]
    assert [line["name"] for line in jobs.list_locks(status=status)] == ["l"]


def test_unknown_status(jobs):
    with pytest.raises(ValueError, match=r"'done'.*succeeded"):
        jobs.list_jobs(status="done")


def test_timestamp_of_a_tick(jobs):
    def defer(timestamp):
        return asyncio.run(jobs.defer_periodic_job(job(task_kwargs={"timestamp": timestamp}), "", 60))

    with pytest.raises(exceptions.InvalidTimestamp):
        defer(61)
    assert (defer(60), defer(60)) == (1, None)


def test_stalled_jobs_by_age_are_deprecated(jobs):
    with pytest.warns(DeprecationWarning, match="seconds_since_heartbeat"):
        asyncio.run(jobs.get_stalled_jobs(nb_seconds=1))


def test_old_jobs(jobs):
    jobs.batch_defer_jobs([job(), job(), job()])
    asyncio.run(jobs.finish_job_by_id_async(1, Status.SUCCEEDED, delete_job=False))
    asyncio.run(jobs.finish_job_by_id_async(2, Status.FAILED, delete_job=False))
    asyncio.run(jobs.delete_old_jobs(nb_hours=0))
    assert [each.id for each in jobs.list_jobs()] == [2, 3]
    asyncio.run(jobs.delete_old_jobs(nb_hours=0, include_failed=True))
    assert [each.id for each in jobs.list_jobs()] == [3]
