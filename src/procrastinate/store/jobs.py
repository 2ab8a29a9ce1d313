"""The operations on jobs."""

from __future__ import annotations

import datetime
import operator
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs
from typing_extensions import override

from procrastinate import exceptions, jobs
from procrastinate.store.operation import FEW, Json, Operation, Row
from procrastinate.types import lean_frozen, unchecked_maker

# The columns of a Job, in this order, in every statement that answers with jobs.
JOB_COLUMNS = (
    "id, status, queue_name, priority, lock, queueing_lock, task_name, args, "
    "scheduled_at, attempts, abort_requested, worker_id"
)


_make_job = unchecked_maker(jobs.Job)


def jobs_from_rows(rows: Sequence[Row], json: Json) -> list[jobs.Job]:
    """Build jobs from rows whose first columns are JOB_COLUMNS, with `args` as text."""
    arguments = json.loads_all([row[7] for row in rows])
    return [
        _make_job(*row[:7], task_kwargs, *row[8:12], True) for row, task_kwargs in zip(rows, arguments, strict=True)
    ]


def _settings(job: jobs.Job) -> dict[str, Any]:
    """Return the parameters of a job's columns, all but its arguments."""
    return {
        "queue": job.queue,
        "task": job.task_name,
        "priority": job.priority,
        "lock": job.lock,
        "queueing_lock": job.queueing_lock,
        "scheduled_at": job.scheduled_at,
    }


class _Defer(Operation[list[int]]):
    """What the operations that insert jobs share: of those at work at the same time, one notifies for all.

    It must be about to commit, as it is if it is alone in its transaction.
    """

    asks_if_alone = True


@attrs.frozen(kw_only=True)
class DeferJob(_Defer):
    """Insert one job; answer its id, as the operations on several do.

    Raises AlreadyEnqueued if its queueing lock is taken by a waiting job.

    Attributes:
        job: the job.
        arguments: keyword arguments in place of the job's own, None for those.
    """

    job: jobs.Job
    arguments: Mapping[str, Any] | None = None

    @override
    def parameters(self, json: Json) -> dict[str, Any]:
        arguments = self.job.task_kwargs if self.arguments is None else self.arguments
        return {**_settings(self.job), "args": json.dumps(arguments)}

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> list[int]:
        if not rows:
            raise already_enqueued(self.job.queueing_lock)
        return [rows[0][0]]


@attrs.frozen(kw_only=True)
class DeferAlike(_Defer):
    """Insert jobs that differ in their arguments only, all or none; answer their ids in the same order.

    Raises AlreadyEnqueued if their queueing lock is taken, which it is for more than one of them.

    Attributes:
        job: the pattern; its own arguments are left out.
        arguments: the keyword arguments of each job.
    """

    job: jobs.Job
    arguments: Sequence[Mapping[str, Any]]

    @property
    @override
    def part(self) -> str:
        return f"conflicts_{'impossible' if self.job.queueing_lock is None else 'ignored'}"

    @property
    @override
    def atomic(self) -> bool:
        return len(self.arguments) > 1 and self.job.queueing_lock is not None

    @override
    def parameters(self, json: Json) -> dict[str, Any]:
        return {**_settings(self.job), "args": json.dumps_all(self.arguments)}

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> list[int]:
        ids: list[int] = rows[0][0]
        if len(ids) < len(self.arguments):
            raise already_enqueued(self.job.queueing_lock)
        return ids


@attrs.frozen(kw_only=True)
class DeferJobs(_Defer):
    """Insert jobs, all or none; answer their ids in the same order.

    Raises AlreadyEnqueued if the queueing lock of one of them is taken by a waiting job or by another one of the batch.
    """

    jobs: Sequence[jobs.Job]

    @property
    @override
    def atomic(self) -> bool:
        # The statement leaves out jobs whose queueing lock is taken, without an error in the server's log; a batch of
        # which some were inserted is then undone.
        return len(self.jobs) > 1 and any(job.queueing_lock is not None for job in self.jobs)

    @override
    def parameters(self, json: Json) -> dict[str, Any]:
        return {
            "queues": [job.queue for job in self.jobs],
            "tasks": [job.task_name for job in self.jobs],
            "priorities": [job.priority for job in self.jobs],
            "locks": [job.lock for job in self.jobs],
            "queueing_locks": [job.queueing_lock for job in self.jobs],
            "args": [json.dumps(job.task_kwargs) for job in self.jobs],
            "scheduled_at": [job.scheduled_at for job in self.jobs],
        }

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> list[int]:
        if len(rows) == len(self.jobs):
            return [row[1] for row in rows]
        inserted = {row[0] for row in rows if row[1] is not None}
        lock = next(
            (j.queueing_lock for n, j in enumerate(self.jobs, 1) if n not in inserted and j.queueing_lock), None
        )
        raise already_enqueued(_taken_lock(self.jobs) or lock)


