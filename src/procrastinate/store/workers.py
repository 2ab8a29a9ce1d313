"""The operations on workers, and the rescue of the jobs of dead ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from typing_extensions import override

from procrastinate import jobs
from procrastinate.store.jobs import jobs_from_rows
from procrastinate.store.operation import Json, Operation, Row, list_or_none


@attrs.frozen(kw_only=True)
class RegisterWorker(Operation[int]):
    """Add a worker that is alive now, with the queues that it serves, None for all; answer its id."""

    worker_name: str | None = None
    queues: Sequence[str] | None = attrs.field(default=None, converter=list_or_none)

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> int:
        return rows[0][0]


@attrs.frozen(kw_only=True)
class UnregisterWorker(Operation[None]):
    """Remove a worker. Jobs that it still runs lose their worker, and count as stalled."""

    worker_id: int

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> None:
        return None


@attrs.frozen(kw_only=True)
class Beat:
    """The answer to UpdateHeartbeat.

    Attributes:
        was_known: whether the worker was there.
        place: how many of the workers that serve a queue of its own came before it.
        workers: how many serve a queue of its own, itself included.
    """

    was_known: bool
    place: int = 0
    workers: int = 1


@attrs.frozen(kw_only=True)
class UpdateHeartbeat(Operation[Beat]):
    """Record that a worker is alive; with `revive`, also if others took it for dead and removed it.

    `queues` are those that it serves, None for all.
    """

    worker_id: int
    revive: bool = False
    queues: Sequence[str] | None = attrs.field(default=None, converter=list_or_none)

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> Beat:
        was_known, place, workers = rows[0]
        return Beat(was_known=was_known, place=place, workers=workers)


@attrs.frozen(kw_only=True)
class FindClaims(Operation[list[jobs.Claim]]):
    """Answer the jobs that a worker holds, in the order of FetchJobs, but for those whose ids it knows already."""

    worker_id: int
    known: Sequence[int] = ()

    @override
    def parameters(self, json: Json) -> dict[str, Any]:
        return {"worker_id": self.worker_id, "known": sorted(self.known)}

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> list[jobs.Claim]:
        return [
            jobs.Claim(job=job, token=row[12], rescues=row[13])
            for job, row in zip(jobs_from_rows(rows, json), rows, strict=True)
        ]


@attrs.frozen(kw_only=True)
class ProveListening(Operation[None]):
    """Send a notification on a channel that only its sender listens on, to see whether it arrives."""

    channel: str

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> None:
        return None


@attrs.frozen(kw_only=True)
class PruneStalledWorkers(Operation[list[int]]):
    """Remove the workers that gave no sign of life for so many seconds; answer their ids."""

    seconds_since_heartbeat: float

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> list[int]:
        return [row[0] for row in rows]


@attrs.frozen(kw_only=True)
class Rescued:
    """One job taken back from a dead worker: `status` is `todo`, or a final one where it may not run again."""

    job_id: int
    task_name: str
    queue: str
    status: str
    lock: str | None
    worker_id: int | None


@attrs.frozen(kw_only=True)
class RescueJobs(Operation[list[Rescued]]):
    """Take up to `limit` jobs back from workers that gave no sign of life for so many seconds.

    A job goes back to wait. It ends `failed` if it was rescued `max_rescues` times before (a job that kills its worker
    must not kill all of them) or if its queueing lock is taken, and `aborted` if somebody had asked for that.
    """

    seconds_since_heartbeat: float
    max_rescues: int
    limit: int

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> list[Rescued]:
        return [
            Rescued(job_id=row[0], task_name=row[1], queue=row[2], status=row[3], lock=row[4], worker_id=row[5])
            for row in rows
        ]
