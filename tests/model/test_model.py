"""Random operations: the store in memory and PostgreSQL give the same answers and end with the same rows."""

from __future__ import annotations

import datetime
import json
import os
from typing import Any

import attrs
import psycopg
import psycopg.rows
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from procrastinate import exceptions
from procrastinate.jobs import Claim, Job, Status
from procrastinate.store import jobs, locks, memory, schedule, workers
from procrastinate.store.operation import Operation
from procrastinate.store.postgres import JsonText
from procrastinate.sync_psycopg_connector import SyncPsycopgConnector

# Enough to meet every planted mistake so far; more of them on demand.
EXAMPLES = int(os.environ.get("PROCRASTINATE_TEST_EXAMPLES", "100"))
COMMON = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "print_blob": False,
    "suppress_health_check": list(HealthCheck),
}
MANY = 1000
PAST = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
FUTURE = datetime.datetime(2999, 1, 1, tzinfo=datetime.UTC)
TABLES = ("jobs", "workers", "periodic_defers", "chores")

QUEUES = st.sampled_from(["q", "r", "a queue with a name that is longer than channels allow"])
PRIORITIES = st.sampled_from([0, 0, 0, 5, -5])
LOCKS = st.sampled_from([None, None, "x", "y", "z"])
QUEUEING_LOCKS = st.sampled_from([None, None, "one", "two"])
TIMES = st.sampled_from([None, None, None, PAST, FUTURE])
FINAL = st.sampled_from([Status.SUCCEEDED, Status.FAILED, Status.ABORTED])
REPORTS = st.sampled_from([None, {"event": "failed", "started_at": "2026-01-01T00:00:00+00:00", "final": True}])
RETRY_REPORTS = st.sampled_from([None, {"event": "deferred_for_retry", "ended_at": "2026-01-01T00:00:00+00:00"}])
JOB_IDS = st.integers(0, 8)
WORKERS = st.sampled_from([0, 0, 0, 1, 2])
PICKS = st.lists(st.integers(0, 5), min_size=1, max_size=5, unique=True)
JOBS = st.builds(
    Job,
    queue=QUEUES,
    task_name=st.sampled_from(["t", "u"]),
    priority=PRIORITIES,
    lock=LOCKS,
    queueing_lock=QUEUEING_LOCKS,
    task_kwargs=st.sampled_from([{}, {"a": [1, "é", None, 1.5]}]),
    scheduled_at=TIMES,
)


