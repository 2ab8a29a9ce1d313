"""Verbs that take several operations, written once for sync and async callers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from procrastinate import exceptions, jobs
from procrastinate.store.jobs import CancelJob, Changed, DeleteOldJobs, FetchJobs, FinishJob, RetryJob
from procrastinate.store.locks import OpenLocks
from procrastinate.store.operation import Flow, Operation, ask

# Jobs looked at by one statement of the retention: some 20 ms, so that claims go on beside it.
WINDOW = 10_000


def single(operation: Operation[Any]) -> Flow[Any]:
    """Ask one operation."""
    return (yield operation)


def change(operation: CancelJob | RetryJob | FinishJob, refusal: str | None = None) -> Flow[Changed]:
    """Change a job, then wake the line behind its lock. Raises ConnectorException(refusal) if nothing was changed."""
    changed = yield from ask(operation)
    if refusal is not None and not changed.changed:
        raise exceptions.ConnectorException(refusal)
    if changed.freed_locks:
        # In a statement of its own, whose snapshot sees the change and who parked behind the lock before it.
        yield from ask(OpenLocks(locks=changed.freed_locks))
    return changed


def fetch_one(queues: Sequence[str] | None, worker_id: int) -> Flow[jobs.Job | None]:
    """Claim one job, parking those on the way that cannot run."""
    while True:
        result = yield from ask(FetchJobs(queues=queues, worker_id=worker_id, limit=1))
        if result.parked_locks:
            yield from ask(OpenLocks(locks=sorted(set(result.parked_locks))))
        if result.claims:
            return result.claims[0].job
        if not result.scanned:
            return None


def delete_old_jobs(nb_hours: float, queue: str | None, statuses: Sequence[str]) -> Flow[int]:
    """Delete old jobs, window by window along the ids; return how many."""
    count, after = 0, 0
    while True:
        deleted = yield from ask(
            DeleteOldJobs(nb_hours=nb_hours, queue=queue, statuses=statuses, after=after, window=WINDOW)
        )
        count += deleted.count
        if deleted.last_id is None:
            return count
        after = deleted.last_id
