"""Records how jobs ended, many at a time."""

from __future__ import annotations

import asyncio
import collections
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeAlias

import attrs
from typing_extensions import override

from procrastinate import connector, exceptions, jobs, observers, types
from procrastinate.store.jobs import DeleteJobs, FinishJobs, RetryJobs, Verdict
from procrastinate.worker.service import Service, Wakeup, wait_for

logger = logging.getLogger(__name__)

_Kind: TypeAlias = type[FinishJobs | DeleteJobs | RetryJobs]

# So many outcomes go out without waiting for more: measured, the cost per job is flat from some 300 on.
BATCH = 500
# When more have piled up, they go together. In batches of 500 the outcomes of a drain fall behind the claims of the
# same worker until LIMIT stops those. With the executor's MOST_AHEAD of 4,000, in place of 500 and 2,000, a drain that
# deletes was 7 % faster; either alone bought nothing.
MOST = 2_000
# How long an outcome may wait for company while other jobs run.
PATIENCE = 0.005
# Outcomes that wait while the database is away; the worker claims nothing more until there are fewer.
LIMIT = 5_000
# Pause before a verdict is tried again whose row somebody else holds.
BLOCKED_PAUSE = 1.0


class Followers(Protocol):
    """Who must hear of ended jobs."""

    def lock_freed(self, lock: str) -> None: ...  # noqa: D102
    def job_waits_again(self, *, is_due: bool) -> None: ...  # noqa: D102
    def has_room(self) -> None: ...  # noqa: D102


