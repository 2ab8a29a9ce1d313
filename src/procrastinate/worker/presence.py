"""Gives signs of life, from a thread of its own.

A blocked event loop, a task that computes for minutes or an exhausted pool must not make a live worker look dead: its
jobs would run twice.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent import futures

from procrastinate import connector, exceptions, observers
from procrastinate.store.workers import Beat, UpdateHeartbeat

logger = logging.getLogger(__name__)

FIRST_PAUSE = 1.0
LONGEST_RETRY_PAUSE = 1.0


class Presence:
    """Beats until it is stopped, which is the last thing that a worker does."""

    def __init__(
        self,
        make_connector: Callable[[], connector.BaseConnector],
        heartbeat: UpdateHeartbeat,
        interval: float,
        tell: Callable[[observers.Event], None] = observers.nobody,
    ) -> None:
        """Ask `heartbeat` every `interval` seconds on a connector that is sync, and for this thread alone.

        `tell` is called in this thread.
        """
        self._tell = tell
        self._make_connector = make_connector
        self._heartbeat = heartbeat
        self._interval = interval
        # What the latest one said.
        self.beat = Beat(was_known=True)
        self._stop = threading.Event()
        self._ended: futures.Future[None] = futures.Future()
        self._thread = threading.Thread(target=self._beat, name="procrastinate heartbeat", daemon=True)
        self._is_failing = False
        self.last_success = time.monotonic()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def stop(self, seconds: float) -> None:
        """Stop the thread and wait for it, at most so long."""
        self._stop.set()
        # Not in a thread of the loop's executor: a task may have shut that down.
        await asyncio.wait([asyncio.wrap_future(self._ended)], timeout=seconds)

    def _beat(self) -> None:
        try:
            self._beat_until_stopped()
        finally:
            self._ended.set_result(None)

    def _beat_until_stopped(self) -> None:
        pulse = _Pulse(self._make_connector(), self._heartbeat)
        # The first one soon, as it tells how many others there are.
        pause = min(self._interval, FIRST_PAUSE)
        while not self._stop.wait(pause):
            try:
                self.beat = pulse.beat(self._interval + LONGEST_RETRY_PAUSE)
            except Exception as error:  # noqa: BLE001  nothing may end the signs of life
                pause = min(self._interval, LONGEST_RETRY_PAUSE)
                self._failed(error)
                if pulse.is_stuck:
                    pulse = _Pulse(self._make_connector(), self._heartbeat)
            else:
                pause = self._interval
                self._succeeded(was_known=self.beat.was_known)
        pulse.close()

    def _failed(self, error: Exception) -> None:
        if not self._is_failing:
            logger.error("The heartbeat fails: %s", error, extra={"action": "heartbeat_failed"})
            self._tell(observers.ServiceFailed(service="heartbeat", error=error, failures=1))
        self._is_failing = True

    def _succeeded(self, *, was_known: bool) -> None:
        self.last_success = time.monotonic()
        if self._is_failing:
            logger.info("The heartbeat works again", extra={"action": "heartbeat_recovered"})
            self._tell(observers.ServiceRecovered(service="heartbeat"))
        self._is_failing = False
        if not was_known:
            logger.warning(
                "Worker %s was taken for dead and removed; it goes on under its id. Jobs that were taken from it run "
                "again elsewhere, and their outcome here will be refused",
                self._heartbeat.worker_id,
                extra={"action": "worker_revived", "worker_id": self._heartbeat.worker_id},
            )
            self._tell(observers.WorkerRevived(worker_id=self._heartbeat.worker_id))


class _Pulse:
    """Beats on one connector, each time in a thread that can be left alone if the connection fell silent."""

    def __init__(self, own_connector: connector.BaseConnector, operation: UpdateHeartbeat) -> None:
        self._connector = own_connector
        self._operation = operation
        self.is_stuck = False

    def beat(self, seconds: float) -> Beat:
        """Beat once. Raises ConnectionLost if there is no answer in time."""
        answers: queue.SimpleQueue[Beat | Exception] = queue.SimpleQueue()
        threading.Thread(target=self._ask, args=[answers], name="procrastinate beat", daemon=True).start()
        try:
            answer = answers.get(timeout=seconds)
        except queue.Empty:
            self.is_stuck = True
            raise exceptions.ConnectionLost(f"The database did not answer within {seconds:g} s") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _ask(self, answers: queue.SimpleQueue[Beat | Exception]) -> None:
        try:
            self._connector.open()
            answers.put(self._connector.run(self._operation))
        except Exception as error:  # noqa: BLE001  handed over
            answers.put(error)
        if self.is_stuck:
            self.close()

    def close(self) -> None:
        self._connector.close()