def _taken_lock(batch: Sequence[jobs.Job]) -> str | None:
    """Return the queueing lock that stands twice in the batch, if there is one."""
    seen: set[str] = set()
    for job in batch:
        if job.queueing_lock is not None and job.queueing_lock in seen:
            return job.queueing_lock
        seen.add(job.queueing_lock or "")
    return None


def already_enqueued(queueing_lock: str | None) -> exceptions.AlreadyEnqueued:
    """Return the error for a queueing lock that is taken."""
    return exceptions.AlreadyEnqueued(
        f"Job cannot be enqueued: there is already a job in the queue with the queueing lock {queueing_lock}"
    )


@attrs.frozen(kw_only=True)
class FetchResult:
    """The answer to FetchJobs.

    Attributes:
        claims: the jobs now held, in the order in which they should start.
        parked_locks: the locks on which a job was put to sleep. Whoever fetched must look at them once more, in a
            later statement (OpenLocks): their holder may have ended in between.
        scanned: how many ready rows were looked at; zero means that nothing is ready.
    """

    claims: list[jobs.Claim]
    parked_locks: list[str]
    scanned: int


@attrs.frozen(kw_only=True)
class FetchJobs(Operation[FetchResult]):
    """Claim up to `limit` ready jobs, highest priority first, and park those that cannot run yet.

    Nothing is claimed for a worker that is not registered.

    Attributes:
        queues: which queues; None means all.
        worker_id: the worker that claims.
        limit: how many rows to look at.
        floors: by priority, an id up to which the claim does not look. While somebody's transaction keeps VACUUM from
            cleaning up, each claim walks over all that was ever claimed in the meantime, and a floor steps over it.
        slots: how many places from the first on may go to jobs that were taken back from dead workers before; the
            others stay where they are, as does whatever comes with a suspect or after it. None for any number.
        most: how many jobs to claim at most of those that were looked at. None for any number.
    """

    queues: Sequence[str] | None
    worker_id: int
    limit: int
    floors: Mapping[int, int] = attrs.field(factory=dict[int, int])
    slots: int | None = None
    most: int | None = None

    @property
    @override
    def part(self) -> str:
        return f"scan_{'all' if self.queues is None else 'queues'}{'_past_floors' if self.floors else ''}"

    @property
    @override
    def is_large(self) -> bool:
        return self.limit > FEW

    @override
    def parameters(self, json: Json) -> dict[str, Any]:
        lanes = sorted(self.floors, reverse=True)
        # What lies between the lanes, as inclusive bounds.
        highest = [jobs.PRIORITIES[-1], *(lane - 1 for lane in lanes)]
        lowest = [*(lane + 1 for lane in lanes), jobs.PRIORITIES[0]]
        gaps = [(high, low) for high, low in zip(highest, lowest, strict=True) if high >= low]
        return {
            "queues": None if self.queues is None else sorted(set(self.queues)),
            "worker_id": self.worker_id,
            "limit": self.limit,
            "slots": self.slots,
            "most": self.most,
            "suspect": jobs.SUSPECT,
            "lanes": lanes,
            "floors": [self.floors[priority] for priority in lanes],
            "highest": [high for high, _ in gaps],
            "lowest": [low for _, low in gaps],
        }

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> FetchResult:
        claimed = [row for row in rows if row[0] is not None]
        # By priority, and by id where that is the same: in two steps, without a call of ours for each row.
        claimed.sort(key=operator.itemgetter(0))
        claimed.sort(key=operator.itemgetter(3), reverse=True)
        return FetchResult(
            claims=[
                jobs.Claim(job=job, token=row[12], rescues=row[13])
                for job, row in zip(jobs_from_rows(claimed, json), claimed, strict=True)
            ],
            parked_locks=[row[4] for row in rows if row[0] is None and row[4] is not None],
            scanned=len(rows),
        )


