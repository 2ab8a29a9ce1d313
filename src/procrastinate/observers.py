"""What a worker tells those who watch it: events as values, for metrics and alarms.

An observer is a function that takes an event. A worker calls its observers on its event loop, in their order, for every
event; they must be quick and must not wait. An error of one is logged, and changes nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeAlias

import attrs

from procrastinate.jobs import Job, Status

logger = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class JobStarted:
    """A run of a job begins."""

    job: Job


@attrs.frozen(kw_only=True)
class JobEnded:
    """A run of a job ended; its outcome goes to the database now.

    Attributes:
        job: the job, as it was claimed.
        status: what becomes of it: `SUCCEEDED`, `FAILED`, `ABORTED`, or `TODO` if it will run again.
        seconds: how long the run took.
        error: what it raised, or None.
    """

    job: Job
    status: Status
    seconds: float
    error: BaseException | None


@attrs.frozen(kw_only=True)
class OutcomeRefused:
    """An outcome does not count: the job was taken from this worker, or changed by hand, while it ran."""

    job: Job
    status: Status


@attrs.frozen(kw_only=True)
class JobRescued:
    """This worker took a job back from one that gave no sign of life.

    Attributes:
        job_id: the job.
        task_name: its task.
        queue: its queue.
        status: what it is now: `TODO`, or a final one where it may not run again.
        worker_id: the dead worker, or None if it is not known any more.
    """

    job_id: int
    task_name: str
    queue: str
    status: Status
    worker_id: int | None


@attrs.frozen(kw_only=True)
class ServiceFailed:
    """A service of the worker failed, and will start again.

    Attributes:
        service: its name: `fetcher`, `completer`, `listener`, `heartbeat` …
        error: why.
        failures: how often in a row; the heartbeat tells only the first.
    """

    service: str
    error: Exception
    failures: int


@attrs.frozen(kw_only=True)
class ServiceRecovered:
    """A service that failed works again: most often, it is connected again."""

    service: str


@attrs.frozen(kw_only=True)
class WorkerRevived:
    """Others took this worker for dead; it goes on, but its jobs may have been taken from it."""

    worker_id: int


@attrs.frozen(kw_only=True)
class WatchdogFired:
    """The worker ends: it could not reach the database for so many seconds."""

    seconds: float


Event: TypeAlias = (
    JobStarted
    | JobEnded
    | OutcomeRefused
    | JobRescued
    | ServiceFailed
    | ServiceRecovered
    | WorkerRevived
    | WatchdogFired
)
Observer: TypeAlias = Callable[[Event], object]


def nobody(_event: Event) -> None:
    """Stand in for observers where there are none."""


def telling(observers: Iterable[Observer]) -> Callable[[Event], None]:
    """Return a function that tells each observer of an event; `nobody` if there are none."""
    everyone = tuple(observers)
    if not everyone:
        return nobody

    def tell(event: Event) -> None:
        for observer in everyone:
            try:
                observer(event)
            except Exception:
                logger.exception(
                    "Observer %r failed on %s",
                    observer,
                    type(event).__name__,
                    extra={"action": "observer_failed", "event": type(event).__name__},
                )

    return tell
