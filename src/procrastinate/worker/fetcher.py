"""Claims jobs: as many as the worker will start soon, and no more."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from typing_extensions import override

from procrastinate import connector, jobs
from procrastinate.store.jobs import FetchJobs, FetchResult, ReleaseJobs
from procrastinate.store.operation import FEW
from procrastinate.store.schedule import StageJobs
from procrastinate.store.workers import FindClaims
from procrastinate.worker.floors import FULL_SCAN_INTERVAL, Floors
from procrastinate.worker.reaction import Reaction
from procrastinate.worker.service import Service, Wakeup, jittered
from procrastinate.worker.settings import WorkerSettings

logger = logging.getLogger(__name__)

# A claimed job that has not started after this long goes back, for a worker that has time.
PATIENCE = 0.5
# A notification may stand for other jobs that are deferred at the same time and are still to be committed. So a worker
# looks for them again after so many seconds.
ECHOES = (0.02, 0.2, 1.0)
# A worker that found less than it asked for looks again so many seconds after one of its jobs has ended.
SECOND_LOOK = 0.02
# Rows that a claim looks at when all before them could only be parked.
MOST_SCANNED = 1_000


class Workload(Protocol):
    """What the fetcher fills."""

    def wanted(self) -> int: ...  # noqa: D102
    @property
    def free_slots(self) -> int: ...  # noqa: D102
    def claimed(self, count: int, *, seconds: float, busy_locks: int) -> None: ...  # noqa: D102
    def submit(self, claims: Sequence[jobs.Claim]) -> None: ...  # noqa: D102
    def take_back(self, patience: float) -> list[jobs.Claim]: ...  # noqa: D102
    @property
    def waits(self) -> bool: ...  # noqa: D102
    @property
    def is_idle(self) -> bool: ...  # noqa: D102


class Fetcher(Service):
    """Asks for jobs when there is room, on a wake-up or after the polling interval."""

    name = "fetcher"

    def __init__(  # noqa: PLR0913, PLR0917  the other parts of a worker, which are put together in one place
        self,
        connector: connector.BaseConnector,
        worker_id: int,
        settings: WorkerSettings,
        workload: Workload,
        may_fetch: Callable[[], bool],
        all_written: Callable[[], bool],
        known: Callable[[], set[jobs.Key]],
        on_parked: Callable[[Sequence[str]], None],
        reaction: Reaction,
    ) -> None:
        """Fill `workload` from `connector`.

        `may_fetch` is False while outcomes pile up; `all_written` is True when no outcome, no lock and no due job is
        left to be written; `known` are the claims that run, wait or ended here; `on_parked` receives the locks behind
        which jobs were parked; `reaction` says how soon to look for a job that all workers were notified of.
        """
        self._connector = connector
        self._worker_id = worker_id
        self._settings = settings
        self._workload = workload
        self._may_fetch = may_fetch
        self._all_written = all_written
        self._known = known
        self._on_parked = on_parked
        self._floors = Floors()
        self._looked_everywhere = True
        self._scan = 0
        # What a claim asks for at most: few, until one has found all that it asked for. So a claim that finds little
        # is a statement that PostgreSQL need not plan anew.
        self._most = FEW
        self._search_at = time.monotonic() + settings.stalled_worker_timeout
        self._wakeup = Wakeup()
        self._is_notified = False
        self._reaction = reaction
        # When it looks because of a notification: of the latest one, or of some that are still to come.
        self._looks_at = -math.inf
        self._may_have_left_some = True
        self._is_stopping = False
        # When a job was last claimed, on the monotonic clock.
        self.last_claim: float | None = None

    def wake(self) -> None:
        """Look for jobs, as there is room for them: now if the latest claim may have left some, else in a moment.

        What has become ready since a claim that found less than it asked for is usually told by a notification. To look
        at once, a worker with little to do would claim twice for each job (`bench latency`).
        """
        self._wakeup.ring(after=0.0 if self._may_have_left_some else SECOND_LOOK)

    def look(self, job_id: int | None = None) -> None:
        """Look for jobs now: this one became ready, or some."""
        self._floors.look_everywhere(job_id)
        self._wakeup.ring()

    def notified(self, job_id: int | None = None) -> None:
        """Look for jobs soon and some moments later: a notification came, or some may have been missed."""
        self._floors.look_everywhere(job_id)
        self._is_notified = True
        now = time.monotonic()
        looks_at = now + self._reaction.hesitation(job_id)
        # If it is to look before that anyway, that claim will find this job too.
        if not now < self._looks_at <= looks_at:
            self._looks_at = looks_at
        self._wakeup.ring(after=self._looks_at - now)

    def stop(self) -> None:
        """Claim nothing more; `run` returns once a claim under way has been answered."""
        self._is_stopping = True
        self._wakeup.ring()

    @override
    async def run(self) -> None:
        if self.failures:
            await self._find_lost_claims()
        while not self._is_stopping:
            if time.monotonic() >= self._search_at:
                await self._find_lost_claims()
            was_quiet = self._workload.is_idle and self._all_written()
            limit = min(self._workload.wanted(), self._most) if self._may_fetch() else 0
            found = await self._fetch(limit) if limit else None
            if found is not None:
                self._most = FEW if found.scanned < min(limit, FEW) else sys.maxsize
            self._may_have_left_some = found is None or found.scanned >= limit
            if found is not None and self._may_have_left_some:
                continue
            if not self._settings.wait and found is not None and not found.scanned:
                if not self._looked_everywhere:
                    self._floors.look_everywhere()
                    continue
                if await self._stage():
                    continue
                # Unless somebody else made a job ready after this look.
                if was_quiet and self._all_written() and not self._wakeup.is_rung:
                    logger.info("No job found. Stopping worker because wait=False", extra={"action": "no_job_found"})
                    return
            await self._wakeup.wait(self._pause())
            await self._give_back()

    def _pause(self) -> float:
        if self._workload.waits:
            return PATIENCE / 2
        if not self._settings.wait and self._workload.is_idle:
            return 0.005  # outcomes or locks are being written; then one last look
        since = time.monotonic() - self._looks_at
        echo = next((moment - since for moment in ECHOES if moment > since), math.inf)
        if not self._looked_everywhere:
            return min(FULL_SCAN_INTERVAL, echo)
        return min(jittered(self._settings.fetch_job_polling_interval), echo)

    async def _fetch(self, wanted: int) -> FetchResult:
        floors = self._floors.for_claim()
        self._looked_everywhere = not floors
        operation = FetchJobs(
            queues=self._settings.queues,
            worker_id=self._worker_id,
            limit=max(wanted, self._scan),
            floors=floors,
            slots=self._workload.free_slots,
            most=wanted,
        )
        started = time.monotonic()
        result = await self._connector.run_async(operation)
        seconds = time.monotonic() - started
        self._floors.claimed(
            result.claims,
            looked_everywhere=self._looked_everywhere,
            # A long claim of many jobs is not slow.
            seconds=seconds / (1 + result.scanned / 20),
        )
        self.works()
        if self._is_notified:
            self._reaction.learn(in_vain=not result.scanned)
            self._is_notified = False
        if result.claims:
            self.last_claim = self.last_success
        # Behind a long line of jobs that are only to be parked, look at more of them at a time.
        nothing_but_parked = result.scanned >= operation.limit and not result.claims
        self._scan = min(2 * operation.limit, MOST_SCANNED) if nothing_but_parked else 0
        self._workload.claimed(len(result.claims), seconds=seconds, busy_locks=len(set(result.parked_locks)))
        self._on_parked(result.parked_locks)
        await self._take(result.claims)
        return result

    async def _take(self, claims: Sequence[jobs.Claim]) -> None:
        if self._is_stopping:
            await self._release(claims)
        else:
            self._workload.submit(claims)

    async def _find_lost_claims(self) -> None:
        """Take the jobs that were claimed by a statement whose answer was lost, or that could not be given back.

        Nobody else would: they belong to a worker that lives. It is done now and then too, since a statement that was
        given up may be on its way still, and be executed after its connection has broken.
        """
        self._search_at = time.monotonic() + self._settings.stalled_worker_timeout
        # Asked for before the rows are read: a claim that was recorded in between is not among them any more.
        known = self._known()
        operation = FindClaims(worker_id=self._worker_id, known=[job_id for job_id, _ in known if job_id is not None])
        lost = await self._connector.run_async(operation)
        self.works()
        if lost:
            extra = {"action": "lost_claims_found", "jobs": [claim.job.id for claim in lost]}
            logger.warning("Found %s jobs that were claimed without an answer", len(lost), extra=extra)
        await self._take(lost)

    async def _stage(self) -> bool:
        staged = await self._connector.run_async(StageJobs(limit=1_000))
        return staged.count > 0

    async def _give_back(self) -> None:
        await self._release(self._workload.take_back(PATIENCE))

    async def _release(self, claims: Sequence[jobs.Claim]) -> None:
        if claims:
            await self._connector.run_async(ReleaseJobs(claims=claims, worker_id=self._worker_id))
            self._on_parked([claim.job.lock for claim in claims if claim.job.lock is not None])

    async def give_back_all(self) -> None:
        """Give back every claimed job that has not started."""
        await self._release(self._workload.take_back(0))
