"""The life of a worker's services: each runs until it is stopped, and starts again when it fails."""

from __future__ import annotations

import abc
import asyncio
import logging
import random
import time
from collections.abc import Callable

from procrastinate import exceptions, observers

logger = logging.getLogger(__name__)

# Errors that trying again cannot mend: the worker ends, and says why.
FATAL = (exceptions.SchemaNotApplied, exceptions.AppNotOpen, exceptions.SyncConnectorConfigurationError)

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0


class Service(abc.ABC):
    """One duty of a worker."""

    name: str
    failures: int = 0
    # When the first of the failures in a row was, on the monotonic clock.
    failing_since: float = 0.0
    # When the latest round trip succeeded, likewise.
    last_success: float | None = None
    # Whom to tell of events.
    tell: Callable[[observers.Event], None] = staticmethod(observers.nobody)

    @abc.abstractmethod
    async def run(self) -> None:
        """Do the duty until cancelled, or until there is nothing to do for good."""

    def works(self) -> None:
        """Record that a round trip succeeded: called by the service itself, and logged if it failed before."""
        self.last_success = time.monotonic()
        if self.failures:
            logger.info(
                "Service %s works again", self.name, extra={"action": "service_recovered", "service": self.name}
            )
            self.failures = 0
            self.tell(observers.ServiceRecovered(service=self.name))


async def keep_running(service: Service) -> None:
    """Run a service; when it fails, start it again after a pause that grows with each failure in a row.

    The first failure in a row is logged with its cause, the next ones at DEBUG. Raises the error if it is fatal.
    """
    while True:
        try:
            await service.run()
        except FATAL:
            raise
        except Exception as error:
            service.failures += 1
            if service.failures == 1:
                service.failing_since = time.monotonic()
            pause = min(FIRST_PAUSE * 2 ** (service.failures - 1), LONGEST_PAUSE) * random.uniform(0.5, 1)
            logger.log(
                logging.ERROR if service.failures == 1 else logging.DEBUG,
                "Service %s failed: %s. It starts again, at first in %.1f s",
                service.name,
                error,
                pause,
                exc_info=not isinstance(error, exceptions.ConnectionLost),
                extra={"action": "side_task_failed", "service": service.name, "failures": service.failures},
            )
            service.tell(observers.ServiceFailed(service=service.name, error=error, failures=service.failures))
            await asyncio.sleep(pause)
        else:
            return


class Wakeup:
    """An alarm clock: somebody waits on it for a limited time, others ring it, or set it."""

    def __init__(self) -> None:
        """Start silent."""
        self._event = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def is_rung(self) -> bool:
        """Whether the next wait will end at once."""
        return self._event.is_set()

    def ring(self, *, after: float = 0.0) -> None:
        """Wake the one who waits, after so many seconds unless something else does before; if nobody waits, the next.

        Of several alarms the first one counts.
        """
        if not after:
            self._event.set()
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + after
        if self._alarm is None or at < self._alarm.when():
            self._turn_off()
            self._alarm = loop.call_at(at, self._event.set)

    async def wait(self, seconds: float | None) -> None:
        """Return when rung, or after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            pass
        self._event.clear()
        self._turn_off()

    def _turn_off(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or after so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def jittered(seconds: float) -> float:
    """Return a time a little shorter, at random, so that many workers do not poll at the same moment."""
    return seconds * random.uniform(0.8, 1)
