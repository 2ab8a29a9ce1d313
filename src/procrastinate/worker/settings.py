"""The settings of a worker: checked once, then passed around as one value."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
from typing_extensions import TypedDict

from procrastinate import jobs
from procrastinate.middleware import TaskMiddleware, WorkerMiddleware, check_middleware
from procrastinate.observers import Observer

WORKER_NAME = "worker"
WORKER_CONCURRENCY = 1
FETCH_JOB_POLLING_INTERVAL = 5.0
ABORT_JOB_POLLING_INTERVAL = 5.0
# Ours take milliseconds, and some tenths of a second if they wait for somebody's row.
LONGEST_STATEMENT = 30.0
LAST_PORT = 65_535


class WorkerOptions(TypedDict, total=False):
    """The keyword arguments of `App.run_worker`, explained at WorkerSettings."""

    queues: Iterable[str] | None
    name: str
    concurrency: int
    wait: bool
    fetch_job_polling_interval: float
    abort_job_polling_interval: float
    shutdown_graceful_timeout: float | None
    listen_notify: bool
    delete_jobs: str | jobs.DeleteJobCondition | None
    additional_context: dict[str, Any] | None
    install_signal_handlers: bool
    update_heartbeat_interval: float
    stalled_worker_timeout: float
    max_rescues: int
    database_timeout: float | None
    task_middleware: Sequence[TaskMiddleware] | None
    worker_middleware: Sequence[WorkerMiddleware] | None
    observers: Sequence[Observer] | None
    health_port: int | None
    health_host: str


def _queues(value: Iterable[str] | None) -> tuple[str, ...] | None:
    if isinstance(value, str):
        raise TypeError(f"queues takes several names, not one text: write queues=[{value!r}]")
    # An empty list means all queues, as no list does: a worker that serves nothing helps nobody.
    return tuple(dict.fromkeys(value or ())) or None


def _delete_jobs(value: str | jobs.DeleteJobCondition | None) -> jobs.DeleteJobCondition:
    return jobs.DeleteJobCondition(value or jobs.DeleteJobCondition.NEVER)


def _context(value: dict[str, Any] | None) -> dict[str, Any]:
    return value if value is not None else {}


def _task_middleware(value: Sequence[TaskMiddleware] | None) -> list[TaskMiddleware]:
    for each in value or []:
        check_middleware(each, owner="the worker", must_be_async=None)
    return list(value or ())


def _worker_middleware(value: Sequence[WorkerMiddleware] | None) -> list[WorkerMiddleware]:
    for each in value or []:
        check_middleware(each, owner="the worker_middleware of a worker", must_be_async=True)
    return list(value or ())


def _observers(value: Sequence[Observer] | None) -> list[Observer]:
    for each in value or ():
        if not callable(each):
            raise TypeError(f"An observer is a function that takes an event, not {each!r}")
    return list(value or ())


def _port(_instance: Any, _attribute: attrs.Attribute[Any], value: int | None) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"health_port is a number, not {value!r}")
    if not 0 <= value <= LAST_PORT:
        raise ValueError(f"health_port must be between 0 and {LAST_PORT}, not {value!r}")


def _at_least(minimum: float) -> Any:
    def check(_instance: Any, attribute: attrs.Attribute[Any], value: float | None) -> None:
        if value is not None and value < minimum:
            raise ValueError(f"{attribute.name} must be at least {minimum:g}, not {value!r}")

    return check


def _positive(_instance: Any, attribute: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None and value <= 0:
        raise ValueError(f"{attribute.name} must be more than 0 seconds, not {value!r}")


@attrs.frozen(kw_only=True)
class WorkerSettings:
    """How a worker works. All times are in seconds.

    Attributes:
        queues: which queues to serve; None (or none) for all.
        name: for logs and for the job context; several workers may share one.
        concurrency: how many jobs run at a time.
        wait: False stops the worker once nothing is left to fetch and no job runs.
        fetch_job_polling_interval: longest idle time between two looks for jobs.
        abort_job_polling_interval: time between two looks for abort requests, while jobs run.
        shutdown_graceful_timeout: time for running jobs to end after a stop before they are aborted; None: no limit.
        listen_notify: learn of new jobs and abort requests at once, on a connection of its own.
        delete_jobs: which finished jobs to delete.
        additional_context: copied into the context of each job.
        install_signal_handlers: stop on SIGINT and SIGTERM.
        update_heartbeat_interval: time between two signs of life.
        stalled_worker_timeout: silence after which a worker counts as dead, and its jobs are taken back.
        max_rescues: how often a job is taken back from dead workers before it ends failed.
        database_timeout: the worker ends with an error when it could not reach the database for so long; None for
            never. A supervisor can then start a new one.
        task_middleware: wraps the tasks of its kind, sync or async, outermost first.
        worker_middleware: async; wraps every job, outermost first.
        observers: functions that are told of events; see `procrastinate.observers`.
        health_port: where to answer HTTP requests for the worker's health: GET /livez, /readyz and /healthz. None for
            nowhere, 0 for any port that is free.
        health_host: the address for that; anybody who reaches it may ask.
    """

    queues: tuple[str, ...] | None = attrs.field(default=None, converter=_queues)
    name: str = attrs.field(default=WORKER_NAME, converter=attrs.converters.default_if_none(WORKER_NAME))
    concurrency: int = attrs.field(default=WORKER_CONCURRENCY, validator=_at_least(1))
    wait: bool = True
    fetch_job_polling_interval: float = attrs.field(default=FETCH_JOB_POLLING_INTERVAL, validator=_positive)
    abort_job_polling_interval: float = attrs.field(default=ABORT_JOB_POLLING_INTERVAL, validator=_at_least(0))
    shutdown_graceful_timeout: float | None = attrs.field(default=None, validator=_at_least(0))
    listen_notify: bool = True
    delete_jobs: jobs.DeleteJobCondition = attrs.field(default=None, converter=_delete_jobs)
    additional_context: dict[str, Any] = attrs.field(default=None, converter=_context)
    install_signal_handlers: bool = True
    update_heartbeat_interval: float = attrs.field(default=10.0, validator=_positive)
    stalled_worker_timeout: float = attrs.field(default=30.0, validator=_positive)
    max_rescues: int = attrs.field(default=3, validator=_at_least(0))
    database_timeout: float | None = attrs.field(default=300.0, validator=_positive)
    task_middleware: list[TaskMiddleware] = attrs.field(default=None, converter=_task_middleware)
    worker_middleware: list[WorkerMiddleware] = attrs.field(default=None, converter=_worker_middleware)
    observers: list[Observer] = attrs.field(default=None, converter=_observers)
    health_port: int | None = attrs.field(default=None, validator=_port)
    health_host: str = "127.0.0.1"

    @property
    def statement_timeout(self) -> float:
        """How long to wait for an answer before the connection counts as lost."""
        return min((self.database_timeout or math.inf) / 10, LONGEST_STATEMENT)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> WorkerSettings:
        """Build the settings from keyword arguments. Raises TypeError for unknown names, ValueError for bad values."""
        known = set(inspect.signature(cls).parameters)
        unknown = sorted(set(options) - known)
        if unknown:
            raise TypeError(f"Unknown worker option: {', '.join(unknown)}. The options are: {', '.join(sorted(known))}")
        return cls(**options)
