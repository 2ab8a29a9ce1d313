"""Looks for abort requests."""

from __future__ import annotations

from collections.abc import Callable

from typing_extensions import override

from procrastinate import connector
from procrastinate.store.jobs import ListJobsToAbort
from procrastinate.worker.service import Service, Wakeup, jittered


class AbortPoller(Service):
    """Asks which of the worker's jobs are to stop: on a notification, and now and then while jobs run.

    A notification only says when to look. Channels belong to the whole database, where another instance may have a job
    of the same id in another schema, and anybody may send on them.
    """

    name = "abort poller"

    def __init__(
        self,
        connector: connector.BaseConnector,
        worker_id: int,
        interval: float,
        has_jobs: Callable[[], bool],
        on_abort: Callable[[int], None],
    ) -> None:
        """Call `on_abort` with the id of each job of `worker_id` that is to stop."""
        self._connector = connector
        self._worker_id = worker_id
        self._interval = max(interval, 0.01)
        self._has_jobs = has_jobs
        self._on_abort = on_abort
        self._wakeup = Wakeup()

    def wake(self) -> None:
        """Look now: somebody asked for an abort."""
        self._wakeup.ring()

    @override
    async def run(self) -> None:
        while True:
            await self._wakeup.wait(jittered(self._interval))
            if self._has_jobs():
                for job_id in await self._connector.run_async(ListJobsToAbort(worker_id=self._worker_id)):
                    self._on_abort(job_id)
                self.works()