class Stores(RuleBasedStateMachine):
    """All that can be asked of a store; subclasses say of which, and what must hold."""

    def __init__(self):
        super().__init__()
        self.memory = memory.MemoryStore(JsonText())
        self.claims: list[tuple[Claim, int]] = []

    def ask(self, operation: Operation[Any]) -> Any:
        raise NotImplementedError

    def change(self, where: dict[str, Any], changes: dict[str, Any]) -> None:
        """Change rows behind the operations' back, as the time does that passes, or a user with SQL."""
        for row in self.memory._find(**where):
            row.update(changes)

    def lose(self, worker_id: int) -> None:
        """Let a worker have been silent for long."""
        if worker_id in self.memory.workers:
            self.memory.workers[worker_id] = PAST

    def worker(self, number: int) -> int:
        """Choose one of the workers that are there, so that there is always something to do; or an unknown one."""
        there = sorted(self.memory.workers)
        return there[number] if number < len(there) else 99

    def job(self, number: int) -> int:
        """Choose one of the jobs that are there, or an unknown one."""
        there = sorted(self.memory.jobs)
        return there[-number] if 0 < number <= len(there) else 99

    def pick(self, picks: list[int], worker_id: int) -> list[Claim]:
        """Choose some claims, also old ones; never the same one twice."""
        mine = [claim for claim, owner in self.claims[-24:] if owner == worker_id]
        mine.sort(key=lambda claim: self.memory.jobs.get(claim.job.id, {}).get("status") == "doing")
        return [mine[-1 - number] for number in picks if number < len(mine)]

    @initialize(batch=st.lists(JOBS, min_size=3, max_size=8))
    def start(self, batch):
        self.ask(workers.RegisterWorker())
        self.ask(workers.RegisterWorker(worker_name="second"))
        for job in batch:
            self.ask(jobs.DeferJob(job=job))

    @rule(batch=st.lists(JOBS, min_size=1, max_size=5))
    def defer(self, batch):
        self.ask(jobs.DeferJobs(jobs=batch))

    @rule(job=JOBS, count=st.integers(1, 3))
    def defer_alike(self, job, count):
        self.ask(jobs.DeferAlike(job=job, arguments=[{"n": number} for number in range(count)]))

    @rule(job=JOBS, count=st.integers(2, 4), is_aborted=st.booleans())
    def start_siblings(self, job, count, is_aborted):
        """Several jobs with one queueing lock run at a time: each was deferred when the one before had started."""
        for _ in range(count):
            self.ask(jobs.DeferJob(job=job.evolve(lock=None, queueing_lock="one", scheduled_at=None)))
            self.fetch([job.queue], 0, 6, 1)
            if is_aborted and self.claims:
                self.ask(jobs.CancelJob(job_id=self.claims[-1][0].job.id, abort=True, delete=False))
            is_aborted = False

    @rule(job=JOBS, tick=st.integers(1, 4), periodic_id=st.sampled_from(["", "other"]))
    def defer_periodic(self, job, tick, periodic_id):
        self.ask(schedule.DeferPeriodicJob(job=job, periodic_id=periodic_id, defer_timestamp=tick))

    @rule(
        queues=st.none() | st.none() | st.lists(QUEUES, max_size=2),
        worker=WORKERS,
        limit=st.integers(1, 6),
        slots=st.none() | st.integers(0, 4),
        most=st.none() | st.integers(1, 6),
        times=st.integers(1, 2),
    )
    def fetch(self, queues, worker, limit, times, slots=None, most=None):
        worker_id = self.worker(worker)
        for _ in range(times):
            fetched = self.ask(jobs.FetchJobs(queues=queues, worker_id=worker_id, limit=limit, slots=slots, most=most))
            self.claims += [(claim, worker_id) for claim in fetched.claims]

    @rule(picks=PICKS, worker=WORKERS, status=FINAL, report=REPORTS)
    def finish(self, picks, worker, status, report):
        worker_id = self.worker(worker)
        verdicts = [jobs.Verdict(claim=claim, status=status, report=report) for claim in self.pick(picks, worker_id)]
        self.ask(jobs.FinishJobs(verdicts=verdicts, worker_id=worker_id))

    @rule(picks=PICKS, worker=WORKERS)
    def finish_and_delete(self, picks, worker):
        worker_id = self.worker(worker)
        verdicts = [
            jobs.Verdict(claim=claim, status=Status.SUCCEEDED, delete=True) for claim in self.pick(picks, worker_id)
        ]
        self.ask(jobs.DeleteJobs(verdicts=verdicts, worker_id=worker_id))

    @rule(
        picks=PICKS,
        worker=WORKERS,
        changes=st.fixed_dictionaries(
            {},
            optional={
                "retry_at": TIMES,
                "priority": PRIORITIES,
                "queue": QUEUES,
                "lock": LOCKS,
                "report": RETRY_REPORTS,
            },
        ),
    )
    def retry(self, picks, worker, changes):
        worker_id = self.worker(worker)
        verdicts = [jobs.Verdict(claim=claim, status=Status.TODO, **changes) for claim in self.pick(picks, worker_id)]
        self.ask(jobs.RetryJobs(verdicts=verdicts, worker_id=worker_id))

    @rule(picks=PICKS, worker=WORKERS)
    def release(self, picks, worker):
        worker_id = self.worker(worker)
        self.ask(jobs.ReleaseJobs(claims=self.pick(picks, worker_id), worker_id=worker_id))

    @rule(job_id=JOB_IDS, abort=st.booleans(), delete=st.booleans())
    def cancel(self, job_id, abort, delete):
        job_id = self.job(job_id)
        self.ask(jobs.CancelJob(job_id=job_id, abort=abort, delete=delete))

    @rule(job_id=JOB_IDS)
    def run_now(self, job_id):
        self.ask(jobs.RunJobNow(job_id=self.job(job_id)))

    @rule(picks=PICKS, worker=WORKERS)
    def abort_what_was_claimed(self, picks, worker):
        worker_id = self.worker(worker)
        for claim in self.pick(picks, worker_id):
            self.ask(jobs.CancelJob(job_id=claim.job.id, abort=True, delete=False))

    @rule(
        job_id=JOB_IDS,
        retry_at=st.sampled_from([PAST, FUTURE]),
        priority=st.none() | PRIORITIES,
        queue=st.none() | QUEUES,
        lock=LOCKS,
    )
    def retry_by_hand(self, job_id, retry_at, priority, queue, lock):
        job_id = self.job(job_id)
        self.ask(jobs.RetryJob(job_id=job_id, retry_at=retry_at, priority=priority, queue=queue, lock=lock))

    @rule(job_id=JOB_IDS, status=FINAL, delete=st.booleans())
    def finish_by_hand(self, job_id, status, delete):
        job_id = self.job(job_id)
        self.ask(jobs.FinishJob(job_id=job_id, status=status, delete=delete))

    @rule(chosen=st.lists(LOCKS.filter(bool), max_size=3, unique=True))
    def open_locks(self, chosen):
        self.ask(locks.OpenLocks(locks=chosen))

    @rule()
    def open_all_locks(self):
        self.ask(locks.OpenLocks(locks=self.ask(locks.FindSleepingLocks(limit=MANY))))

    @rule(limit=st.integers(1, 3))
    def stage(self, limit):
        # Each at a time of its own: their order decides who is staged.
        for job_id in list(self.memory.jobs):
            due = PAST + datetime.timedelta(minutes=job_id)
            self.change({"id": job_id, "status": "todo", "waits_for": "time"}, {"scheduled_at": due})
        self.ask(schedule.StageJobs(limit=limit))

    @rule()
    def stage_too_early(self):
        self.ask(schedule.StageJobs(limit=MANY))

    @rule(job_id=JOB_IDS)
    def write_a_row_by_hand(self, job_id):
        """A row inserted with SQL is ready, whatever it says: it is for the claim to park it."""
        self.change({"id": self.job(job_id), "status": "todo"}, {"waits_for": None})

    @rule(name=st.none() | st.just("w"))
    def register_worker(self, name):
        self.ask(workers.RegisterWorker(worker_name=name))

    @rule(worker=WORKERS)
    def unregister_worker(self, worker):
        worker_id = self.worker(worker)
        self.ask(workers.UnregisterWorker(worker_id=worker_id))

    @rule(worker=WORKERS, revive=st.booleans())
    def beat(self, worker, revive):
        worker_id = self.worker(worker)
        # The identity column does not notice ids that are given: none beyond those that it gave out.
        known = min(worker_id, self.memory._last_worker_id)
        self.ask(workers.UpdateHeartbeat(worker_id=known, revive=revive))

    @rule(worker=WORKERS)
    def fall_silent(self, worker):
        self.lose(self.worker(worker))

    @rule()
    def prune(self):
        self.ask(workers.PruneStalledWorkers(seconds_since_heartbeat=3600))

    @rule(max_rescues=st.integers(0, 2), limit=st.integers(1, 4))
    def rescue(self, max_rescues, limit):
        stalled = [row for row in self.memory._find(status="doing") if self.memory._is_stalled(row, 3600)]
        if len(stalled) > 1 and all(row["queueing_lock"] is not None for row in stalled):
            return  # PostgreSQL would choose one of them at random.
        self.ask(workers.RescueJobs(seconds_since_heartbeat=3600, max_rescues=max_rescues, limit=limit))

    @rule(worker=WORKERS, max_rescues=st.integers(0, 2))
    def rescue_from(self, worker, max_rescues):
        self.lose(self.worker(worker))
        self.rescue(max_rescues, MANY)

    @rule(intervals=st.dictionaries(st.sampled_from(["sweep", "prune"]), st.sampled_from([3600.0, -1.0])))
    def take_chores(self, intervals):
        self.ask(schedule.TakeChores(intervals=intervals))

    @rule(
        nb_hours=st.sampled_from([-1, -1, 1]),
        queue=st.none() | QUEUES,
        statuses=st.lists(st.sampled_from(["succeeded", "failed", "cancelled", "aborted"]), unique=True),
        after=st.integers(0, 8),
        window=st.integers(1, 6),
    )
    def delete_old(self, nb_hours, queue, statuses, after, window):
        self.ask(jobs.DeleteOldJobs(nb_hours=nb_hours, queue=queue, statuses=statuses, after=after, window=window))


