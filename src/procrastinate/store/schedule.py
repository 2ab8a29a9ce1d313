"""The operations on time: scheduled jobs, periodic jobs, chores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from typing_extensions import override

from procrastinate import jobs
from procrastinate.store.jobs import already_enqueued
from procrastinate.store.operation import Json, Operation, Row


@attrs.frozen(kw_only=True)
class Staged:
    """The answer to StageJobs.

    Attributes:
        queues: the queues in which a job became ready.
        count: how many became ready.
        next_due_in: seconds until the next scheduled job is due, leaving out those that are due already; None if there
            is none.
    """

    queues: list[str]
    count: int
    next_due_in: float | None


@attrs.frozen(kw_only=True)
class StageJobs(Operation[Staged]):
    """Make up to `limit` scheduled jobs ready whose time has come."""

    limit: int

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> Staged:
        count, queues, next_due_in = rows[0][:3]
        return Staged(queues=sorted(queues or []), count=count, next_due_in=next_due_in)


@attrs.frozen(kw_only=True)
class DeferPeriodicJob(Operation[int | None]):
    """Insert the job of one periodic tick; answer its id, or None if this or a later tick was deferred before.

    Raises AlreadyEnqueued, and leaves the tick open, if its queueing lock is taken.
    """

    job: jobs.Job
    periodic_id: str
    defer_timestamp: int

    @property
    @override
    def atomic(self) -> bool:
        return True

    @override
    def parameters(self, json: Json) -> dict[str, Any]:
        return {
            "queue": self.job.queue,
            "task": self.job.task_name,
            "priority": self.job.priority,
            "lock": self.job.lock,
            "queueing_lock": self.job.queueing_lock,
            "args": json.dumps(self.job.task_kwargs),
            "periodic_id": self.periodic_id,
            "defer_timestamp": self.defer_timestamp,
        }

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> int | None:
        if not rows:
            return None
        if rows[0][0] is None:
            raise already_enqueued(self.job.queueing_lock)
        return rows[0][0]


@attrs.frozen(kw_only=True)
class TakeChores(Operation[set[str]]):
    """Answer which chores the caller should do now: those that nobody took within their intervals, in seconds."""

    intervals: Mapping[str, float]

    @override
    def parameters(self, json: Json) -> dict[str, Any]:
        return {"chores": list(self.intervals), "intervals": list(self.intervals.values())}

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> set[str]:
        return {row[0] for row in rows}