@lean_frozen(kw_only=True)
class Verdict:
    """How the run of a claimed job ended, as the store records it.

    Attributes:
        claim: the job with the token under which it ran.
        status: the final status, or TODO for a retry.
        delete: delete the row instead of keeping it; never together with a retry.
        retry_at: when a retried job is due.
        priority, queue, lock: new values for a retried job, None to keep what it has.
        report: what the log of attempts says of this run, or None for plain success.
    """

    claim: jobs.Claim
    status: jobs.Status
    delete: bool = False
    retry_at: datetime.datetime | None = None
    priority: int | None = None
    queue: str | None = None
    lock: str | None = None
    report: dict[str, Any] | None = None


@attrs.frozen(kw_only=True)
class _EndJobs(Operation[dict[jobs.Key, str]]):
    """What the operations that end runs share: they answer with the statuses of the jobs, by the keys of the claims.

    A verdict whose claim no longer holds is missing. By id alone it would pass for the one of a later run of the same
    job, retried by hand meanwhile, which may well be in the same batch. The status is the one that the job has now,
    which differs from the verdict's when a retry met a taken queueing lock; of a deleted job, the one that it had.
    """

    verdicts: Sequence[Verdict]
    worker_id: int

    @property
    @override
    def is_large(self) -> bool:
        return len(self.verdicts) > FEW

    @override
    def parameters(self, json: Json) -> dict[str, Any]:
        return {
            "worker_id": self.worker_id,
            "ids": [verdict.claim.job.id for verdict in self.verdicts],
            "tokens": [verdict.claim.token for verdict in self.verdicts],
        }

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> dict[jobs.Key, str]:
        return {(row[0], row[1]): row[2] for row in rows}


@attrs.frozen(kw_only=True)
class FinishJobs(_EndJobs):
    """End runs with a final status and keep the rows."""

    @override
    def parameters(self, json: Json) -> dict[str, Any]:
        return {
            **super().parameters(json),
            "statuses": [verdict.status.value for verdict in self.verdicts],
            "reports": [_dump(verdict.report, json) for verdict in self.verdicts],
        }


@attrs.frozen(kw_only=True)
class DeleteJobs(_EndJobs):
    """End runs and delete the rows."""


@attrs.frozen(kw_only=True)
class RetryJobs(_EndJobs):
    """End runs and put the jobs back to wait for their next one.

    A job whose queueing lock is taken by a waiting sibling ends `failed` with the reason in its log: the sibling will
    do the work, and no job may be left running for nobody.
    """

    @override
    def parameters(self, json: Json) -> dict[str, Any]:
        return {
            **super().parameters(json),
            "retry_at": [verdict.retry_at for verdict in self.verdicts],
            "priorities": [verdict.priority for verdict in self.verdicts],
            "queues": [verdict.queue for verdict in self.verdicts],
            "locks": [verdict.lock for verdict in self.verdicts],
            "reports": [_dump(verdict.report, json) for verdict in self.verdicts],
        }


def _dump(report: dict[str, Any] | None, json: Json) -> str | None:
    return None if report is None else json.dumps(report)


@attrs.frozen(kw_only=True)
class ReleaseJobs(Operation[set[jobs.Key]]):
    """Give claimed jobs back that were never started; answer the keys of those claims that still held.

    It costs no attempt. A job that somebody asked to abort in the meantime ends aborted; one whose queueing lock was
    taken in the meantime ends cancelled, for its sibling does the work.
    """

    claims: Sequence[jobs.Claim]
    worker_id: int

    @property
    @override
    def is_large(self) -> bool:
        return len(self.claims) > FEW

    @override
    def parameters(self, json: Json) -> dict[str, Any]:
        return {
            "worker_id": self.worker_id,
            "ids": [claim.job.id for claim in self.claims],
            "tokens": [claim.token for claim in self.claims],
        }

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> set[jobs.Key]:
        return {(row[0], row[1]) for row in rows}


@attrs.frozen(kw_only=True)
class Changed:
    """What a change to one job by its id did.

    Attributes:
        status: the status before, None if there is no such job.
        changed: whether the job was changed.
        freed_locks: locks whose line may go on now, to be opened (OpenLocks) in a later statement.
    """

    status: str | None
    changed: bool
    freed_locks: list[str]


@attrs.frozen(kw_only=True)
class _ChangeJob(Operation[Changed]):
    job_id: int

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> Changed:
        if not rows:
            return Changed(status=None, changed=False, freed_locks=[])
        status, changed, *locks = rows[0]
        freed = sorted({lock for lock in locks if lock is not None}) if changed else []
        return Changed(status=status, changed=changed, freed_locks=freed)


