"""Jobs as values, and the deferrer that makes them."""

import copy
import datetime
import enum
import logging
import pickle
import uuid

import attrs
import pytest

from procrastinate import Job, exceptions, jobs, types

MOMENT = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)


def job(**attributes):
    return Job(**{"queue": "q", "lock": None, "queueing_lock": None, "task_name": "t", **attributes})


# The value


def test_fields_in_their_order():
    assert [(field.name, field.default is attrs.NOTHING) for field in attrs.fields(Job)] == [
        ("id", False),
        ("status", False),
        ("queue", True),
        ("priority", False),
        ("lock", True),
        ("queueing_lock", True),
        ("task_name", True),
        ("task_kwargs", False),
        ("scheduled_at", False),
        ("attempts", False),
        ("abort_requested", False),
        ("worker_id", False),
        ("log_args", False),
    ]
    assert job().asdict() == {
        "id": None,
        "status": None,
        "queue": "q",
        "priority": 0,
        "lock": None,
        "queueing_lock": None,
        "task_name": "t",
        "task_kwargs": {},
        "scheduled_at": None,
        "attempts": 0,
        "abort_requested": False,
        "worker_id": None,
    }


def test_jobs_are_frozen_values():
    assert job(task_kwargs={"a": [1]}) == job(task_kwargs={"a": [1]}) != job()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        job().priority = 1
    with pytest.raises(TypeError):
        hash(job())
    with pytest.raises(TypeError):
        Job("q", None, None, "t")
    one = job(id=1, scheduled_at=MOMENT)
    assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one


def test_evolve():
    assert job().evolve(id=3, status="todo") == job(id=3, status="todo")
    with pytest.raises(TypeError):
        job().evolve(nothing=1)


@pytest.mark.parametrize("extra", [{}, {"abort_requested": True, "worker_id": 7}])
def test_from_row(extra):
    row = {
        "id": 1,
        "status": "doing",
        "queue_name": "q",
        "priority": 5,
        "lock": "l",
        "queueing_lock": "ql",
        "task_name": "t",
        "args": {"a": 1},
        "scheduled_at": MOMENT,
        "attempts": 2,
        **extra,
    }
    expected = Job(
        id=1,
        status="doing",
        queue="q",
        priority=5,
        lock="l",
        queueing_lock="ql",
        task_name="t",
        task_kwargs={"a": 1},
        scheduled_at=MOMENT,
        attempts=2,
        **extra,
    )
    assert Job.from_row(row) == expected


def test_naive_schedule():
    with pytest.raises(ValueError, match="Timezone aware datetime is required"):
        job(scheduled_at=datetime.datetime(2030, 1, 1))  # noqa: DTZ001  that is the point


@pytest.mark.parametrize("value", ["2030-01-01T00:00:00Z", datetime.date(2030, 1, 1), 0])
def test_schedule_that_is_no_datetime(app, value):
    with pytest.raises(TypeError, match="datetime"):
        job(scheduled_at=value)
    with pytest.raises(TypeError, match="datetime"):
        app.configure_task("t", schedule_at=value)


def test_call_string():
    assert job(id=12, task_kwargs={"a": "b", "c": [1]}).call_string == "t[12](a='b', c=[1])"
    assert job().call_string == "t[None]()"


def test_log_context():
    context = job(id=1, scheduled_at=MOMENT).log_context()
    assert context == {**job(id=1).asdict(), "scheduled_at": "2030-01-01T12:00:00+00:00", "call_string": "t[1]()"}
    assert job().log_context()["scheduled_at"] is None


def test_enumerations():
    assert [status.value for status in jobs.Status] == [
        "todo",
        "doing",
        "succeeded",
        "failed",
        "cancelled",
        "aborting",
        "aborted",
    ]
    assert [condition.value for condition in jobs.DeleteJobCondition] == ["never", "successful", "always"]
    assert (jobs.DEFAULT_QUEUE, jobs.DEFAULT_PRIORITY) == ("default", 0)


def test_job_to_defer():
    assert types.JobToDefer._fields == (
        "queue_name",
        "task_name",
        "priority",
        "lock",
        "queueing_lock",
        "args",
        "scheduled_at",
    )


# The deferrer


@pytest.fixture
def deferrer(app):
    return app.configure_task("t", task_kwargs={"a": 1}, lock="l")


def test_arguments_of_the_call_win(deferrer):
    assert deferrer.make_new_job(a=2, b=3).task_kwargs == {"a": 2, "b": 3}
    assert deferrer.job.task_kwargs == {"a": 1}


def test_a_deferrer_may_be_used_again(deferrer, rows):
    assert [deferrer.defer(), deferrer.defer(b=1)] == [1, 2]
    assert [row["args"] for row in rows.values()] == [{"a": 1}, {"a": 1, "b": 1}]
    assert {row["lock"] for row in rows.values()} == {"l"}


async def test_asynchronously(deferrer, rows):
    assert await deferrer.defer_async(b=1) == 1
    assert await deferrer.batch_defer_async({"b": 2}, {}) == [2, 3]
    assert await deferrer.batch_defer_async() == []
    assert [row["args"] for row in rows.values()] == [{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 1}]


def numbers(count):
    return ({"b": number} for number in range(count))


