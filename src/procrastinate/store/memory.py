"""The store in memory: every operation answered from plain dictionaries.

It is the executable specification of `store/sql`, statement by statement: a method answers with the rows that the SQL
of its operation would answer with, so that both are decoded by the same code. It keeps the tables' semantics, not their
speed: it walks through all jobs where PostgreSQL has an index.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import functools
import json as standard_json
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, TypeVar

import attrs

from procrastinate import exceptions, types
from procrastinate.jobs import SUSPECT, Claim, Job, Status
from procrastinate.store import channels, inspection, jobs, locks, migrations, schedule, tables, workers
from procrastinate.store.operation import Json, Operation, Row

T = TypeVar("T")

# One row of procrastinate_jobs, by column.
JobRow = dict[str, Any]
Subscriber = Callable[[str, str], None]

# The columns that hold times, and so do the keys of the log's entries that end like them.
TIMES = ("scheduled_at", "created_at", "attempted_at", "abort_requested_at", "finalized_at")

LOG_LENGTH = 50
NAME_LENGTH = 128
MAX_INTEGER = 2**31 - 1


def events_of(row: JobRow) -> list[dict[str, Any]]:
    """Unroll a row into what happened to its job, as the view procrastinate_events does."""
    log: list[dict[str, Any]] = row["attempts_log"] or []
    runs = [
        (
            _moment(entry.get("scheduled_at")),
            _moment(entry.get("started_at")),
            None,
            entry.get("event"),
            _moment(entry.get("ended_at")),
        )
        for entry in log
        if "final" not in entry
    ]
    is_skipped = row["status"] in ("succeeded", "failed") and row["attempted_at"] is None
    end = "cancelled" if is_skipped else row["status"]
    runs.append((row["scheduled_at"], row["attempted_at"], row["abort_requested_at"], end, row["finalized_at"]))
    happened: list[tuple[str | None, Any]] = []
    before: list[tuple[str | None, Any]] = [("deferred", row["created_at"])]
    for scheduled_at, started_at, abort_requested_at, event, ended_at in runs:
        # What ended the run before comes after the schedule of this one.
        happened += [("scheduled", scheduled_at), *before, ("started", started_at)]
        before = [(event, ended_at)]
        happened.append(("abort_requested", abort_requested_at))
    happened += before
    return [{"type": kind, "at": at} for kind, at in happened if at is not None]


def _moment(text: str | None) -> datetime.datetime | None:
    return None if text is None else datetime.datetime.fromisoformat(text)


def _text(moment: datetime.datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _aged(entry: dict[str, Any], by: datetime.timedelta) -> dict[str, Any]:
    times = {key: _moment(text) for key, text in entry.items() if key.endswith("_at") and text is not None}
    return entry | {key: _text(moment - by) for key, moment in times.items() if moment is not None}


def _line_order(row: JobRow) -> tuple[int, int]:
    """Sort rows in the order in which they are claimed."""
    return -row["priority"], row["id"]


def _log_attempt(row: JobRow, entry: dict[str, Any] | None) -> None:
    if entry is not None:
        row["attempts_log"] = [*(row["attempts_log"] or []), entry][-LOG_LENGTH:]


def _fits(row: JobRow, conditions: dict[str, Any]) -> bool:
    return all(wanted is None or row[column] == wanted for column, wanted in conditions.items())


class MemoryStore:
    """Answers operations from dictionaries; safe to use from several threads.

    Attributes:
        jobs: the rows of procrastinate_jobs, by id.
        workers: when each worker last gave a sign of life, by id.
        periodic_defers: the latest tick that was deferred, by task and periodic id.
        chores: when each chore was last taken, by name.
        table_exists: what CheckConnection answers.
        subscribers: called with (channel, payload) for each notification, after the operation, in its thread.
    """

    def __init__(self, json: Json, *, now: Callable[[], datetime.datetime] = types.utcnow) -> None:
        """Write and read the arguments of jobs with `json`, and read the time from `now`."""
        self._json = json
        self._now = now
        self._mutex = threading.RLock()
        self.subscribers: list[Subscriber] = []
        self.reset()

    def reset(self) -> None:
        """Forget all rows, and start again with id 1. Subscribers stay."""
        with self._mutex:
            self.jobs: dict[int, JobRow] = {}
            self.workers: dict[int, datetime.datetime] = {}
            self._registrations: dict[int, tuple[str | None, datetime.datetime, Sequence[str] | None]] = {}
            self.periodic_defers: dict[tuple[str, str], int] = {}
            self.chores: dict[str, datetime.datetime] = {}
            self.table_exists = True
            self._last_job_id = 0
            self._last_worker_id = 0
            self._at = self._now()
            self._notifications: list[tuple[str, str]] = []

    def answer(self, operation: Operation[T]) -> T:
        """Answer an operation, as a transaction of its own; raise what a connector would raise."""
        with self._transaction():
            return operation.decode(self._rows(operation), self._json)

    def age(self, by: datetime.timedelta) -> None:
        """Make all that happened to jobs, and all that they wait for, so much earlier: as if that time had passed."""
        with self._transaction():
            for row in self.jobs.values():
                row.update({column: row[column] - by for column in TIMES if row[column] is not None})
                if row["attempts_log"]:
                    row["attempts_log"] = [_aged(entry, by) for entry in row["attempts_log"]]
            self._notify_inserted(self._find(status="todo", waits_for="time"))

    @contextlib.contextmanager
    def _transaction(self) -> Generator[None]:
        """Let time stand still, and send the notifications at the end; none after an error."""
        with self._mutex:
            self._at = self._now()
            self._notifications = []
            yield
            notifications = self._notifications
        for channel, payload in notifications:
            for subscriber in list(self.subscribers):
                subscriber(channel, payload)

    @functools.singledispatchmethod
    def _rows(self, operation: Operation[Any]) -> Sequence[Row]:
        """Do what the operation's SQL does, and return its rows."""
        raise NotImplementedError(f"The in-memory store has no answer to {type(operation).__name__}")

    # What the operations share: looking at rows …

    def _find(self, **conditions: Any) -> list[JobRow]:
        """Return the rows that meet all conditions, by id. None means any."""
        return [self.jobs[job_id] for job_id in sorted(self.jobs) if _fits(self.jobs[job_id], conditions)]

    def _is_held(self, lock: str) -> bool:
        return bool(self._find(lock=lock, status="doing"))

    def _head(self, lock: str) -> JobRow | None:
        """Return the first job in line behind a lock, whatever it waits for itself."""
        return min(self._find(lock=lock, status="todo"), key=_line_order, default=None)

    def _is_taken(self, queueing_lock: str | None) -> bool:
        return queueing_lock is not None and bool(self._find(queueing_lock=queueing_lock, status="todo"))

    def _is_stalled(self, row: JobRow, seconds: float) -> bool:
        heartbeat = self.workers.get(row["worker_id"])
        return heartbeat is None or heartbeat < self._ago(seconds)

    def _claimed(self, claims: Iterable[Claim], worker_id: int) -> list[tuple[int, JobRow]]:
        """Return the positions and rows of those claims that still hold, by id of the job."""
        held: list[tuple[int, JobRow]] = []
        for position, claim in enumerate(claims):
            row = self.jobs.get(claim.job.id or 0)
            fence = {"status": "doing", "worker_id": worker_id, "claims": claim.token}
            if row is not None and all(row[column] == value for column, value in fence.items()):
                held.append((position, row))
        return sorted(held, key=lambda item: item[1]["id"])

    def _ago(self, seconds: float) -> datetime.datetime:
        return self._at - datetime.timedelta(seconds=seconds)

    def _gate(self, scheduled_at: datetime.datetime | None) -> str | None:
        return "time" if scheduled_at is not None and scheduled_at > self._at else None

    def _stored(self, value: Any) -> Any:
        """Return a value as jsonb keeps it."""
        return None if value is None else standard_json.loads(self._json.dumps(value))

    def _job_columns(self, row: JobRow) -> Row:
        columns = [column.strip() for column in jobs.JOB_COLUMNS.split(",")]
        return tuple(standard_json.dumps(row[column]) if column == "args" else row[column] for column in columns)

    # … changing them …

    @property
    def next_job_id(self) -> int:
        """The id that the next job will have."""
        return self._last_job_id + 1

    def _take_job_id(self) -> int:
        self._last_job_id += 1
        return self._last_job_id

    def _insert(self, job_id: int, job: Job, scheduled_at: datetime.datetime | None) -> JobRow:
        row = self.jobs[job_id] = {
            "id": job_id,
            "queue_name": job.queue,
            "task_name": job.task_name,
            "priority": job.priority,
            "lock": job.lock,
            "queueing_lock": job.queueing_lock,
            "args": self._stored(job.task_kwargs),
            "status": "todo",
            "scheduled_at": scheduled_at,
            "attempts": 0,
            "abort_requested": False,
            "worker_id": None,
            "waits_for": self._gate(scheduled_at),
            "claims": 0,
            "rescues": 0,
            "created_at": self._at,
            "attempted_at": None,
            "abort_requested_at": None,
            "finalized_at": None,
            "attempts_log": None,
        }
        return row

    def _end(self, row: JobRow, status: str) -> None:
        row.update(status=status, abort_requested=False, waits_for=None, finalized_at=self._at)

    def _wait_again(self, row: JobRow) -> None:
        row.update(status="todo", abort_requested=False, waits_for=None, attempted_at=None, finalized_at=None)

    def _reconfigure(
        self, row: JobRow, retry_at: datetime.datetime | None, priority: int | None, queue: str | None, lock: str | None
    ) -> None:
        """Put a job back to wait until `retry_at`, with new values where they are given."""
        self._wait_again(row)
        row.update(scheduled_at=retry_at, waits_for=self._gate(retry_at))
        changes = {"priority": priority, "queue_name": queue, "lock": lock}
        row.update({column: value for column, value in changes.items() if value is not None})

    # … and telling about it.

    def _notify(self, queue: str, payload: dict[str, Any]) -> None:
        text = standard_json.dumps(payload)
        self._notifications += [(channel, text) for channel in (channels.ANY_QUEUE, *channels.channels_for([queue]))]

    def _notify_ready(self, rows: Iterable[JobRow]) -> None:
        """Tell once for each queue that jobs became ready, those of these rows that are."""
        first: dict[str, int] = {}
        for row in rows:
            if row["status"] == "todo" and row["waits_for"] is None:
                first[row["queue_name"]] = min(row["id"], first.get(row["queue_name"], row["id"]))
        for queue, job_id in first.items():
            self._notify(queue, {"type": "job_inserted", "job_id": job_id})

    def _notify_inserted(self, rows: Iterable[JobRow]) -> None:
        first: dict[tuple[str, bool], int] = {}
        for row in rows:
            first.setdefault((row["queue_name"], row["waits_for"] is not None), row["id"])
        for (queue, scheduled), job_id in first.items():
            self._notify(queue, {"type": "job_inserted", "job_id": job_id, "scheduled": scheduled})

    # The operations, in the order of their modules.

    @_rows.register
    def _defer_job(self, operation: jobs.DeferJob) -> Sequence[Row]:
        job = operation.job
        if operation.arguments is not None:
            job = job.evolve(task_kwargs=dict(operation.arguments))
        _check_job(job)
        job_id = self._take_job_id()
        if self._is_taken(job.queueing_lock):
            return []
        self._notify_inserted([self._insert(job_id, job, job.scheduled_at)])
        return [(job_id,)]

    @_rows.register
    def _defer_alike(self, operation: jobs.DeferAlike) -> Sequence[Row]:
        alike = [attrs.evolve(operation.job, task_kwargs=dict(each)) for each in operation.arguments]
        return [([job_id for _, job_id in self._defer_jobs(jobs.DeferJobs(jobs=alike))],)]

    @_rows.register
    def _defer_jobs(self, operation: jobs.DeferJobs) -> Sequence[Row]:
        for job in operation.jobs:
            _check_job(job)
        batch = [(self._take_job_id(), job) for job in operation.jobs]
        taken: set[str | None] = set()
        free: list[tuple[int, int, Job]] = []
        for position, (job_id, job) in enumerate(batch, 1):
            if job.queueing_lock not in taken and not self._is_taken(job.queueing_lock):
                free.append((position, job_id, job))
                taken |= {job.queueing_lock} - {None}
        if len(free) == len(batch):
            self._notify_inserted([self._insert(job_id, job, job.scheduled_at) for _, job_id, job in free])
        return [(position, job_id) for position, job_id, _ in free]

    @_rows.register
    def _fetch_jobs(self, operation: jobs.FetchJobs) -> Sequence[Row]:
        if operation.worker_id not in self.workers:
            return []
        ready = [
            row
            for row in self._find(status="todo")
            if row["waits_for"] is None and row["id"] > operation.floors.get(row["priority"], 0)
        ]
        served = [row for row in ready if operation.queues is None or row["queue_name"] in operation.queues]
        scanned = sorted(served, key=_line_order)[: operation.limit]
        # A suspect is claimed all alone, and others that were taken back only if they can start at once.
        suspect = next((place for place, row in enumerate(scanned) if row["rescues"] >= SUSPECT), len(scanned))
        taken = [
            row
            for place, row in enumerate(scanned[: max(suspect, 1)])
            if row["rescues"] == 0 or operation.slots is None or place < operation.slots
        ]
        gates = [self._verdict(row) for row in taken]
        free = [row["id"] for row, gate in zip(taken, gates, strict=True) if gate is None][: operation.most]
        return [
            self._claim(row, operation.worker_id) if gate is None else self._park(row, gate)
            for row, gate in zip(taken, gates, strict=True)
            if gate is not None or row["id"] in free
        ]

    def _verdict(self, row: JobRow) -> str | None:
        """Return what a ready row must wait for, None if it can run."""
        gate, lock = self._gate(row["scheduled_at"]), row["lock"]
        if gate is None and lock is not None and (self._is_held(lock) or self._head(lock) is not row):
            return "lock"
        return gate

    def _park(self, row: JobRow, gate: str) -> Row:
        row["waits_for"] = gate
        return (None, None, None, None, row["lock"] if gate == "lock" else None)

    def _claim(self, row: JobRow, worker_id: int) -> Row:
        row.update(status="doing", worker_id=worker_id, claims=row["claims"] + 1, attempted_at=self._at)
        return (*self._job_columns(row), row["claims"], row["rescues"])

    @_rows.register
    def _finish_jobs(self, operation: jobs.FinishJobs) -> Sequence[Row]:
        answer: list[Row] = []
        for position, row in self._claimed((verdict.claim for verdict in operation.verdicts), operation.worker_id):
            verdict = operation.verdicts[position]
            self._end(row, verdict.status.value)
            row["attempts"] += 1
            _log_attempt(row, self._stored(verdict.report))
            answer.append((row["id"], row["claims"], row["status"]))
        return answer

    @_rows.register
    def _delete_jobs(self, operation: jobs.DeleteJobs) -> Sequence[Row]:
        held = self._claimed((verdict.claim for verdict in operation.verdicts), operation.worker_id)
        return [(row["id"], row["claims"], self.jobs.pop(row["id"])["status"]) for _, row in held]

    @_rows.register
    def _retry_jobs(self, operation: jobs.RetryJobs) -> Sequence[Row]:
        for verdict in operation.verdicts:
            _check_columns(queue=verdict.queue, priority=verdict.priority)
        ended: list[JobRow] = []
        for position, row in self._claimed((verdict.claim for verdict in operation.verdicts), operation.worker_id):
            verdict = operation.verdicts[position]
            entry: dict[str, Any] = self._stored(verdict.report) or {}
            if row["abort_requested"]:
                refusal = "an abort was requested"
            else:
                taken = self._is_taken(row["queueing_lock"])
                refusal = "another job with this queueing lock is waiting" if taken else None
            if refusal is None:
                self._reconfigure(row, verdict.retry_at, verdict.priority, verdict.queue, verdict.lock)
            else:
                self._end(row, "failed")
                entry |= {"event": "failed", "final": True, "reason": refusal}
            row["attempts"] += 1
            _log_attempt(row, entry)
            ended.append(row)
        self._notify_ready(ended)
        return [(row["id"], row["claims"], row["status"]) for row in ended]

    @_rows.register
    def _release_jobs(self, operation: jobs.ReleaseJobs) -> Sequence[Row]:
        released = [row for _, row in self._claimed(operation.claims, operation.worker_id)]
        for row in released:
            if row["abort_requested"]:
                self._end(row, "aborted")
            elif self._is_taken(row["queueing_lock"]):
                self._end(row, "cancelled")
            else:
                self._wait_again(row)
            row.update(worker_id=None, attempted_at=None)
        self._notify_ready(released)
        return [(row["id"], row["claims"]) for row in released]

    @_rows.register
    def _cancel_job(self, operation: jobs.CancelJob) -> Sequence[Row]:
        row = self.jobs.get(operation.job_id)
        match row:
            case None:
                return []
            case {"status": "todo"}:
                if operation.delete:
                    del self.jobs[operation.job_id]
                else:
                    self._end(row, "cancelled")
                    row["abort_requested_at"] = row["abort_requested_at"] or (self._at if operation.abort else None)
                return [("todo", True, row["lock"])]
            case {"status": "doing"} if operation.abort:
                row.update(abort_requested=True, abort_requested_at=row["abort_requested_at"] or self._at)
                self._notify(row["queue_name"], {"type": "abort_job_requested", "job_id": row["id"]})
                return [("doing", True, None)]
            case _:
                return [(row["status"], False, None)]

    @_rows.register
    def _run_job_now(self, operation: jobs.RunJobNow) -> Sequence[Row]:
        row = self.jobs.get(operation.job_id)
        match row:
            case None:
                return []
            case {"status": "todo", "waits_for": "time"}:
                row.update(scheduled_at=None, waits_for=None)
                self._notify_ready([row])
                return [("todo", True)]
            case _:
                return [(row["status"], False)]

    @_rows.register
    def _retry_job(self, operation: jobs.RetryJob) -> Sequence[Row]:
        _check_columns(queue=operation.queue, priority=operation.priority)
        row = self.jobs.get(operation.job_id)
        if row is None:
            return []
        status, lock = row["status"], row["lock"] if row["status"] == "doing" else None
        if status not in ({"failed"} if operation.only_failed else {"failed", "doing"}):
            return [(status, False, None, None, None)]
        if status == "doing" and row["abort_requested"]:
            self._end(row, "failed")
            return [(status, True, lock, None, None)]
        if self._is_taken(row["queueing_lock"]):
            return [(status, False, lock, None, row["queueing_lock"])]
        self._log_retry_by_hand(row)
        self._reconfigure(row, operation.retry_at, operation.priority, operation.queue, operation.lock)
        row["attempts"] += 1
        self._notify_ready([row])
        return [(status, True, lock, row["lock"], None)]

    def _log_retry_by_hand(self, row: JobRow) -> None:
        """Move the latest attempt from the row's columns to its log; what the log has of it is final no longer."""
        log = row["attempts_log"]
        attempt = {
            "number": row["attempts"],
            "scheduled_at": _text(row["scheduled_at"]),
            "started_at": _text(row["attempted_at"]),
            "worker_id": row["worker_id"],
            "ended_at": _text(row["finalized_at"] or self._at),
        }
        if row["status"] == "doing":
            changes = {"number": row["attempts"] + 1, "event": "deferred_for_retry", "reason": "retried by hand"}
            _log_attempt(row, attempt | changes)
            return
        if log and "final" in log[-1]:
            last = {key: value for key, value in log[-1].items() if key != "final"}
            row["attempts_log"] = [*log[:-1], last]
        else:
            _log_attempt(row, attempt | {"event": "failed"})
        _log_attempt(row, {"event": "retried", "ended_at": _text(self._at)})

    @_rows.register
    def _finish_job(self, operation: jobs.FinishJob) -> Sequence[Row]:
        row = self.jobs.get(operation.job_id)
        if row is None:
            return []
        status, changed = row["status"], row["status"] in {"todo", "doing"}
        if changed and operation.delete:
            del self.jobs[operation.job_id]
        elif changed:
            row["attempts"] += status == "doing"
            self._end(row, operation.status.value)
        return [(status, changed, row["lock"])]

    @_rows.register
    def _get_job_status(self, operation: jobs.GetJobStatus) -> Sequence[Row]:
        return [(row["status"],) for row in self._find(id=operation.job_id)]

    @_rows.register
    def _list_jobs(self, operation: jobs.ListJobs) -> Sequence[Row]:
        _check_statuses(operation.status)
        found = self._find(
            id=operation.id,
            queue_name=operation.queue,
            task_name=operation.task,
            status=operation.status,
            lock=operation.lock,
            queueing_lock=operation.queueing_lock,
            worker_id=operation.worker_id,
        )
        return [self._job_columns(row) for row in found]

    @_rows.register
    def _count_jobs(self, operation: jobs.CountJobs) -> Sequence[Row]:
        _check_statuses(operation.status)
        column = {"queue": "queue_name", "task": "task_name", "lock": "lock"}[operation.by]
        found = self._find(
            queue_name=operation.queue, task_name=operation.task, status=operation.status, lock=operation.lock
        )
        counts = collections.Counter((row[column], row["status"]) for row in found if row[column] is not None)
        names = sorted({name for name, _ in counts})[: operation.limit]
        return [(name, status, count) for (name, status), count in sorted(counts.items()) if name in names]

    def _chosen(self, conditions: inspection.JobFilter) -> list[JobRow]:
        statuses = conditions.statuses
        _check_statuses(*(statuses or ()))
        found = self._find(
            id=conditions.id,
            queue_name=conditions.queue,
            task_name=conditions.task,
            lock=conditions.lock,
            queueing_lock=conditions.queueing_lock,
            worker_id=conditions.worker_id,
        )
        return [row for row in found if statuses is None or row["status"] in statuses]

    @_rows.register
    def _find_jobs(self, operation: inspection.FindJobs) -> Sequence[Row]:
        before = operation.before
        found = [row for row in self._chosen(operation.conditions) if before is None or row["id"] < before]
        history = ("waits_for", "created_at", "attempted_at", "finalized_at")
        answer: list[Row] = []
        for row in found[::-1][: operation.limit]:
            log = standard_json.dumps(row["attempts_log"]) if operation.with_log and row["attempts_log"] else None
            answer.append((*self._job_columns(row), *(row[column] for column in history), log))
        return answer

    @_rows.register
    def _count_found_jobs(self, operation: inspection.CountFoundJobs) -> Sequence[Row]:
        counts = collections.Counter(row["status"] for row in self._chosen(operation.conditions))
        return [(status.value, counts[status.value]) for status in Status if counts[status.value]]

    @_rows.register
    def _measure_lag(self, operation: inspection.MeasureLag) -> Sequence[Row]:
        lag: dict[str, float] = {}
        for row in self._find(status="todo"):
            queue = row["queue_name"]
            if row["waits_for"] is None and (operation.queues is None or queue in operation.queues):
                since = max(row["created_at"], row["scheduled_at"] or row["created_at"])
                lag[queue] = max((self._at - since).total_seconds(), lag.get(queue, 0.0))
        return sorted(lag.items())

    @_rows.register
    def _count_workers(self, operation: inspection.CountWorkers) -> Sequence[Row]:
        limit = self._ago(operation.seconds_since_heartbeat)
        alive = sum(heartbeat >= limit for heartbeat in self.workers.values())
        running = self._find(status="doing")
        stalled = sum(self._is_stalled(row, operation.seconds_since_heartbeat) for row in running)
        return [(alive, len(self.workers) - alive, stalled)]

    @_rows.register
    def _list_jobs_to_abort(self, operation: jobs.ListJobsToAbort) -> Sequence[Row]:
        found = self._find(
            status="doing", abort_requested=True, queue_name=operation.queue, worker_id=operation.worker_id
        )
        return [(row["id"],) for row in found]

    @_rows.register
    def _get_stalled_jobs(self, operation: jobs.GetStalledJobs) -> Sequence[Row]:
        running = self._find(status="doing", queue_name=operation.queue, task_name=operation.task_name)
        if operation.nb_seconds is None:
            stalled = [row for row in running if self._is_stalled(row, operation.seconds_since_heartbeat)]
        else:
            limit = self._ago(operation.nb_seconds)
            stalled = [row for row in running if row["attempted_at"] < limit]
        return [self._job_columns(row) for row in stalled]

    @_rows.register
    def _delete_old_jobs(self, operation: jobs.DeleteOldJobs) -> Sequence[Row]:
        _check_statuses(*operation.statuses)
        window = [row for row in self._find() if row["id"] > operation.after][: operation.window]
        limit = self._ago(operation.nb_hours * 3600)
        count = 0
        for row in window:
            ended_at = row["finalized_at"] or row["attempted_at"] or row["created_at"]
            if (
                row["status"] in operation.statuses
                and ended_at < limit
                and operation.queue in {None, row["queue_name"]}
            ):
                del self.jobs[row["id"]]
                count += 1
        return [(count, window[-1]["id"] if window else None)]

    @_rows.register
    def _open_locks(self, operation: locks.OpenLocks) -> Sequence[Row]:
        heads = [self._head(lock) for lock in operation.locks if not self._is_held(lock)]
        parked = [head for head in heads if head is not None and head["waits_for"] == "lock"]
        for head in parked:
            head["waits_for"] = None
        self._notify_ready(parked)
        return [(head["lock"], head["queue_name"], True) for head in parked]

    @_rows.register
    def _find_sleeping_locks(self, operation: locks.FindSleepingLocks) -> Sequence[Row]:
        sleeping: list[str] = []
        for lock in sorted({row["lock"] for row in self._find(status="todo", waits_for="lock")}):
            head = self._head(lock)
            if not self._is_held(lock) and head is not None and head["waits_for"] == "lock":
                sleeping.append(lock)
        return [(lock,) for lock in sleeping[: operation.limit]]

    @_rows.register
    def _stage_jobs(self, operation: schedule.StageJobs) -> Sequence[Row]:
        waiting = sorted(self._find(status="todo", waits_for="time"), key=lambda row: row["scheduled_at"])
        due = [row for row in waiting if row["scheduled_at"] <= self._at][: operation.limit]
        later = [row["scheduled_at"] for row in waiting if row["scheduled_at"] > self._at]
        for row in due:
            row["waits_for"] = None
        self._notify_ready(due)
        next_due_in = (later[0] - self._at).total_seconds() if later else None
        return [(len(due), sorted({row["queue_name"] for row in due}), next_due_in)]

    @_rows.register
    def _defer_periodic_job(self, operation: schedule.DeferPeriodicJob) -> Sequence[Row]:
        job, key = operation.job, (operation.job.task_name, operation.periodic_id)
        _check_job(job)
        if key in self.periodic_defers and self.periodic_defers[key] >= operation.defer_timestamp:
            return []
        job_id = self._take_job_id()
        if self._is_taken(job.queueing_lock):
            return [(None,)]
        self.periodic_defers[key] = operation.defer_timestamp
        self._notify_inserted([self._insert(job_id, job, None)])
        return [(job_id,)]

    @_rows.register
    def _take_chores(self, operation: schedule.TakeChores) -> Sequence[Row]:
        due = [
            chore
            for chore, interval in operation.intervals.items()
            if chore not in self.chores or self.chores[chore] < self._ago(interval)
        ]
        self.chores.update(dict.fromkeys(due, self._at))
        return [(chore,) for chore in due]

    @_rows.register
    def _register_worker(self, operation: workers.RegisterWorker) -> Sequence[Row]:
        self._last_worker_id += 1
        self.workers[self._last_worker_id] = self._at
        queues = operation.queues
        self._registrations[self._last_worker_id] = (operation.worker_name, self._at, queues)
        return [(self._last_worker_id,)]

    @_rows.register
    def _list_workers(self, operation: inspection.ListWorkers) -> Sequence[Row]:
        answer: list[Row] = []
        for worker_id, heartbeat in sorted(self.workers.items())[: operation.limit]:
            running = len(self._find(status="doing", worker_id=worker_id))
            silence = (self._at - heartbeat).total_seconds()
            name, started_at, queues = self._registrations.get(worker_id, (None, heartbeat, None))
            answer.append((worker_id, name, started_at, heartbeat, silence, running, queues))
        return answer

    @_rows.register
    def _unregister_worker(self, operation: workers.UnregisterWorker) -> Sequence[Row]:
        for row in self._find(status="doing", worker_id=operation.worker_id):
            row["worker_id"] = None
        self.workers.pop(operation.worker_id, None)
        return []

    @_rows.register
    def _update_heartbeat(self, operation: workers.UpdateHeartbeat) -> Sequence[Row]:
        is_there = operation.worker_id in self.workers
        queues = operation.queues
        others = [
            worker_id
            for worker_id in self.workers
            if queues is None or (served := self._registrations[worker_id][2]) is None or set(queues) & set(served)
        ]
        if not is_there and operation.revive:
            self._registrations[operation.worker_id] = (None, self._at, queues)
        if is_there or operation.revive:
            self.workers[operation.worker_id] = self._at
        return [(is_there, sum(other < operation.worker_id for other in others), len(others))]

    @_rows.register
    def _find_claims(self, operation: workers.FindClaims) -> Sequence[Row]:
        held = sorted(self._find(status="doing", worker_id=operation.worker_id), key=_line_order)
        return [
            (*self._job_columns(row), row["claims"], row["rescues"]) for row in held if row["id"] not in operation.known
        ]

    @_rows.register
    def _prove_listening(self, operation: workers.ProveListening) -> Sequence[Row]:
        self._notifications.append((operation.channel, '{"type": "listening"}'))
        return []

    @_rows.register
    def _prune_stalled_workers(self, operation: workers.PruneStalledWorkers) -> Sequence[Row]:
        limit = self._ago(operation.seconds_since_heartbeat)
        stalled = [worker_id for worker_id, heartbeat in self.workers.items() if heartbeat < limit]
        for worker_id in stalled:
            del self.workers[worker_id]
        return [(worker_id,) for worker_id in stalled]

    @_rows.register
    def _rescue_jobs(self, operation: workers.RescueJobs) -> Sequence[Row]:
        running = self._find(status="doing")
        stalled = [row for row in running if self._is_stalled(row, operation.seconds_since_heartbeat)]
        # Those with a queueing lock come last and one by one; PostgreSQL chooses any.
        free = [row for row in stalled if row["queueing_lock"] is None]
        rescued = free[: operation.limit] or stalled[:1]
        for row in rescued:
            self._rescue(row, operation.max_rescues)
        self._notify_ready(rescued)
        columns = ("id", "task_name", "queue_name", "status", "lock", "worker_id")
        return [tuple(row[column] for column in columns) for row in rescued]

    @_rows.register
    def _check_connection(self, operation: tables.CheckConnection) -> Sequence[Row]:
        return [(self.table_exists,)]

    @_rows.register
    def _read_migrations(self, operation: tables.ReadMigrations) -> Sequence[Row]:
        return [(migration.name, migration.checksum) for migration in migrations.shipped()]

    def _rescue(self, row: JobRow, max_rescues: int) -> None:
        status, reason = "todo", "the worker died"
        if row["abort_requested"]:
            status = "aborted"
        elif row["rescues"] >= max_rescues:
            status, reason = "failed", f"the worker died, and so did those of the {row['rescues']} runs before"
        elif self._is_taken(row["queueing_lock"]):
            status, reason = "failed", "the worker died, and another job with this queueing lock is waiting"
        entry = {
            "number": row["attempts"] + 1,
            "started_at": _text(row["attempted_at"]),
            "ended_at": _text(self._at),
            "worker_id": row["worker_id"],
            "event": "deferred_for_retry" if status == "todo" else status,
            "reason": reason,
        }
        row["rescues"] += 1
        if status == "todo":
            self._wait_again(row)
        else:
            self._end(row, status)
            row["attempts"] += 1
            entry["final"] = True
        _log_attempt(row, entry)


def _check_job(job: Job) -> None:
    """Refuse a job that the table cannot hold."""
    _check_columns(queue=job.queue, task=job.task_name, priority=job.priority)
    for text in (job.queue, job.task_name, job.lock, job.queueing_lock):
        if text is not None and "\0" in text:
            raise exceptions.InvalidData(f"PostgreSQL's text does not allow the NUL character: {text!r}")


def _check_columns(*, queue: str | None = None, task: str | None = None, priority: int | None = None) -> None:
    """Refuse what the table's columns cannot hold."""
    for name in (queue, task):
        if name is not None and len(name) > NAME_LENGTH:
            raise exceptions.InvalidData(f"Names have at most {NAME_LENGTH} characters: {name}")
    if priority is not None and not -MAX_INTEGER - 1 <= priority <= MAX_INTEGER:
        raise exceptions.InvalidData(f"Priorities are 32-bit integers: {priority}")


def _check_statuses(*texts: str | None) -> None:
    """Refuse what is no status."""
    for text in texts:
        if text is not None and text not in {status.value for status in Status}:
            raise exceptions.InvalidData(f"There is no status {text!r}")
