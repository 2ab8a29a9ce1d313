"""Verbs that take several operations, written once for sync and async callers."""

from __future__ import annotations

from collections.abc import Sequence

from procrastinate import exceptions, jobs
from procrastinate.store import migrations
from procrastinate.store.jobs import CancelJob, Changed, FetchJobs, FinishJob, RetryJob
from procrastinate.store.locks import OpenLocks
from procrastinate.store.operation import Flow, ask
from procrastinate.store.schedule import StageJobs
from procrastinate.store.tables import InspectTables, ReadMigrations, Tables
from procrastinate.store.workers import UpdateHeartbeat

# Jobs looked at by one statement of the retention: some 20 ms, so that claims go on beside it.
WINDOW = 10_000
# How often a lock is tried whose line somebody else is just changing; then the sweep of a worker does it.
TRIES = 3


def change(operation: CancelJob | RetryJob | FinishJob, refusal: str | None = None) -> Flow[Changed]:
    """Change a job, then wake the line behind its lock. Raises ConnectorException(refusal) if nothing was changed."""
    changed = yield from ask(operation)
    if refusal is not None and not changed.changed:
        raise exceptions.ConnectorException(refusal)
    # In a statement of its own, whose snapshot sees the change and who parked behind the lock before it.
    yield from open_locks(changed.freed_locks)
    return changed


def open_locks(locks: Sequence[str]) -> Flow[None]:
    """Wake the lines behind free locks; where somebody holds a row for the length of a statement, try again."""
    for _ in range(TRIES):
        if not locks:
            return
        opened = yield from ask(OpenLocks(locks=sorted(set(locks))))
        locks = opened.still_parked


def fetch_one(queues: Sequence[str] | None, worker_id: int) -> Flow[jobs.Job | None]:
    """Claim one job, parking those on the way that cannot run. Raises ConnectorException for an unknown worker."""
    while True:
        # No worker's stager need be running where jobs are fetched by hand.
        yield from ask(StageJobs(limit=WINDOW))
        result = yield from ask(FetchJobs(queues=queues, worker_id=worker_id, limit=1))
        yield from open_locks(result.parked_locks)
        if result.claims:
            return result.claims[0].job
        if not result.scanned:
            if not (yield from ask(UpdateHeartbeat(worker_id=worker_id))).was_known:
                raise exceptions.ConnectorException(f"No worker is registered with id {worker_id}")
            return None


def check_schema() -> Flow[None]:
    """Raise SchemaNotApplied, which says what to do, unless the tables fit this version. One statement if they do."""
    try:
        problem = migrations.misfit((yield from ask(ReadMigrations())))
    except exceptions.SchemaNotApplied:
        found: Tables = yield from ask(InspectTables())
        problem = migrations.NO_TABLES if found.are_missing else migrations.OTHER_TABLES
    if problem is not None:
        raise exceptions.SchemaNotApplied(problem)
