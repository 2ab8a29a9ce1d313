"""Periodic tasks: what is registered, and which ticks are due."""

from __future__ import annotations

import itertools
import logging
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from typing_extensions import Unpack

from procrastinate import exceptions
from procrastinate.jobs import Job, check_name
from procrastinate.tasks import ConfigureTaskOptions, Task, did_you_mean, refuse_unknown_options

if TYPE_CHECKING:
    import croniter

logger = logging.getLogger(__name__)

AnyTask = TypeVar("AnyTask", bound=Task[..., Any])

# A tick that was missed by so many seconds is left out.
MAX_DELAY = 600.0
# How long after a tick its job is deferred, so that the clocks of all workers have reached it.
MARGIN = 0.5
# More ticks than this are not caught up: a worker that was frozen for a day must not defer a flood.
MOST_CAUGHT_UP = 1_000


# Fields whose numbers are drawn, `R(0-30)`, or follow from a hash, `H/15`.
_DRAWN = re.compile(r"(?<!\S)[hr](?=[(/]|\s|$)", re.IGNORECASE)


@attrs.frozen
class PeriodicTask:
    """A task that is deferred at the times of a cron expression, in UTC.

    Attributes:
        task: the task.
        cron: the expression.
        periodic_id: tells several schedules of one task from each other.
        configure_kwargs: settings of the jobs, as for `Task.configure`.
    """

    task: Task[..., Any]
    cron: str
    periodic_id: str
    configure_kwargs: dict[str, Any]

    def _croniter(self, start: float) -> croniter.croniter:
        import croniter  # noqa: PLC0415  with dateutil 8 % of importing the app

        if not _DRAWN.search(self.cron):
            return croniter.croniter(self.cron, start)
        # Numbers drawn anew at each look would be no schedule, and each worker would have its own.
        return croniter.croniter(_DRAWN.sub("H", self.cron), start, hash_id=":".join(self.key))

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from others: the task's name and the periodic id."""
        return self.task.name, self.periodic_id

    def previous_ticks(self, at: float) -> Iterator[int]:
        """Return the ticks at or before a time, the latest first, in seconds since the epoch."""
        # croniter looks strictly before its start, and ticks are whole seconds.
        return _ticks(self._croniter(math.floor(at) + 1).get_prev)

    def next_tick(self, after: float) -> int | None:
        """Return the first tick after a time, both in seconds since the epoch, None if there is no more."""
        return next(_ticks(self._croniter(math.floor(after)).get_next), None)


def _ticks(step: Callable[[], float]) -> Iterator[int]:
    import croniter  # noqa: PLC0415  as above

    while True:
        try:
            tick = step()
        except croniter.CroniterBadDateError:
            return  # an expression with years, or one such as 30 February
        yield round(tick)


