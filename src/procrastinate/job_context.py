"""What a task learns of its run."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import attrs

from procrastinate.jobs import Job

if TYPE_CHECKING:
    from procrastinate.app import App
    from procrastinate.tasks import Task


class AbortReason(enum.Enum):
    """Why a job was asked to stop."""

    USER_REQUEST = "user_request"
    SHUTDOWN = "shutdown"


@attrs.frozen(kw_only=True)
class JobContext:
    """The first argument of a task that was declared with `pass_context=True`.

    Attributes:
        app: the app that runs the job.
        worker_name: the worker's name.
        worker_queues: the queues that it serves, None for all.
        job: the job, as it was when it was claimed.
        start_timestamp: when the run started, in seconds since the epoch.
        additional_context: a copy of the worker's, for this job alone.
        abort_reason: returns why the job was asked to stop, or None.
    """

    app: App
    worker_name: str | None = None
    worker_queues: Iterable[str] | None = None
    job: Job
    start_timestamp: float
    additional_context: dict[str, Any] = attrs.field(factory=dict[str, Any])
    abort_reason: Callable[[], AbortReason | None]

    def should_abort(self) -> bool:
        """Tell whether the job was asked to stop: a function in a thread must look now and then."""
        return bool(self.abort_reason())

    def evolve(self, **changes: Any) -> JobContext:
        """Return a copy with some attributes changed."""
        return attrs.evolve(self, **changes)

    @property
    def task(self) -> Task[..., Any]:
        """The task that runs. Raises KeyError if the app does not know it."""
        return self.app.tasks[self.job.task_name]

    @property
    def queues_display(self) -> str:
        """The worker's queues, for people."""
        return queues_display(self.worker_queues)


@attrs.define(kw_only=True)
class JobResult:
    """How a run went, as log records carry it. Times are in seconds since the epoch."""

    start_timestamp: float
    end_timestamp: float | None = None
    result: Any = None

    def duration(self, current_timestamp: float) -> float:
        """Return how long the run took, or has taken so far, in seconds."""
        return (self.end_timestamp or current_timestamp) - self.start_timestamp

    def as_dict(self) -> dict[str, Any]:
        """Return what log records carry: the start and the duration, and the end and the result once there are."""
        context: dict[str, Any] = {
            "start_timestamp": self.start_timestamp,
            "duration": self.duration(time.time()),
        }
        if self.end_timestamp is not None:
            context |= {"end_timestamp": self.end_timestamp, "result": self.result}
        return context


def queues_display(queues: Iterable[str] | None) -> str:
    """Return a worker's queues for people: `queues a, b`, or `all queues` for none."""
    return f"queues {', '.join(queues)}" if queues else "all queues"
