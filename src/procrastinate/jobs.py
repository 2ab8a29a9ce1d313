"""The job: a value that says which task to run, with which arguments, when, and how it went so far."""

from __future__ import annotations

import datetime
import enum
import itertools
import logging
import operator
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, Literal, Protocol, TypeAlias

import attrs
from typing_extensions import ParamSpec, TypedDict

from procrastinate.types import lean_frozen

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


@attrs.frozen(kw_only=True, repr=False, weakref_slot=False)
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
        log_args: False keeps the arguments out of `call_string`, `log_context` and `repr`. No column: it follows from
            the task and the app.
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
    log_args: bool = attrs.field(default=True, eq=False)

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
        """Return the columns as a dictionary, in their order; nested values are not copied."""
        return {name: getattr(self, name) for name in _COLUMNS}

    def __repr__(self) -> str:
        columns = (f"{name}={getattr(self, name)!r}" for name in self._columns_to_log)
        return f"Job({', '.join(columns)})"

    def evolve(self, **changes: Any) -> Job:
        """Return a copy with some attributes changed. Raises TypeError for an unknown attribute."""
        # Not by attrs, which looks at the class anew each time: that takes twice as long.
        return Job(**{**dict(zip(_FIELDS, _values(self), strict=True)), **changes})

    def log_context(self) -> dict[str, Any]:
        """Return what log records carry of a job: `asdict`, the schedule as ISO text, and `call_string`.

        Without `log_args`, `task_kwargs` is left out.
        """
        # Not by attrs, which asks each value what it is: a worker logs each job twice.
        context: dict[str, Any] = {name: getattr(self, name) for name in self._columns_to_log}
        context["scheduled_at"] = self.scheduled_at.isoformat() if self.scheduled_at else None
        context["call_string"] = self.call_string
        return context

    @property
    def _columns_to_log(self) -> tuple[str, ...]:
        return _COLUMNS if self.log_args else _DISCREET_COLUMNS

    @property
    def call_string(self) -> str:
        """The job as a call, for people: `task[12](a='b')`, or `task[12](…)` without `log_args`."""
        if not self.log_args:
            return f"{self.task_name}[{self.id}](…)"
        # A row that was written by hand may hold any JSON value as its arguments; then no worker can run it, but the
        # log must be able to say so.
        is_fit = isinstance(self.task_kwargs, dict)  # pyright: ignore[reportUnnecessaryIsInstance]
        pairs = self.task_kwargs.items() if is_fit else [("*", self.task_kwargs)]
        arguments = ", ".join(f"{name}={value!r}" for name, value in pairs)
        return f"{self.task_name}[{self.id}]({arguments})"


_FIELDS = tuple(field.name for field in attrs.fields(Job))
_values = operator.attrgetter(*_FIELDS)
_COLUMNS = tuple(name for name in _FIELDS if name != "log_args")
_DISCREET_COLUMNS = tuple(name for name in _COLUMNS if name != "task_kwargs")

# A job and the token of its run.
Key: TypeAlias = tuple[int | None, int]


# A job that was taken back from so many dead workers may be what killed them.
SUSPECT = 2


@lean_frozen(kw_only=True)
class Claim:
    """A job that a worker holds, with the token that proves it.

    The token is the number of times the job was ever claimed. An outcome is accepted only under the worker and the
    token that the row still carries, so a worker that was taken for dead cannot overwrite a later run. `rescues` is how
    often the job was taken back from a dead worker.
    """

    job: Job
    token: int
    rescues: int = 0

    @property
    def is_suspect(self) -> bool:
        """Whether this job may be what killed its workers."""
        return self.rescues >= SUSPECT

    @property
    def key(self) -> Key:
        """What tells this run of the job from any other."""
        return self.job.id, self.token


# The keyword arguments of several jobs.
Arguments: TypeAlias = Sequence[Mapping[str, Any]]

# A dictionary is known at once; the check of an abstract class takes as long as all the rest of a merge.
_MAPPINGS = (dict, Mapping)

# Jobs of `defer_many` that go out at a time: bigger batches gain nothing.
BATCH = 5_000


