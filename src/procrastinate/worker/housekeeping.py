"""Chores that some worker must do now and then; no leader is elected."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable

import attrs
from typing_extensions import override

from procrastinate import connector, jobs, observers
from procrastinate.store.locks import FindSleepingLocks
from procrastinate.store.schedule import TakeChores
from procrastinate.store.workers import PruneStalledWorkers, RescueJobs, UpdateHeartbeat
from procrastinate.worker.service import Service, jittered
from procrastinate.worker.settings import WorkerSettings

logger = logging.getLogger(__name__)

# An idle worker sends one statement a second, all services together.
SWEEP_INTERVAL = 20.0
LONGEST_RESCUE_INTERVAL = 7.5
# How long others may take to give a sign of life after an outage: their pauses between two tries to connect.
LONGEST_GRACE = 10.0
BATCH = 500


@attrs.frozen
class Chore:
    """Something to be done by one worker every `interval` seconds."""

    name: str
    interval: float
    do: Callable[[], Awaitable[None]]


class Housekeeping(Service):
    """Rescues the jobs of dead workers, and opens locks that they left closed."""

    name = "housekeeping"

    def __init__(
        self,
        connector: connector.BaseConnector,
        worker_id: int,
        settings: WorkerSettings,
        is_silent: Callable[[], bool],
        open_locks: Callable[[Iterable[str]], None],
        on_ready: Callable[[], None],
    ) -> None:
        """Work on `connector` as `worker_id`.

        `is_silent` tells whether the worker's own heartbeat fails; `open_locks` opens lines; `on_ready` is called when
        jobs became ready.
        """
        self._connector = connector
        self._worker_id = worker_id
        self._settings = settings
        self._is_silent = is_silent
        self._open_locks = open_locks
        self._on_ready = on_ready
        rescue_interval = min(settings.stalled_worker_timeout / 4, LONGEST_RESCUE_INTERVAL)
        self._chores = [
            Chore("rescue", rescue_interval, self._rescue),
            Chore("sweep", SWEEP_INTERVAL, self._sweep),
            Chore("prune", settings.stalled_worker_timeout, self._prune),
        ]
        self._pause = min(chore.interval for chore in self._chores)
        # After an outage every worker has been silent, and who looks first would take the jobs of all others. Whoever
        # comes back, or is new here, first lets them give a sign; but one that will not stay looks at once.
        self._grace = min(settings.stalled_worker_timeout, LONGEST_GRACE)
        self._last_answer = -math.inf if settings.wait else time.monotonic()
        self._may_rescue_from = -math.inf

    @override
    async def run(self) -> None:
        while True:
            # All in one question, when the most frequent of them is due: each statement of a worker that has nothing to
            # do wakes two processes up. A little less than the intervals, or two workers' clocks would make each skip
            # every other turn.
            intervals = {chore.name: chore.interval * 0.7 for chore in self._chores}
            taken = await self._connector.run_async(TakeChores(intervals=intervals))
            self._answered()
            await self._do(chore for chore in self._chores if chore.name in taken)
            self.works()
            await asyncio.sleep(jittered(self._pause))

    async def _do(self, chores: Iterable[Chore]) -> None:
        failure: Exception | None = None
        for chore in chores:
            try:
                await chore.do()
            except Exception as error:  # noqa: BLE001  raised below
                # The others were taken, too: nobody else does them before their next turn.
                failure = error
        if failure is not None:
            raise failure

    def _answered(self) -> None:
        now = time.monotonic()
        if now - self._last_answer > 2 * self._pause:
            self._may_rescue_from = now + self._grace
        self._last_answer = now

    async def _rescue(self) -> None:
        settings = self._settings
        if time.monotonic() < self._may_rescue_from:
            return
        if self._is_silent():
            # Who can rescue lives, even if its heart has a connection of its own that fails: it must not rescue itself.
            beat = UpdateHeartbeat(worker_id=self._worker_id, revive=True, queues=settings.queues)
            await self._connector.run_async(beat)
        rescue = RescueJobs(
            seconds_since_heartbeat=settings.stalled_worker_timeout, max_rescues=settings.max_rescues, limit=BATCH
        )
        while rescued := await self._connector.run_async(rescue):
            for job in rescued:
                logger.warning(
                    "Job %s[%s] was taken back from worker %s, which gave no sign of life: it is %s now",
                    job.task_name,
                    job.job_id,
                    job.worker_id,
                    job.status,
                    extra={"action": "job_rescued", "job_id": job.job_id, "status": job.status},
                )
                self.tell(
                    observers.JobRescued(
                        job_id=job.job_id,
                        task_name=job.task_name,
                        queue=job.queue,
                        status=jobs.Status(job.status),
                        worker_id=job.worker_id,
                    )
                )
            self._open_locks({job.lock for job in rescued if job.lock is not None})
            if any(job.status == jobs.Status.TODO.value for job in rescued):
                self._on_ready()
            await self._prune()

    async def _prune(self) -> None:
        settings = self._settings
        if time.monotonic() < self._may_rescue_from:
            return
        pruned = await self._connector.run_async(
            PruneStalledWorkers(seconds_since_heartbeat=settings.stalled_worker_timeout)
        )
        if pruned:
            logger.info("Removed dead workers %s", pruned, extra={"action": "workers_pruned", "workers": pruned})

    async def _sweep(self) -> None:
        locks = await self._connector.run_async(FindSleepingLocks(limit=BATCH))
        self._open_locks(locks)
