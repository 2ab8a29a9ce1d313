"""Looks for abort requests, for those whose notification did not arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from typing_extensions import override

from procrastinate import connector
from procrastinate.store.jobs import ListJobsToAbort
from procrastinate.worker.service import Service, jittered


class AbortPoller(Service):
    """Asks for abort requests now and then, while jobs run."""

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

    @override
    async def run(self) -> None:
        while True:
            await asyncio.sleep(jittered(self._interval))
            if self._has_jobs():
                for job_id in await self._connector.run_async(ListJobsToAbort(worker_id=self._worker_id)):
                    self._on_abort(job_id)
                self.works()