@attrs.frozen(kw_only=True)
class CancelJob(_ChangeJob):
    """Cancel a waiting job; with `abort`, ask a running one to stop; with `delete`, delete a waiting one."""

    abort: bool
    delete: bool


@attrs.frozen(kw_only=True)
class RunJobNow(_ChangeJob):
    """Make a job ready that waits for its time, and forget its schedule."""


@attrs.frozen(kw_only=True)
class RetryJob(_ChangeJob):
    """Put a failed or running job back to wait, whoever runs it. None keeps what the job has.

    With `only_failed`, a job that runs by now is left alone. Raises AlreadyEnqueued if its queueing lock is taken by a
    waiting job.
    """

    retry_at: datetime.datetime
    priority: int | None
    queue: str | None
    lock: str | None
    only_failed: bool = False

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> Changed:
        if rows and rows[0][4] is not None:
            raise already_enqueued(rows[0][4])
        return super().decode([row[:4] for row in rows], json)


@attrs.frozen(kw_only=True)
class FinishJob(_ChangeJob):
    """End a waiting or running job from outside, whoever runs it."""

    status: jobs.Status
    delete: bool

    @override
    def parameters(self, json: Json) -> dict[str, Any]:
        return {"job_id": self.job_id, "status": self.status.value, "delete": self.delete}


@attrs.frozen(kw_only=True)
class GetJobStatus(Operation[jobs.Status]):
    """Answer a job's status. Raises NoResult for an unknown id."""

    job_id: int

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> jobs.Status:
        if not rows:
            raise exceptions.NoResult(f"There is no job with id {self.job_id}")
        return jobs.Status(rows[0][0])


@attrs.frozen(kw_only=True)
class ListJobs(Operation[list[jobs.Job]]):
    """Answer the jobs that meet all conditions, by id. None means any."""

    id: int | None = None
    queue: str | None = None
    task: str | None = None
    status: str | None = None
    lock: str | None = None
    queueing_lock: str | None = None
    worker_id: int | None = None

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> list[jobs.Job]:
        return jobs_from_rows(rows, json)


@attrs.frozen(kw_only=True)
class CountJobs(Operation[list[dict[str, Any]]]):
    """Answer the number of jobs by status, for each queue, task or lock.

    They are dictionaries with `name`, `jobs_count` and one key for each status, ordered by name. Jobs without a lock
    are not counted by lock. `limit` is how many names are answered, None for all.
    """

    by: Literal["queue", "task", "lock"]
    queue: str | None = None
    task: str | None = None
    status: str | None = None
    lock: str | None = None
    limit: int | None = None

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> list[dict[str, Any]]:
        shown = [status.value for status in jobs.Status if status is not jobs.Status.ABORTING]
        counts: dict[str, dict[str, Any]] = {}
        for name, status, count in rows:
            line = counts.setdefault(name, {"name": name, "jobs_count": 0, **dict.fromkeys(shown, 0)})
            line["jobs_count"] += count
            line[status] = count
        return list(counts.values())


@attrs.frozen(kw_only=True)
class ListJobsToAbort(Operation[list[int]]):
    """Answer the ids of the running jobs that somebody asked to abort, of one worker or of one queue or of all."""

    queue: str | None = None
    worker_id: int | None = None

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> list[int]:
        return [row[0] for row in rows]


@attrs.frozen(kw_only=True)
class GetStalledJobs(Operation[list[jobs.Job]]):
    """Answer the running jobs whose worker gave no sign of life for `seconds_since_heartbeat`.

    With `nb_seconds`, those whose run began more than so many seconds ago instead, whatever their worker does.
    """

    queue: str | None
    task_name: str | None
    seconds_since_heartbeat: float
    nb_seconds: float | None = None

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> list[jobs.Job]:
        return jobs_from_rows(rows, json)


@attrs.frozen(kw_only=True)
class OldJobsDeleted:
    """The answer to DeleteOldJobs: how many jobs were deleted, and the id to go on after, None at the end."""

    count: int
    last_id: int | None


@attrs.frozen(kw_only=True)
class DeleteOldJobs(Operation[OldJobsDeleted]):
    """Delete finished jobs older than `nb_hours` among the `window` jobs that follow the id `after`."""

    nb_hours: float
    queue: str | None
    statuses: Sequence[str]
    after: int
    window: int

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> OldJobsDeleted:
        return OldJobsDeleted(count=rows[0][0], last_id=rows[0][1])
