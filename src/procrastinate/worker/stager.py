"""Makes scheduled jobs ready when they are due."""

from __future__ import annotations

from collections.abc import Callable

from typing_extensions import override

from procrastinate import connector
from procrastinate.store.schedule import StageJobs
from procrastinate.worker.service import Service, Wakeup, jittered

# Jobs made ready by one statement.
BATCH = 1_000


class Stager(Service):
    """Sleeps until the next scheduled job is due, but never longer than the polling interval."""

    name = "stager"

    def __init__(
        self, connector: connector.BaseConnector, polling_interval: float, on_ready: Callable[[], None]
    ) -> None:
        """Stage on `connector`; `on_ready` is called when jobs became ready."""
        self._connector = connector
        self._polling_interval = polling_interval
        self._on_ready = on_ready
        self._wakeup = Wakeup()
        # Whether it is making no jobs ready just now.
        self.is_idle = True

    def wake(self) -> None:
        """Look at the schedule again: it has changed."""
        self._wakeup.ring()

    @override
    async def run(self) -> None:
        while True:
            self.is_idle = False
            try:
                staged = await self._connector.run_async(StageJobs(limit=BATCH))
                self.works()
                if staged.count:
                    self._on_ready()
            finally:
                self.is_idle = True
            if staged.count < BATCH:
                pause = jittered(self._polling_interval)
                if staged.next_due_in is not None:
                    # A little past the moment: the statement's own clock must have reached it.
                    pause = min(pause, max(staged.next_due_in, 0) + 0.001)
                await self._wakeup.wait(pause)
