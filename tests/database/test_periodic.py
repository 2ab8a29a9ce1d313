"""The job of one tick is deferred exactly once, whatever the number of workers and however late they are."""

from __future__ import annotations

import threading

import psycopg
import pytest

from database import support
from procrastinate import exceptions
from procrastinate.store.schedule import DeferPeriodicJob, TakeChores


def tick(connection, timestamp: int, *, periodic_id: str = "", task: str = "task", **changes) -> int | None:
    job = support.job(task_name=task, task_kwargs={"timestamp": timestamp}, **changes)
    operation = DeferPeriodicJob(job=job, periodic_id=periodic_id, defer_timestamp=timestamp)
    return support.run(operation, connection)


def record(connection) -> list[tuple]:
    query = "select task_name, periodic_id, defer_timestamp, job_id from procrastinate_periodic_defers order by id"
    return connection.execute(query).fetchall()


def count(connection) -> int:
    return support.value(connection, "select count(*) from procrastinate_jobs")


def test_the_job_is_as_configured(connection):
    job_id = tick(connection, 60, queue="q", lock="L", queueing_lock="Q", priority=7)
    query = "select queue_name, task_name, lock, queueing_lock, priority, args, status::text, waits_for, scheduled_at"
    row = connection.execute(f"{query} from procrastinate_jobs where id = %s", [job_id]).fetchone()
    assert row == ("q", "task", "L", "Q", 7, {"timestamp": 60}, "todo", None, None)
    assert record(connection) == [("task", "", 60, job_id)]


def test_a_tick_is_deferred_once(connection):
    assert tick(connection, 60) is not None
    assert tick(connection, 60) is None
    assert count(connection) == 1


def test_a_late_duplicate_is_refused_after_the_record_of_it_is_gone(connection):
    tick(connection, 100)
    later = tick(connection, 160)
    assert later is not None
    assert record(connection) == [("task", "", 160, later)]
    assert tick(connection, 100) is None
    # Nor one that never was: the time for it is over.
    assert tick(connection, 130) is None
    assert count(connection) == 2


def test_tasks_and_periodic_ids_are_apart(connection):
    for task, periodic_id in (("a", ""), ("a", "x"), ("b", ""), ("b", "x")):
        assert tick(connection, 60, task=task, periodic_id=periodic_id) is not None
    assert tick(connection, 120, task="a", periodic_id="x") is not None
    assert sorted(row[:3] for row in record(connection)) == [
        ("a", "", 60),
        ("a", "x", 120),
        ("b", "", 60),
        ("b", "x", 60),
    ]


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_taken_queueing_lock_leaves_the_tick_open(database, connection, autocommit):
    (waiting,) = support.defer(connection, support.job(queueing_lock="Q"))
    with support.connected(database, autocommit=autocommit) as own:
        with pytest.raises(exceptions.AlreadyEnqueued):
            tick(own, 60, queueing_lock="Q")
        own.commit()
        assert record(connection) == []
        connection.execute("delete from procrastinate_jobs where id = %s", [waiting])
        assert tick(own, 60, queueing_lock="Q") is not None
        own.commit()
    assert count(connection) == 1


def test_a_taken_queueing_lock_keeps_the_record_of_earlier_ticks(connection):
    earlier = tick(connection, 60, queueing_lock="Q")
    with pytest.raises(exceptions.AlreadyEnqueued):
        tick(connection, 120, queueing_lock="Q")
    assert record(connection) == [("task", "", 60, earlier)]
    assert tick(connection, 60) is None


def test_records_that_other_clients_wrote_one_for_each_tick_are_heeded_and_dropped(connection):
    connection.execute(
        "insert into procrastinate_periodic_defers (task_name, defer_timestamp) values ('task', 60), ('task', 120)"
    )
    assert tick(connection, 60) is None
    assert tick(connection, 90) is None
    later = tick(connection, 180)
    assert record(connection) == [("task", "", 180, later)]


def test_a_deleted_job_leaves_the_record(connection):
    job_id = tick(connection, 60)
    connection.execute("delete from procrastinate_jobs where id = %s", [job_id])
    assert record(connection) == [("task", "", 60, None)]
    assert tick(connection, 60) is None


def compete(database: str, competitors: int, compete) -> list:
    """Run `compete(connection, number)` on so many connections at once; answer what each returned."""
    answers: list = [None] * competitors
    start = threading.Barrier(competitors)

    def run(number: int) -> None:
        try:
            with psycopg.connect(database, autocommit=True) as connection:
                start.wait(support.PATIENCE)
                answers[number] = compete(connection, number)
        except Exception as error:  # noqa: BLE001  shown by the test
            answers[number] = error

    crew = [threading.Thread(target=run, args=(number,)) for number in range(competitors)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join(support.PATIENCE)
    return answers


def test_eight_workers_defer_thirty_ticks_once_each(database, connection):
    ticks = range(60, 60 + 30 * 60, 60)
    barrier = threading.Barrier(8)

    def work(own, number):
        ids = []
        for timestamp in ticks:
            barrier.wait(support.PATIENCE)
            ids.append((timestamp, tick(own, timestamp)))
        return ids

    answers = compete(database, 8, work)
    assert [answer for answer in answers if isinstance(answer, Exception)] == []
    deferred = sorted(timestamp for answer in answers for timestamp, job_id in answer if job_id is not None)
    assert deferred == list(ticks)
    query = "select (args ->> 'timestamp')::int from procrastinate_jobs order by id"
    assert [row[0] for row in connection.execute(query)] == list(ticks)
    # Several were there for the first of them, and the later ones left one.
    assert [row[2] for row in record(connection)] == [ticks[-1]]


def test_workers_that_lag_behind_each_other_defer_no_tick_twice(database, connection):
    """Each catches up on its own, so that statements for older ticks meet the record of newer ones."""
    tick(connection, 0)
    ticks = range(60, 60 + 200 * 60, 60)
    answers = compete(database, 8, lambda own, number: [(when, tick(own, when)) for when in ticks])
    assert [answer for answer in answers if isinstance(answer, Exception)] == []
    deferred = [timestamp for answer in answers for timestamp, job_id in answer if job_id is not None]
    assert len(deferred) == len(set(deferred)) == count(connection) - 1
    assert ticks[-1] in deferred


def test_a_chore_is_taken_by_one_at_a_time(database, connection):
    def take(own, number):
        """Each asks for them in another order."""
        names = ["rescue", "sweep", "prune"]
        return support.run(TakeChores(intervals=dict.fromkeys(names[number % 3 :] + names[: number % 3], 60)), own)

    for _ in range(20):
        answers = compete(database, 8, take)
        assert sorted(name for answer in answers for name in answer) == ["prune", "rescue", "sweep"]
        connection.execute("update procrastinate_chores set last_run = last_run - interval '61 seconds'")