async def slowly(count):
    for each in numbers(count):
        yield each


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
async def test_many(deferrer, rows, size):
    assert deferrer.defer_many(numbers(5), batch_size=size) == 5
    assert await deferrer.defer_many_async(numbers(5), batch_size=size) == 5
    assert await deferrer.defer_many_async(slowly(5), batch_size=size) == 5
    assert [row["args"] for row in rows.values()] == [{"a": 1, **each} for _ in range(3) for each in numbers(5)]
    assert {row["lock"] for row in rows.values()} == {"l"}


async def test_many_of_none(deferrer, rows):
    assert deferrer.defer_many([]) == await deferrer.defer_many_async(slowly(0)) == 0
    assert not rows


async def test_many_reads_no_further_than_it_sends(deferrer, rows):
    def broken():
        yield from numbers(5)
        raise LookupError("the source is gone")

    with pytest.raises(LookupError):
        deferrer.defer_many(broken(), batch_size=2)
    assert len(rows) == 4, "whole batches before the error are kept"


async def test_many_refuses_senseless_sizes_before_it_reads(deferrer):
    for size in (0, -1):
        with pytest.raises(ValueError, match="batch_size must be at least 1"):
            deferrer.defer_many([], batch_size=size)
        with pytest.raises(ValueError, match="batch_size must be at least 1"):
            await deferrer.defer_many_async(slowly(0), batch_size=size)


async def test_positional_arguments(deferrer, rows):
    with pytest.raises(TypeError, match=r"defer\(name=value\) for task t, not 5 alone"):
        deferrer.defer(5)
    with pytest.raises(TypeError, match="by name"):
        await deferrer.defer_async(5)
    with pytest.raises(TypeError, match="by name"):
        deferrer.make_new_job(5)
    assert not rows


@pytest.mark.parametrize("argument", [[{"a": 1}], 1, "a"])
async def test_batch_of_what_is_no_dictionary(deferrer, rows, argument):
    with pytest.raises(TypeError, match=r"batch_defer\(\*dictionaries\)"):
        deferrer.batch_defer({}, argument)
    with pytest.raises(TypeError, match=r"batch_defer\(\*dictionaries\)"):
        await deferrer.batch_defer_async(argument)
    assert not rows


def test_names_of_arguments_are_texts(app, deferrer, rows):
    with pytest.raises(TypeError, match="2 is no name"):
        deferrer.batch_defer({2: 1})
    with pytest.raises(TypeError, match="3 is no name"):
        app.configure_task("t", task_kwargs={3: 1}).defer()
    assert not rows


@pytest.mark.parametrize(("count", "noun"), [(1, "1 job"), (2, "2 jobs")])
def test_log_records(deferrer, caplog, count, noun):
    caplog.set_level(logging.DEBUG, "procrastinate.jobs")
    deferrer.batch_defer(*[{}] * count)
    before, after = caplog.records
    assert (before.levelname, before.action, before.getMessage()) == (
        "DEBUG",
        "about_to_defer_jobs",
        f"About to defer {noun}",
    )
    assert (after.levelname, after.action, after.getMessage()) == ("INFO", "jobs_deferred", f"Deferred {noun}")
    assert [each["call_string"] for each in before.jobs] == ["t[None](a=1)"] * count
    assert [each["id"] for each in after.jobs] == list(range(1, count + 1))


# What the columns take


class Queue(str, enum.Enum):  # noqa: UP042  what users have; its str() is not its value
    MAIL = "mail"


def test_settings_are_stored_as_text(app, rows):
    lock = uuid.uuid4()
    task = app.task(name="t", lock=5, queue=Queue.MAIL)(lambda: None)
    task.defer()
    task.configure(lock=lock, queueing_lock=7, queue=Queue.MAIL).defer()
    assert [(row["lock"], row["queueing_lock"], row["queue_name"]) for row in rows.values()] == [
        ("5", None, "mail"),
        (str(lock), "7", "mail"),
    ]
    assert {type(row["queue_name"]) for row in rows.values()} == {str}


@pytest.mark.parametrize("priority", [1.0, 1.5, True, "1"])
def test_priority_that_is_no_integer(app, priority):
    with pytest.raises(TypeError, match="A priority is an integer"):
        app.configure_task("t", priority=priority)
    with pytest.raises(TypeError, match="A priority is an integer"):
        app.task(priority=priority)(lambda: None)


@pytest.mark.parametrize("priority", [2**31 - 1, -(2**31)])
def test_priorities_at_the_limits(app, priority):
    assert app.configure_task("t", priority=priority).job.priority == priority


@pytest.mark.parametrize("options", [{"queue": 5}, {"queue": b"q"}])
def test_queue_that_is_no_text(app, options):
    with pytest.raises(TypeError, match="queue name is a text"):
        app.configure_task("t", **options)


def test_deferring_before_anything_is_known_of_the_task(app):
    with pytest.raises(ValueError, match="128"):
        app.configure_task("n" * 129)
    assert app.configure_task("n" * 128).defer() == 1


def test_queueing_lock_is_named(app):
    deferrer = app.configure_task("t", queueing_lock="a)b\nc")
    deferrer.defer()
    with pytest.raises(exceptions.AlreadyEnqueued) as raised:
        deferrer.defer()
    assert str(raised.value) == (
        "Job cannot be enqueued: there is already a job in the queue with the queueing lock a)b\nc"
    )