READING = st.one_of(
    st.builds(jobs.GetJobStatus, job_id=JOB_IDS),
    st.builds(
        jobs.ListJobs,
        id=st.none() | JOB_IDS,
        queue=st.none() | QUEUES,
        task=st.sampled_from([None, "t"]),
        status=st.sampled_from([None, "todo", "doing", "failed"]),
        lock=LOCKS,
        queueing_lock=QUEUEING_LOCKS,
        worker_id=st.sampled_from([None, 1, 2]),
    ),
    st.builds(
        jobs.CountJobs,
        by=st.sampled_from(["queue", "task", "lock"]),
        queue=st.none() | QUEUES,
        task=st.sampled_from([None, "t"]),
        lock=LOCKS,
    ),
    st.builds(jobs.ListJobsToAbort, queue=st.none() | QUEUES, worker_id=st.sampled_from([None, 1, 2])),
    st.builds(
        jobs.GetStalledJobs,
        queue=st.none() | QUEUES,
        task_name=st.sampled_from([None, "t"]),
        seconds_since_heartbeat=st.just(3600),
        nb_seconds=st.sampled_from([None, 3600, -3600]),
    ),
    st.builds(locks.FindSleepingLocks, limit=st.integers(1, 3)),
)


class SameAsPostgres(Stores):
    """Everything is asked of both, and the rows are compared after each step."""

    def __init__(self, connection: psycopg.Connection):
        super().__init__()
        self.connection = connection
        self.postgres = SyncPsycopgConnector()
        # Not truncated: that makes new files each time, and costs more than the whole example.
        for table in TABLES:
            connection.execute(f"delete from procrastinate_{table}")
        connection.execute("alter sequence procrastinate_jobs_id_seq restart")
        connection.execute("alter table procrastinate_workers alter column id restart")

    @rule(operation=READING)
    def read(self, operation):
        self.ask(operation)

    def ask(self, operation):
        expected = outcome(lambda: self.memory.answer(operation))
        actual = outcome(lambda: self.postgres.run(operation, connection=self.connection))
        assert comparable(actual) == comparable(expected), operation
        return expected if not isinstance(expected, exceptions.ProcrastinateException) else None

    def change(self, where, changes):
        super().change(where, changes)
        self.connection.execute(
            f"update procrastinate_jobs set {', '.join(f'{column} = %s' for column in changes)} "
            f"where {' and '.join(f'{column} = %s' for column in where)}",
            [*changes.values(), *where.values()],
        )

    def lose(self, worker_id):
        super().lose(worker_id)
        self.connection.execute("update procrastinate_workers set last_heartbeat = %s where id = %s", [PAST, worker_id])

    @invariant()
    def same_rows(self):
        cursor = self.connection.cursor(row_factory=psycopg.rows.dict_row)
        rows = cursor.execute("select * from procrastinate_jobs order by id").fetchall()
        assert [without_times(row) for row in rows] == [without_times(row) for row in self.memory._find()]
        events = cursor.execute("select job_id, type::text from procrastinate_events order by id").fetchall()
        assert [(event["job_id"], event["type"]) for event in events] == [
            (row["id"], event["type"]) for row in self.memory._find() for event in memory.events_of(row)
        ]
        worker_rows = cursor.execute("select id from procrastinate_workers order by id").fetchall()
        assert [row["id"] for row in worker_rows] == sorted(self.memory.workers)
        ticks = cursor.execute("select task_name, periodic_id, defer_timestamp from procrastinate_periodic_defers")
        assert {(r["task_name"], r["periodic_id"]): r["defer_timestamp"] for r in ticks} == self.memory.periodic_defers


