"""The job: a value that says which task to run, with which arguments, when, and how it went so far."""

from __future__ import annotations

import datetime
import enum
import logging
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Literal, Protocol

import attrs
from typing_extensions import ParamSpec, TypedDict

logger = logging.getLogger(__name__)

# The arguments of the task that a deferrer is for; any, where the task is not known.
P = ParamSpec("P", default=...)

DEFAULT_QUEUE = "default"
DEFAULT_PRIORITY = 0

# The database's columns.
LONGEST_NAME = 128
PRIORITIES = range(-(2**31), 2**31)


class Status(enum.Enum):
    """Where a job stands. The state machine is drawn in docs/concepts.md."""

    TODO = "todo"
    DOING = "doing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ABORTING = "aborting"  # legacy: no longer written, still part of the database's type
    ABORTED = "aborted"


class DeleteJobCondition(enum.Enum):
    """Which finished jobs a worker deletes."""

    NEVER = "never"
    SUCCESSFUL = "successful"
    ALWAYS = "always"


class JobInserted(TypedDict):
    """Notification: a job waits in a queue."""

    type: Literal["job_inserted"]
    job_id: int


class AbortJobRequested(TypedDict):
    """Notification: a running job should stop."""

    type: Literal["abort_job_requested"]
    job_id: int


Notification = JobInserted | AbortJobRequested


def check_name(name: str, what: str) -> str:
    """Return the name of a task or queue, or a periodic id.

    Raises TypeError if it is no text, ValueError if the database has no room for it.
    """
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]  users may give anything
        raise TypeError(f"A {what} name is a text, not {name!r}")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"This {what} name has {len(name)} characters, and at most {LONGEST_NAME} fit: {name[:40]!r}…")
    return _plain(name)


def check_priority(priority: int) -> int:
    """Return the priority. Raises TypeError if it is no integer, ValueError if the database has no room for it."""
    if not isinstance(priority, int) or isinstance(priority, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"A priority is an integer, not {priority!r}")
    if priority not in PRIORITIES:
        raise ValueError(f"A priority is an integer of 32 bits, from -2147483648 to 2147483647, not {priority!r}")
    return operator.index(priority)


def lock_text(lock: object) -> str | None:
    """Return a lock as the database stores it: the text of a number or UUID, None for none."""
    if lock is None:
        return None
    return _plain(lock) if isinstance(lock, str) else str(lock)


def _plain(text: str) -> str:
    # A member of an enumeration of texts: its own str() is its name, and drivers have opinions of their own.
    return str.__str__(text)