class JobDefererManager(Protocol):
    """What a JobDeferrer needs of the job manager."""

    def defer_alike(self, job: Job, arguments: Arguments, connection: Any = None) -> list[int]: ...  # noqa: D102
    async def defer_alike_async(self, job: Job, arguments: Arguments, connection: Any = None) -> list[int]: ...  # noqa: D102


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
        return self.job.evolve(task_kwargs=self._merge(task_kwargs))

    def _merge(self, task_kwargs: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(task_kwargs, _MAPPINGS):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                "batch_defer takes a dictionary of arguments for each job, batch_defer({…}, {…}), or a list of them "
                f"with a star, batch_defer(*dictionaries), not {type(task_kwargs).__name__}"
            )
        merged = {**self.job.task_kwargs, **task_kwargs}
        for name in merged:
            if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"Arguments of a job are stored by name, and {name!r} is no name")
        self.check_arguments(merged)
        return merged

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
        arguments = [self._merge(each) for each in task_kwargs]
        self._announce(lambda: self._jobs(arguments), len(arguments))
        ids = self.job_manager.defer_alike(self.job, arguments, connection=self.connection)
        self._report(lambda: self._jobs(arguments, ids), len(ids))
        return ids

    async def batch_defer_async(self, *task_kwargs: Mapping[str, Any]) -> list[int]:
        """Do as `batch_defer`, asynchronously."""
        arguments = [self._merge(each) for each in task_kwargs]
        self._announce(lambda: self._jobs(arguments), len(arguments))
        ids = await self.job_manager.defer_alike_async(self.job, arguments, connection=self.connection)
        self._report(lambda: self._jobs(arguments, ids), len(ids))
        return ids

    def defer_many(self, task_kwargs: Iterable[Mapping[str, Any]], *, batch_size: int = BATCH) -> int:
        """Insert one job for each dictionary of arguments that an iterable gives, and return how many.

        For more of them than fit into memory. Each batch is a transaction of its own, so an error leaves the batches
        before it; with a `connection` all of them are part of the caller's transaction.

        Args:
            task_kwargs: the arguments of each job; a generator is read batch by batch.
            batch_size: how many jobs go out at a time.

        Raises:
            ValueError: `batch_size` is less than 1.
            Exception: what `defer` and the iterable raise.
        """
        _check_batch_size(batch_size)
        return sum(len(self.batch_defer(*batch)) for batch in _batches(task_kwargs, batch_size))

    async def defer_many_async(
        self, task_kwargs: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]], *, batch_size: int = BATCH
    ) -> int:
        """Do as `defer_many`, asynchronously; takes what `async for` takes, too."""
        _check_batch_size(batch_size)
        count = 0
        async for batch in _batches_async(task_kwargs, batch_size):
            count += len(await self.batch_defer_async(*batch))
        return count

    def _jobs(self, arguments: Arguments, ids: Sequence[int] | None = None) -> list[Job]:
        """Return the jobs as they will be inserted, or as they were."""
        jobs = [self.job.evolve(task_kwargs=each) for each in arguments]
        if ids is None:
            return jobs
        todo = Status.TODO.value
        return [job.evolve(id=job_id, status=todo) for job, job_id in zip(jobs, ids, strict=True)]

    def _announce(self, jobs: Callable[[], list[Job]], count: int) -> None:
        _log_jobs(logging.DEBUG, "about_to_defer_jobs", "About to defer", jobs, count)

    def _report(self, jobs: Callable[[], list[Job]], count: int) -> None:
        _log_jobs(logging.INFO, "jobs_deferred", "Deferred", jobs, count)


def _check_batch_size(size: int) -> None:
    if size < 1:
        raise ValueError(f"batch_size must be at least 1, not {size!r}")


def _batches(items: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[Mapping[str, Any]]]:
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, size)):
        yield batch


async def _batches_async(
    items: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]], size: int
) -> AsyncIterator[list[Mapping[str, Any]]]:
    if not isinstance(items, AsyncIterable):
        for batch in _batches(items, size):
            yield batch
        return
    batch: list[Mapping[str, Any]] = []
    async for each in items:
        batch.append(each)
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch


def _log_jobs(level: int, action: str, verb: str, jobs: Callable[[], list[Job]], count: int) -> None:
    # Asked first: the contexts of a batch of thousands cost more than the insert.
    if logger.isEnabledFor(level):
        plural = "" if count == 1 else "s"
        extra = {"action": action, "jobs": [job.log_context() for job in jobs()]}
        logger.log(level, "%s %s job%s", verb, count, plural, extra=extra)
