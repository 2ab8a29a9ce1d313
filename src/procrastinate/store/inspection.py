"""The operations with which people look at jobs and workers: every answer is bounded, however big the tables are."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import attrs
from typing_extensions import override

from procrastinate import jobs
from procrastinate.store.jobs import jobs_from_rows
from procrastinate.store.operation import Json, Operation, Row, T, list_or_none


@attrs.frozen(kw_only=True)
class JobRecord:
    """A job with its history.

    Attributes:
        job: the job.
        waits_for: which gate keeps a waiting job back, `time` or `lock`, or None.
        created_at: when it was deferred.
        attempted_at: when its latest run began, or None.
        finalized_at: when it ended, or None.
        attempts_log: one object for each attempt that ended in anything but plain success; None if nobody asked.
    """

    job: jobs.Job
    waits_for: str | None
    created_at: datetime.datetime
    attempted_at: datetime.datetime | None
    finalized_at: datetime.datetime | None
    attempts_log: list[dict[str, Any]] | None


@attrs.frozen(kw_only=True)
class JobFilter:
    """Conditions on jobs, all of which must be met; None means any."""

    id: int | None = None
    queue: str | None = None
    task: str | None = None
    statuses: Sequence[str] | None = None
    lock: str | None = None
    queueing_lock: str | None = None
    worker_id: int | None = None


@attrs.frozen(kw_only=True)
class _Filtered(Operation[T]):
    conditions: JobFilter

    @override
    def parameters(self, json: Json) -> dict[str, Any]:
        fields = attrs.asdict(self, recurse=False)
        conditions = attrs.asdict(fields.pop("conditions"), recurse=False)
        # A tuple would be a row to some drivers.
        conditions["statuses"] = None if self.conditions.statuses is None else list(self.conditions.statuses)
        return {**conditions, **fields}


@attrs.frozen(kw_only=True)
class FindJobs(_Filtered[list[JobRecord]]):
    """Answer up to `limit` jobs that meet the conditions, newest first; those before the id `before`, for next pages.

    Logs of attempts, which may be big, are read only `with_log`.
    """

    limit: int
    before: int | None = None
    with_log: bool = False

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> list[JobRecord]:
        return [
            JobRecord(
                job=job,
                waits_for=row[12],
                created_at=row[13],
                attempted_at=row[14],
                finalized_at=row[15],
                attempts_log=(json.loads(row[16]) if row[16] is not None else []) if self.with_log else None,
            )
            for job, row in zip(jobs_from_rows(rows, json), rows, strict=True)
        ]


@attrs.frozen(kw_only=True)
class CountFoundJobs(_Filtered[dict[str, int]]):
    """Answer how many jobs meet the conditions, by status; statuses without any are left out."""

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> dict[str, int]:
        return {row[0]: row[1] for row in rows}


@attrs.frozen(kw_only=True)
class WorkerRecord:
    """A registered worker.

    Attributes:
        id: its id.
        name: its name, None if it gave none.
        started_at: when it was registered.
        last_heartbeat: its latest sign of life.
        silence: seconds since then, by the database's clock.
        running: how many jobs it runs.
        queues: which queues it serves, None for all.
    """

    id: int
    name: str | None
    started_at: datetime.datetime
    last_heartbeat: datetime.datetime
    silence: float
    running: int
    queues: list[str] | None


@attrs.frozen(kw_only=True)
class ListWorkers(Operation[list[WorkerRecord]]):
    """Answer up to `limit` workers, by id."""

    limit: int

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> list[WorkerRecord]:
        return [
            WorkerRecord(
                id=row[0],
                name=row[1],
                started_at=row[2],
                last_heartbeat=row[3],
                silence=row[4],
                running=row[5],
                queues=row[6],
            )
            for row in rows
        ]


@attrs.frozen(kw_only=True)
class MeasureLag(Operation[dict[str, float]]):
    """Answer, for each of these queues with ready jobs (None: for all), for how many seconds one has been waiting.

    That is the longest wait among the first hundred jobs of each priority: the answer is cheap, however many there are.
    """

    queues: Sequence[str] | None = attrs.field(default=None, converter=list_or_none)

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> dict[str, float]:
        return {row[0]: row[1] for row in rows}


@attrs.frozen(kw_only=True)
class WorkerCounts:
    """How many workers gave a sign of life lately, how many did not, and how many jobs have no living worker."""

    alive: int
    silent: int
    stalled_jobs: int


@attrs.frozen(kw_only=True)
class CountWorkers(Operation[WorkerCounts]):
    """Answer how many workers live and how many jobs are stalled; `seconds_since_heartbeat` is a dead one's silence."""

    seconds_since_heartbeat: float

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> WorkerCounts:
        alive, silent, stalled_jobs = rows[0][:3]
        return WorkerCounts(alive=alive, silent=silent, stalled_jobs=stalled_jobs)