def check_aware(
    instance: Any,  # noqa: ARG001  attrs passes it
    attribute: attrs.Attribute[datetime.datetime | None],
    value: datetime.datetime | None,
) -> None:
    """Refuse a naive datetime in `attribute`: nobody could say which moment it means."""
    if value is None:
        return
    if not isinstance(value, datetime.datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{attribute.name} takes a datetime, not {value!r}")
    if value.utcoffset() is None:
        raise ValueError(
            f"Timezone aware datetime is required ({attribute.name}={value!r}): "
            "add a time zone, for instance value.replace(tzinfo=datetime.timezone.utc)"
        )


@attrs.frozen(kw_only=True)
class Job:
    """One job, as it stands in the database or as it will be inserted.

    Attributes:
        id: the database's id, None before the job is deferred.
        status: the status' text, None before the job is deferred.
        queue: the queue in which it waits.
        priority: bigger runs earlier; a 32-bit signed integer.
        lock: at most one job with this text runs at a time, in (priority, id) order.
        queueing_lock: at most one job with this text waits at a time.
        task_name: which task it runs.
        task_kwargs: keyword arguments for the task, JSON values.
        scheduled_at: not to start before this aware time.
        attempts: number of finished runs, plus manual retries.
        abort_requested: somebody asked the running job to stop.
        worker_id: the worker that runs or ran it.
    """

    id: int | None = None
    status: str | None = None
    queue: str
    priority: int = DEFAULT_PRIORITY
    lock: str | None
    queueing_lock: str | None
    task_name: str
    task_kwargs: dict[str, Any] = attrs.field(factory=dict[str, Any])
    scheduled_at: datetime.datetime | None = attrs.field(default=None, validator=check_aware)
    attempts: int = 0
    abort_requested: bool = False
    worker_id: int | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Job:
        """Build a job from a row of `procrastinate_jobs`, a mapping from column names to values."""
        return cls(
            id=row["id"],
            status=row["status"],
            queue=row["queue_name"],
            priority=row["priority"],
            lock=row["lock"],
            queueing_lock=row["queueing_lock"],
            task_name=row["task_name"],
            task_kwargs=row["args"],
            scheduled_at=row["scheduled_at"],
            attempts=row["attempts"],
            abort_requested=row.get("abort_requested", False),
            worker_id=row.get("worker_id"),
        )

    def asdict(self) -> dict[str, Any]:
        """Return the attributes as a dictionary, in their order; nested values are not copied."""
        return attrs.asdict(self, recurse=False)

    def evolve(self, **changes: Any) -> Job:
        """Return a copy with some attributes changed. Raises TypeError for an unknown attribute."""
        return attrs.evolve(self, **changes)

    def log_context(self) -> dict[str, Any]:
        """Return what log records carry of a job: `asdict`, the schedule as ISO text, and `call_string`."""
        context = self.asdict()
        context["scheduled_at"] = self.scheduled_at.isoformat() if self.scheduled_at else None
        context["call_string"] = self.call_string
        return context

    @property
    def call_string(self) -> str:
        """The job as a call, for people: `task[12](a='b')`."""
        # A row that was written by hand may hold any JSON value as its arguments; then no worker can run it, but the
        # log must be able to say so.
        is_fit = isinstance(self.task_kwargs, dict)  # pyright: ignore[reportUnnecessaryIsInstance]
        pairs = self.task_kwargs.items() if is_fit else [("*", self.task_kwargs)]
        arguments = ", ".join(f"{name}={value!r}" for name, value in pairs)
        return f"{self.task_name}[{self.id}]({arguments})"


@attrs.frozen(kw_only=True)
class Claim:
    """A job that a worker holds, with the token that proves it.

    The token is the number of times the job was ever claimed. An outcome is accepted only under the worker and the
    token that the row still carries, so a worker that was taken for dead cannot overwrite a later run.
    """

    job: Job
    token: int


class JobDefererManager(Protocol):
    """What a JobDeferrer needs of the job manager."""

    def defer_job(self, job: Job, connection: Any = None) -> Job: ...  # noqa: D102
    async def defer_job_async(self, job: Job, connection: Any = None) -> Job: ...  # noqa: D102
    def batch_defer_jobs(self, jobs: Iterable[Job], connection: Any = None) -> list[Job]: ...  # noqa: D102
    async def batch_defer_jobs_async(self, jobs: Iterable[Job], connection: Any = None) -> list[Job]: ...  # noqa: D102


def _accept_anything(task_kwargs: Mapping[str, Any]) -> None:
    """Stand in for the check of a task's signature where the task is not known here."""


@attrs.define
class JobDeferrer(Generic[P]):
    """A configured job, ready to be deferred as often as wanted.

    Attributes:
        job_manager: what inserts the jobs.
        job: the pattern from which each job is made.
        connection: the caller's own connection, whose transaction the insert joins, or None.
        check_arguments: called with the keyword arguments of each job before anything is sent; raises TypeError for
            arguments that the task cannot take.
    """

    job_manager: JobDefererManager
    job: Job
    connection: Any = None
    check_arguments: Callable[[Mapping[str, Any]], None] = attrs.field(default=_accept_anything, eq=False, repr=False)

    def make_new_job(self, *args: P.args, **task_kwargs: P.kwargs) -> Job:
        """Return the job that would be deferred: the configured arguments, updated by `task_kwargs`.

        Raises TypeError for arguments that are positional or that the task's signature cannot take.
        """
        self._refuse_positional(args)
        return self._make_job(task_kwargs)

    def _make_job(self, task_kwargs: Mapping[str, Any]) -> Job:
        if not isinstance(task_kwargs, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                "batch_defer takes a dictionary of arguments for each job, batch_defer({…}, {…}), or a list of them "
                f"with a star, batch_defer(*dictionaries), not {type(task_kwargs).__name__}"
            )
        merged = {**self.job.task_kwargs, **task_kwargs}
        for name in merged:
            if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"Arguments of a job are stored by name, and {name!r} is no name")
        self.check_arguments(merged)
        return attrs.evolve(self.job, task_kwargs=merged)

    def _refuse_positional(self, args: tuple[Any, ...]) -> None:
        if args:
            raise TypeError(
                f"Arguments of a job are stored by name: write defer(name=value) for task {self.job.task_name}, "
                f"not {args[0]!r} alone"
            )

    def defer(self, *args: P.args, **task_kwargs: P.kwargs) -> int:
        """Insert one job and return its id.

        Raises:
            TypeError: arguments are positional, do not fit the task, or are no JSON values.
            AlreadyEnqueued: a job with the same queueing lock waits.
            AppNotOpen: the app is not open.
            ConnectorException: the database refuses.
        """
        self._refuse_positional(args)
        return self.batch_defer(task_kwargs)[0]

    async def defer_async(self, *args: P.args, **task_kwargs: P.kwargs) -> int:
        """Do as `defer`, asynchronously."""
        self._refuse_positional(args)
        return (await self.batch_defer_async(task_kwargs))[0]

    def batch_defer(self, *task_kwargs: Mapping[str, Any]) -> list[int]:
        """Insert one job for each dictionary of arguments, all or none, and return their ids in the same order.

        Raises what `defer` raises.
        """
        jobs = self._announce(task_kwargs)
        return self._report(self.job_manager.batch_defer_jobs(jobs, connection=self.connection))

    async def batch_defer_async(self, *task_kwargs: Mapping[str, Any]) -> list[int]:
        """Do as `batch_defer`, asynchronously."""
        jobs = self._announce(task_kwargs)
        return self._report(await self.job_manager.batch_defer_jobs_async(jobs, connection=self.connection))

    def _announce(self, task_kwargs: Iterable[Mapping[str, Any]]) -> list[Job]:
        jobs = [self._make_job(kwargs) for kwargs in task_kwargs]
        _log_jobs(logging.DEBUG, "about_to_defer_jobs", "About to defer", jobs)
        return jobs

    def _report(self, jobs: list[Job]) -> list[int]:
        _log_jobs(logging.INFO, "jobs_deferred", "Deferred", jobs)
        return [job.id for job in jobs if job.id is not None]


def _log_jobs(level: int, action: str, verb: str, jobs: list[Job]) -> None:
    # Asked first: the contexts of a batch of thousands cost more than the insert.
    if logger.isEnabledFor(level):
        plural = "" if len(jobs) == 1 else "s"
        extra = {"action": action, "jobs": [job.log_context() for job in jobs]}
        logger.log(level, "%s %s job%s", verb, len(jobs), plural, extra=extra)
