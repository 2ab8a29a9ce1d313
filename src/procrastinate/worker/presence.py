"""Gives signs of life, from a thread of its own.

A blocked event loop, a task that computes for minutes or an exhausted pool must not make a live worker look dead: its
jobs would run twice.
"""

from __future__ import annotations

import logging
import threading
import time

from procrastinate import connector
from procrastinate.store.workers import UpdateHeartbeat

logger = logging.getLogger(__name__)

LONGEST_RETRY_PAUSE = 1.0


class Presence:
    """Beats until it is stopped, which is the last thing that a worker does."""

    def __init__(self, connector: connector.BaseConnector, worker_id: int, interval: float) -> None:
        """Beat for `worker_id` every `interval` seconds on `connector`: sync, and for this thread alone."""
        self._connector = connector
        self._worker_id = worker_id
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="procrastinate heartbeat", daemon=True)
        self._is_failing = False
        self.last_success = time.monotonic()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Stop the thread and wait for it, at most so long."""
        self._stop.set()
        self._thread.join(seconds)

    def _beat(self) -> None:
        pause = self._interval
        while not self._stop.wait(pause):
            try:
                self._connector.open()
                was_known = self._connector.run(UpdateHeartbeat(worker_id=self._worker_id, revive=True))
            except Exception as error:  # noqa: BLE001  nothing may end the signs of life
                pause = min(self._interval, LONGEST_RETRY_PAUSE)
                self._failed(error)
            else:
                pause = self._interval
                self._succeeded(was_known=was_known)
        self._connector.close()

    def _failed(self, error: Exception) -> None:
        if not self._is_failing:
            logger.error("The heartbeat fails: %s", error, extra={"action": "heartbeat_failed"})
        self._is_failing = True

    def _succeeded(self, *, was_known: bool) -> None:
        self.last_success = time.monotonic()
        if self._is_failing:
            logger.info("The heartbeat works again", extra={"action": "heartbeat_recovered"})
        self._is_failing = False
        if not was_known:
            logger.warning(
                "Worker %s was taken for dead and removed; it goes on under its id. Jobs that were taken from it run "
                "again elsewhere, and their outcome here will be refused",
                self._worker_id,
                extra={"action": "worker_revived", "worker_id": self._worker_id},
            )