class Completer(Service):
    """Collects verdicts and sends them in batches.

    A batch goes out at once when nothing else runs or when a verdict frees a lock, otherwise when it is full or a few
    milliseconds old. Verdicts are kept until the database has answered.
    """

    name = "completer"

    def __init__(
        self,
        connector: connector.BaseConnector,
        worker_id: int,
        followers: Followers,
        is_idle: Callable[[], bool],
    ) -> None:
        """Record on `connector` as `worker_id`; `is_idle` tells whether no other outcome will follow soon."""
        self._connector = connector
        self._worker_id = worker_id
        self._followers = followers
        self._is_idle = is_idle
        # Each stays here until the database has answered.
        self._pending: dict[jobs.Key, Verdict] = {}
        self._blocked: dict[jobs.Key, Verdict] = {}
        self._blocked_until = 0.0
        self._is_urgent = False
        self._wakeup = Wakeup()
        self._quiet = asyncio.Event()
        self._quiet.set()
        # After an error nobody knows whether the batch was committed: verdicts that were sent before.
        self._sent_before: set[jobs.Key] = set()

    def add(self, verdict: Verdict) -> None:
        """Take a verdict to record."""
        self._pending[verdict.claim.key] = verdict
        self._quiet.clear()
        if verdict.claim.job.lock is not None or len(self._pending) >= BATCH or self._is_idle():
            self._is_urgent = True
        if self._is_urgent or len(self._pending) == 1:
            self._wakeup.ring()

    @property
    def count(self) -> int:
        """How many verdicts are not recorded yet."""
        return len(self._pending) + len(self._blocked)

    @property
    def keys(self) -> set[jobs.Key]:
        """The claims whose verdicts are not recorded yet."""
        return self._pending.keys() | self._blocked.keys()

    @property
    def is_full(self) -> bool:
        """Whether so many verdicts wait that nothing more should be claimed."""
        return self.count >= LIMIT

    @override
    async def run(self) -> None:
        while True:
            if not self._pending:
                await self._wakeup.wait(BLOCKED_PAUSE if self._blocked else None)
            if self._pending and not self._is_urgent:
                await self._wakeup.wait(PATIENCE)
            await self._flush()
            await self._try_blocked_again()
            if not self.count:
                self._quiet.set()

    async def _try_blocked_again(self) -> None:
        if not self._blocked or time.monotonic() < self._blocked_until:
            return
        # One by one: each may have to wait for its row, and must not hold up a batch.
        for key, verdict in list(self._blocked.items()):
            self._pending[key] = self._blocked.pop(key)
            await self._record(_kind(verdict), [verdict])

    async def _flush(self) -> None:
        self._is_urgent = False
        groups: collections.defaultdict[_Kind, list[Verdict]] = collections.defaultdict(list)
        for verdict in itertools.islice(self._pending.values(), MOST):
            groups[_kind(verdict)].append(verdict)
        for kind, group in groups.items():
            await self._record(kind, group)
        # What came meanwhile waits for company again, which saves two of three statements, unless it is enough.
        if len(self._pending) >= BATCH:
            self._is_urgent = True

    async def _record(self, kind: _Kind, group: list[Verdict]) -> None:
        try:
            statuses = await self._connector.run_async(kind(verdicts=group, worker_id=self._worker_id))
        except exceptions.ConnectionLost:
            self._sent_before.update(verdict.claim.key for verdict in group)
            raise
        except exceptions.ConnectorException as error:
            if len(group) == 1:
                self._set_aside(group[0], error)
            else:
                # One of them cannot be recorded as it is: the others must not suffer. Nor must the server: a claim by
                # another worker that began before these were claimed may lock some of them for a moment, and with 32
                # processes on two cores, outcomes one by one made a drain three times as long (`bench scaling`). And
                # not by halves, for each part with a row that somebody holds waits for as long as a statement may.
                size = math.isqrt(len(group))
                for start in range(0, len(group), size):
                    await self._record(kind, group[start : start + size])
            return
        self.works()
        was_full = self.is_full
        for verdict in group:
            del self._pending[verdict.claim.key]
        if was_full and not self.is_full:
            self._followers.has_room()
        self._follow_up(group, statuses)

    def _set_aside(self, verdict: Verdict, error: exceptions.ConnectorException) -> None:
        # Somebody holds its row, or a sibling took its queueing lock just now: the next try sees how that ended.
        if isinstance(error, exceptions.InvalidData) and verdict.report is not None:
            slim = {name: verdict.report.get(name) for name in ("number", "event", "started_at", "ended_at", "final")}
            verdict = attrs.evolve(verdict, report={name: value for name, value in slim.items() if value is not None})
        job = verdict.claim.job
        logger.log(
            logging.DEBUG
            if isinstance(error, exceptions.LockNotAvailable | exceptions.UniqueViolation)
            else logging.ERROR,
            "The outcome of job %s could not be recorded yet: %s",
            job.id,
            # The server's message may describe the whole row.
            error if job.log_args else type(error).__name__,
            extra={"action": "job_outcome_delayed", "job_id": job.id},
        )
        del self._pending[verdict.claim.key]
        self._blocked[verdict.claim.key] = verdict
        self._blocked_until = time.monotonic() + BLOCKED_PAUSE

    def _follow_up(self, group: Iterable[Verdict], statuses: Mapping[jobs.Key, str]) -> None:
        for verdict in group:
            job = verdict.claim.job
            status = statuses.get(verdict.claim.key)
            if status is None:
                self._report_refusal(verdict)
                continue
            if job.lock is not None:
                self._followers.lock_freed(job.lock)
            if verdict.status is jobs.Status.TODO:
                if status == jobs.Status.TODO.value:
                    is_due = verdict.retry_at is None or verdict.retry_at <= types.utcnow()
                    self._followers.job_waits_again(is_due=is_due)
                else:
                    logger.error(
                        "Job %s was to be retried but ended %s: another job with its queueing lock is waiting, or an "
                        "abort was requested",
                        job.call_string,
                        status,
                        extra={"action": "job_retry_refused", "job": job.log_context()},
                    )

    def _report_refusal(self, verdict: Verdict) -> None:
        key = verdict.claim.key
        if key in self._sent_before:
            # Sent when the connection broke, and committed all the same, most likely. Its lock may be free.
            self._sent_before.discard(key)
            if verdict.claim.job.lock is not None:
                self._followers.lock_freed(verdict.claim.job.lock)
            return
        logger.warning(
            "The outcome of job %s (%s) was not recorded: the job was taken from this worker, or changed by hand, "
            "while it ran",
            verdict.claim.job.call_string,
            verdict.status.value,
            extra={"action": "job_outcome_refused", "job": verdict.claim.job.log_context()},
        )
        self.tell(observers.OutcomeRefused(job=verdict.claim.job, status=verdict.status))

    async def drain(self, seconds: float) -> None:
        """Wait until all verdicts are recorded, at most so long. The rest is rescued by other workers."""
        self._is_urgent = True
        self._wakeup.ring()
        await wait_for(self._quiet, seconds)
        if self.count:
            logger.error(
                "The outcomes of %s jobs could not be recorded before the worker stopped: other workers will run them "
                "again",
                self.count,
                extra={"action": "job_outcomes_lost"},
            )


def _kind(verdict: Verdict) -> _Kind:
    if verdict.status is jobs.Status.TODO:
        return RetryJobs
    return DeleteJobs if verdict.delete else FinishJobs