class PeriodicRegistry:
    """The periodic tasks of an app or blueprint.

    Attributes:
        periodic_tasks: each of them, by the task's name and the periodic id.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.periodic_tasks: dict[tuple[str, str], PeriodicTask] = {}

    def periodic_decorator(
        self, cron: str, periodic_id: str, **configure_kwargs: Unpack[ConfigureTaskOptions]
    ) -> Callable[[AnyTask], AnyTask]:
        """Return a decorator for tasks; see `Blueprint.periodic`."""

        def register(task: AnyTask) -> AnyTask:
            if not isinstance(task, Task):  # pyright: ignore[reportUnnecessaryIsInstance]  users get the order wrong
                raise TypeError("@app.periodic(...) goes above @app.task: it takes a task, not a function")
            self.register_task(task, cron, periodic_id, dict(configure_kwargs))
            return task

        return register

    def register_task(
        self, task: Task[..., Any], cron: str, periodic_id: str, configure_kwargs: dict[str, Any]
    ) -> PeriodicTask:
        """Add a periodic task.

        Raises:
            ValueError: the cron expression is wrong.
            TypeError: an option is unknown, or the task cannot take its arguments and `timestamp`.
            TaskAlreadyRegistered: the task has a schedule under this periodic id.
        """
        refuse_unknown_options(configure_kwargs, function="periodic")
        if task.checks_arguments:
            task.check_arguments({**(configure_kwargs.get("task_kwargs") or {}), "timestamp": 0})
        periodic_task = PeriodicTask(task, cron, check_name(periodic_id, "periodic"), configure_kwargs)
        try:
            next_tick = periodic_task.next_tick(time.time())
        except (ValueError, AttributeError, TypeError):  # croniter's errors; the latter two for what is no text
            raise ValueError(
                f"{cron!r}, the schedule of task {task.name}, is no cron expression: five fields (minute hour day "
                "month weekday), and a sixth for seconds if wanted"
            ) from None
        if next_tick is None:
            raise ValueError(f"{cron!r}, the schedule of task {task.name}, never comes true")
        self.add(periodic_task)
        return periodic_task

    def add(self, periodic_task: PeriodicTask) -> None:
        """Add a periodic task that is known to be right. Raises TaskAlreadyRegistered."""
        name, periodic_id = periodic_task.key
        self.refuse_taken(name, periodic_id)
        self.periodic_tasks[periodic_task.key] = periodic_task
        logger.info(
            "Registering task %s with periodic id %r to run periodically with cron %s",
            name,
            periodic_id,
            periodic_task.cron,
            extra={"action": "registering_periodic_task", "task": name, "cron": periodic_task.cron},
        )

    def refuse_taken(self, task_name: str, periodic_id: str) -> None:
        """Raise TaskAlreadyRegistered if the task of this name has a schedule under this id."""
        if (task_name, periodic_id) in self.periodic_tasks:
            raise exceptions.TaskAlreadyRegistered(
                f"A periodic task was already registered with the periodic_id {periodic_id!r} for the task "
                f"{task_name}: give each of its schedules a periodic_id of its own"
            )


def refuse_unknown_defaults(periodic_defaults: Mapping[str, Any]) -> None:
    """Raise TypeError for a key of an app's `periodic_defaults` that means nothing, or a value that is no number."""
    known = ["max_delay"]
    for name in periodic_defaults:
        if name not in known:
            raise TypeError(
                f"periodic_defaults has an unknown key {name!r}{did_you_mean(name, known)}. Known: {', '.join(known)}"
            )
        if not isinstance(periodic_defaults[name], int | float):
            raise TypeError(f"{name} is a number of seconds, not {periodic_defaults[name]!r}")


class PeriodicSchedule:
    """Which ticks are due, as one worker sees it. Reads no clock: the caller says what time it is."""

    def __init__(self, registry: PeriodicRegistry, max_delay: float = MAX_DELAY) -> None:
        """Follow the tasks of `registry`; at the start, ticks more than `max_delay` seconds old are left out."""
        self.registry = registry
        self.max_delay = max_delay
        self.last_defers: dict[tuple[str, str], int] = {}

    def due(self, at: float) -> list[tuple[PeriodicTask, int]]:
        """Return the ticks to defer at a time in seconds since the epoch, for each task in order.

        A task that was deferred before catches up with every tick since; another one with the latest tick only.
        """
        return [
            (periodic_task, tick)
            for periodic_task in self.registry.periodic_tasks.values()
            for tick in self._ticks(periodic_task, at)
        ]

    def _ticks(self, periodic_task: PeriodicTask, at: float) -> list[int]:
        ticks = periodic_task.previous_ticks(at)
        last = self.last_defers.get(periodic_task.key)
        if last is not None:
            missed = itertools.takewhile(lambda tick: tick > last, ticks)
            return list(itertools.islice(missed, MOST_CAUGHT_UP))[::-1]
        latest = next(ticks, None)
        if latest is None:
            return []
        if at - latest > self.max_delay:
            logger.debug(
                "Tick %s of periodic task %s is too old to be deferred",
                latest,
                periodic_task.task.name,
                extra={"action": "ignore_periodic_task", "task": periodic_task.task.name},
            )
            return []
        return [latest]

    def record(self, periodic_task: PeriodicTask, timestamp: int) -> None:
        """Remember that a tick was dealt with."""
        self.last_defers[periodic_task.key] = timestamp

    def seconds_until_next(self, at: float) -> float | None:
        """Return the time from `at` to the next tick of any task, or None if there is none."""
        ticks = (periodic_task.next_tick(at) for periodic_task in self.registry.periodic_tasks.values())
        return min((tick - at for tick in ticks if tick is not None), default=None)

    def make_job(self, periodic_task: PeriodicTask, timestamp: int) -> Job:
        """Return the job of a tick. Raises TypeError if the task cannot take its arguments."""
        settings = {
            name: value
            for name, value in periodic_task.configure_kwargs.items()
            if name not in ("schedule_at", "schedule_in")  # the tick says when
        }
        return periodic_task.task.configure(**settings).make_new_job(timestamp=timestamp)
