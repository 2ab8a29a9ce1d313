"""Opens the lines behind locks that became free."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from typing_extensions import override

from procrastinate import connector
from procrastinate.store.locks import OpenLocks
from procrastinate.worker.service import Service, Wakeup, wait_for

# Somebody else holds the head's row for the length of a statement.
PAUSE = 0.005


class LockOpener(Service):
    """Opens each lock it is told of, and tries again until the head of its line is open, gone, or the lock is held.

    It is told after the commit that freed the lock or parked a job behind it, so that its statement's snapshot sees
    both; docs/concepts.md has the proof that no wake-up is lost.
    """

    name = "lock opener"

    def __init__(self, connector: connector.BaseConnector, on_ready: Callable[[], None]) -> None:
        """Open on `connector`; `on_ready` is called when a job became ready."""
        self._connector = connector
        self._on_ready = on_ready
        self._locks: set[str] = set()
        self._in_flight = False
        self._wakeup = Wakeup()
        self._quiet = asyncio.Event()
        self._quiet.set()

    def request(self, locks: Iterable[str]) -> None:
        """Have these locks opened."""
        self._locks.update(locks)
        if self._locks:
            self._quiet.clear()
            self._wakeup.ring()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to open."""
        return not self._locks and not self._in_flight

    @override
    async def run(self) -> None:
        while True:
            if not self._locks:
                await self._wakeup.wait(None)
            locks, self._locks = self._locks, set()
            self._in_flight = True
            try:
                opened = await self._connector.run_async(OpenLocks(locks=sorted(locks)))
            except BaseException:
                self._locks |= locks
                raise
            finally:
                self._in_flight = False
            self.works()
            if opened.queues:
                self._on_ready()
            if opened.still_parked:
                self._locks.update(opened.still_parked)
                await asyncio.sleep(PAUSE)
            if self.is_idle:
                self._quiet.set()

    async def drain(self, seconds: float) -> None:
        """Wait until nothing is left to open, at most so long. The sweep of other workers does the rest."""
        await wait_for(self._quiet, seconds)