def outcome(call):
    try:
        return call()
    except exceptions.ProcrastinateException as error:
        return error


def comparable(answer: Any) -> Any:
    """An answer without what may differ: the clock's seconds, and the order where none is promised."""
    match answer:
        case exceptions.ProcrastinateException():
            return type(answer), str(answer)
        case jobs.FetchResult():
            return attrs.evolve(answer, parked_locks=sorted(answer.parked_locks))
        case schedule.Staged():
            return attrs.evolve(
                answer, next_due_in=None if answer.next_due_in is None else round(answer.next_due_in, -3)
            )
        case [workers.Rescued(), *_]:
            return sorted(answer, key=lambda item: item.job_id)
        case [int(), *_]:
            return sorted(answer)
        case _:
            return answer


def without_times(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its moments replaced by whether they are there; the schedule's are the test's own, and stay."""
    moments = {"created_at", "attempted_at", "abort_requested_at", "finalized_at"}
    log = [
        {name: value is not None if name.endswith("_at") else value for name, value in entry.items()}
        for entry in row["attempts_log"] or []
    ]
    return {
        **{name: value is not None if name in moments else value for name, value in row.items()},
        "attempts_log": row["attempts_log"] and log,
    }


@pytest.mark.timeout(300)  # Seconds on a machine of its own.
def test_memory_answers_as_postgresql_does(connection):
    run_state_machine_as_test(
        lambda: SameAsPostgres(connection), settings=settings(**COMMON, max_examples=EXAMPLES, stateful_step_count=60)
    )


class LocksAreOpened(Stores):
    """Whoever frees a lock or parks behind one opens it in a later statement, as the worker and the manager do."""

    def ask(self, operation):
        answer = outcome(lambda: self.memory.answer(operation))
        freed: list[str | None] = []
        match operation, answer:
            case _, jobs.Changed():
                freed = answer.freed_locks
            case _, jobs.FetchResult():
                freed = answer.parked_locks
            case _, [workers.Rescued(), *_]:
                freed = [rescued.lock for rescued in answer]
            case jobs.FinishJobs() | jobs.DeleteJobs() | jobs.RetryJobs(), _:
                freed = [verdict.claim.job.lock for verdict in operation.verdicts]
            case jobs.ReleaseJobs(), _:
                freed = [claim.job.lock for claim in operation.claims]
        self.memory.answer(locks.OpenLocks(locks=sorted({lock for lock in freed if lock is not None})))
        return answer

    @invariant()
    def no_lock_sleeps(self):
        assert self.memory.answer(locks.FindSleepingLocks(limit=MANY)) == []

    @invariant()
    def one_job_runs_for_each_lock(self):
        held = [row["lock"] for row in self.memory._find(status="doing") if row["lock"] is not None]
        assert len(held) == len(set(held))

    @invariant()
    def one_job_waits_for_each_queueing_lock(self):
        taken = [row["queueing_lock"] for row in self.memory._find(status="todo") if row["queueing_lock"] is not None]
        assert len(taken) == len(set(taken))

    @invariant()
    def rows_are_consistent(self):
        for row in self.memory._find():
            is_final = row["status"] not in {"todo", "doing"}
            assert (row["finalized_at"] is not None) == is_final
            assert row["waits_for"] is None or row["status"] == "todo"
            assert not row["abort_requested"] or row["status"] == "doing"
            assert (row["attempted_at"] is not None) or row["status"] != "doing"
            json.dumps(row["attempts_log"])


def test_no_lock_sleeps_and_none_is_held_twice():
    run_state_machine_as_test(
        LocksAreOpened, settings=settings(**COMMON, max_examples=EXAMPLES // 2, stateful_step_count=60)
    )
