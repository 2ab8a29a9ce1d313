"""For the tests of apps: a connector without a database, and assertions on what was deferred."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, Protocol, TypeAlias, TypeVar

import attrs
from typing_extensions import TypedDict, Unpack, override

from procrastinate import connector, exceptions, jobs, manager, periodic, tasks, types
from procrastinate.store import memory, postgres
from procrastinate.store.operation import Operation
from procrastinate.store.schedule import DeferPeriodicJob

__all__ = [
    "ExpectedOptions",
    "InMemoryConnector",
    "assert_deferred",
    "assert_deferred_async",
    "defer_periodic_jobs",
    "deferred_jobs",
    "deferred_jobs_async",
]

T = TypeVar("T")


@attrs.frozen(eq=False)
class _Listener:
    """One call to `listen_notify` that goes on."""

    on_notification: connector.Notify
    channels: frozenset[str]
    loop: asyncio.AbstractEventLoop = attrs.field(factory=asyncio.get_running_loop)
    waiting: asyncio.Queue[tuple[str, str]] = attrs.field(factory=asyncio.Queue[tuple[str, str]])

    def receive(self, channel: str, payload: str) -> None:
        """Take one notification, in any thread."""
        if channel in self.channels:
            # A loop that was closed meanwhile has nobody left to tell.
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self.waiting.put_nowait, (channel, payload))


class InMemoryConnector(connector.BaseAsyncConnector):
    """Keeps jobs in dictionaries: the whole of procrastinate without a database, sync and async, for tests.

    It can be used without being opened, and answers every operation as PostgreSQL would. It has no SQL for the user's
    own queries, and no transactions: `connection` is ignored.

    Attributes:
        queries: the operations that were asked for, in their order: pairs of a name and a dictionary of parameters.
        states: what was opened and closed: `open`, `closed`, `open_async`, `closed_async`.
    """

    def __init__(
        self,
        *,
        json_dumps: Callable[[Any], Any] | None = None,
        json_loads: Callable[[Any], Any] | None = None,
        now: Callable[[], datetime.datetime] = types.utcnow,
    ) -> None:
        """Start empty.

        Args:
            json_dumps: writes arguments as JSON, in place of `json.dumps`.
            json_loads: reads arguments from JSON, in place of `json.loads`.
            now: tells the time.
        """
        self.json_dumps = json_dumps
        self.json_loads = json_loads
        self._store = memory.MemoryStore(postgres.JsonText(json_dumps, json_loads), now=now)
        self._listeners: list[_Listener] = []
        self.reset()

    def reset(self) -> None:
        """Forget everything, and start again with id 1. Who listens goes on listening."""
        self._store.reset()
        self.queries: list[tuple[str, dict[str, Any]]] = []
        self.states: list[str] = []

    def advance(self, **time: Unpack[types.TimeDeltaParams]) -> None:
        """Let time pass for the jobs, without waiting: `advance(hours=1)` takes what `datetime.timedelta` takes.

        The clock stays, and all times of the jobs move into the past instead: afterwards they are as if they had been
        deferred, scheduled, started and ended so much earlier. So what was scheduled for the next hour is due, what
        ended is older, and what is deferred or retried next is scheduled from now, as it should be. Ticks of periodic
        tasks (see `defer_periodic_jobs`) and the signs of life of workers do not move.

        Raises TypeError for a unit that `timedelta` does not know.
        """
        self._store.age(datetime.timedelta(**time))

    @property
    def jobs(self) -> dict[int, dict[str, Any]]:
        """The rows of the jobs, by id, with the columns of `procrastinate_jobs`."""
        return self._store.jobs

    @property
    def events(self) -> dict[int, list[dict[str, Any]]]:
        """What happened to each job, by id: dictionaries with `type` and `at`."""
        return {job_id: memory.events_of(row) for job_id, row in list(self._store.jobs.items())}

    @property
    def table_exists(self) -> bool:
        """What `check_connection` answers; to be set."""
        return self._store.table_exists

    @table_exists.setter
    def table_exists(self, value: bool) -> None:
        self._store.table_exists = value

    @property
    def workers(self) -> dict[int, datetime.datetime]:
        """When each worker last gave a sign of life, by id."""
        return self._store.workers

    @property
    def periodic_defers(self) -> dict[tuple[str, str], int]:
        """The latest tick that was deferred, by task and periodic id."""
        return self._store.periodic_defers

    @property
    def job_counter(self) -> Iterator[int]:
        """The ids of the jobs that come next."""
        return itertools.count(self._store.next_job_id)

    @property
    def current_locks(self) -> set[str]:
        """The locks that running jobs hold."""
        return {row["lock"] for row in self._rows("doing") if row["lock"] is not None}

    @property
    def finished_jobs(self) -> list[dict[str, Any]]:
        """The rows of the jobs that were run to their end."""
        return self._rows("succeeded", "failed", "aborted")

    def _rows(self, *statuses: str) -> list[dict[str, Any]]:
        return [row for row in list(self._store.jobs.values()) if row["status"] in statuses]

    @property
    def notify_channels(self) -> list[str]:
        """The channels on which somebody listens."""
        return sorted({channel for listener in self._listeners for channel in listener.channels})

    @property
    def on_notification(self) -> connector.Notify | None:
        """What the latest listener wants to have called, None if nobody listens."""
        return self._listeners[-1].on_notification if self._listeners else None

    @override
    def get_sync_connector(self) -> connector.BaseConnector:
        return self

    @override
    def side_connector(self) -> connector.BaseConnector:
        return _SideConnector(self)

    @override
    def open(self, pool: Any = None) -> None:
        self.states.append("open")

    @override
    def close(self) -> None:
        self.states.append("closed")

    @override
    async def open_async(self, pool: Any = None) -> None:
        self.states.append("open_async")

    @override
    async def close_async(self) -> None:
        self.states.append("closed_async")

    @override
    def run(self, operation: Operation[T], connection: Any = None) -> T:
        self.queries.append((operation.name, attrs.asdict(operation, recurse=False)))
        return self._store.answer(operation)

    @override
    async def run_async(self, operation: Operation[T], connection: Any = None) -> T:
        # As every real connector does: let others run, so that a loop of operations cannot starve them.
        await asyncio.sleep(0)
        return self.run(operation)

    @override
    async def listen_notify(
        self,
        on_notification: connector.Notify,
        channels: Iterable[str],
        on_listening: Callable[[], None] | None = None,
    ) -> None:
        listener = _Listener(on_notification, frozenset(channels))
        self._listeners.append(listener)
        self._store.subscribers.append(listener.receive)
        try:
            if on_listening is not None:
                on_listening()
            while True:
                channel, payload = await listener.waiting.get()
                await on_notification(channel=channel, payload=payload)
        finally:
            self._store.subscribers.remove(listener.receive)
            self._listeners.remove(listener)

    @override
    def execute_query(self, query: str, **arguments: Any) -> NoReturn:
        raise exceptions.ConnectorException(
            f"{type(self).__name__} knows no SQL: test this query with a connector to a real database."
        )

    @override
    def execute_query_one(self, query: str, **arguments: Any) -> NoReturn:
        self.execute_query(query)

    @override
    def execute_query_all(self, query: str, **arguments: Any) -> NoReturn:
        self.execute_query(query)

    @override
    async def execute_query_async(self, query: str, **arguments: Any) -> NoReturn:
        self.execute_query(query)

    @override
    async def execute_query_one_async(self, query: str, **arguments: Any) -> NoReturn:
        self.execute_query(query)

    @override
    async def execute_query_all_async(self, query: str, **arguments: Any) -> NoReturn:
        self.execute_query(query)


@attrs.frozen
class _SideConnector(connector.BaseConnector):
    """The same jobs through another connection, which can be closed without closing the first."""

    main: InMemoryConnector

    @override
    def get_sync_connector(self) -> connector.BaseConnector:
        return self

    @override
    def open(self, pool: Any = None) -> None:
        pass

    @override
    def close(self) -> None:
        pass

    @override
    def run(self, operation: Operation[T], connection: Any = None) -> T:
        return self.main.run(operation)


class _App(Protocol):
    """What is needed of an app."""

    tasks: dict[str, tasks.Task[..., Any]]
    periodic_registry: periodic.PeriodicRegistry

    @property
    def job_manager(self) -> manager.JobManager: ...


# Where jobs are looked for.
Place: TypeAlias = _App | manager.JobManager | connector.BaseConnector
AnyTask: TypeAlias = tasks.Task[..., Any] | str

# `schedule_in` was counted from some moment of the test: at most this long before the assertion.
SLOWEST = datetime.timedelta(seconds=10)
# A message that is to be read names no more jobs than this.
MOST_SHOWN = 10


class ExpectedOptions(TypedDict, total=False):
    """What a job may be expected to have been configured with: what is left out may be anything, None means none."""

    queue: str
    priority: int
    lock: str | None
    queueing_lock: str | None
    schedule_at: datetime.datetime | None
    schedule_in: types.TimeDeltaParams


def deferred_jobs(
    where: Place,
    task: AnyTask | None = None,
    arguments: Mapping[str, Any] | None = None,
    /,
    *,
    options: ExpectedOptions | None = None,
    **more_arguments: Any,
) -> list[jobs.Job]:
    """Return the jobs that were deferred, by id, whatever became of them since; jobs that were deleted are missing.

    Args:
        where: the app, its connector or its job manager; in memory or on a database.
        task: the task or its name, None for any.
        arguments: arguments that the jobs have among theirs.
        options: how they were configured, as in `task.configure(...)`: `{"queue": "emails"}`.
        **more_arguments: more of `arguments`.

    Raises TypeError for an unknown option, AppNotOpen if there is a database and the app is not open.
    """
    wanted = _Wanted.from_call(where, task, {**(arguments or {}), **more_arguments}, options)
    return [job for job in _manager(where).list_jobs() if not wanted.differences(job)]


async def deferred_jobs_async(
    where: Place,
    task: AnyTask | None = None,
    arguments: Mapping[str, Any] | None = None,
    /,
    *,
    options: ExpectedOptions | None = None,
    **more_arguments: Any,
) -> list[jobs.Job]:
    """Do as `deferred_jobs`, asynchronously: for apps that are open on a database."""
    wanted = _Wanted.from_call(where, task, {**(arguments or {}), **more_arguments}, options)
    return [job for job in await _manager(where).list_jobs_async() if not wanted.differences(job)]


def assert_deferred(
    where: Place,
    task: AnyTask | None,
    arguments: Mapping[str, Any] | None = None,
    /,
    *,
    count: int | None = 1,
    options: ExpectedOptions | None = None,
    **more_arguments: Any,
) -> list[jobs.Job]:
    """Assert that the task was deferred so often, with these arguments and options; return these jobs, by id.

    ::

        assert_deferred(app, send_mail, to="ann@example.com")
        assert_deferred(app, send_mail, to="ann@example.com", options={"queue": "emails", "lock": "ann"})
        assert_deferred(app, send_mail, count=0)

    Args:
        where: the app, its connector or its job manager; in memory or on a database.
        task: the task or its name, None for any.
        arguments: arguments that the jobs have among theirs; to be used for those that are called `count` or `options`.
        count: how many such jobs there are; None for one or more.
        options: how they were configured, as in `task.configure(...)`. A `schedule_in` fits if the job could have been
            deferred with it in the last ten seconds.
        **more_arguments: more of `arguments`.

    Raises AssertionError, with the jobs that were deferred instead, the closest first; otherwise as `deferred_jobs`.
    """
    __tracebackhide__ = True
    wanted = _Wanted.from_call(where, task, {**(arguments or {}), **more_arguments}, options)
    return wanted.found_in(_manager(where).list_jobs(), count)


async def assert_deferred_async(
    where: Place,
    task: AnyTask | None,
    arguments: Mapping[str, Any] | None = None,
    /,
    *,
    count: int | None = 1,
    options: ExpectedOptions | None = None,
    **more_arguments: Any,
) -> list[jobs.Job]:
    """Do as `assert_deferred`, asynchronously: for apps that are open on a database."""
    __tracebackhide__ = True
    wanted = _Wanted.from_call(where, task, {**(arguments or {}), **more_arguments}, options)
    return wanted.found_in(await _manager(where).list_jobs_async(), count)


def defer_periodic_jobs(app: _App, at: datetime.datetime | None = None) -> list[int]:
    """Defer the jobs of the periodic tasks whose latest tick before `at` is not deferred yet; return their ids.

    It is what a worker does that starts at this time, so ticks more than ten minutes old are left out.

    Args:
        app: the app, usually on an InMemoryConnector.
        at: an aware time, None for now. Times go forward: after a tick, earlier ones are refused.

    Raises ValueError for a naive time, AlreadyEnqueued if the queueing lock of a job is taken.
    """
    if at is not None and at.utcoffset() is None:
        raise ValueError(f"Timezone aware datetime is required (at={at!r})")
    schedule = periodic.PeriodicSchedule(app.periodic_registry)
    sync_connector = app.job_manager.connector.get_sync_connector()
    ids: list[int] = []
    for periodic_task, timestamp in schedule.due((at or types.utcnow()).timestamp()):
        job = schedule.make_job(periodic_task, timestamp)
        operation = DeferPeriodicJob(job=job, periodic_id=periodic_task.periodic_id, defer_timestamp=timestamp)
        job_id = sync_connector.run(operation)
        if job_id is not None:
            ids.append(job_id)
    return ids


def _manager(where: Place) -> manager.JobManager:
    if isinstance(where, manager.JobManager):
        return where
    if isinstance(where, connector.BaseConnector):
        return manager.JobManager(where)
    return where.job_manager


@attrs.frozen(kw_only=True)
class _Wanted:
    """What the jobs must be like."""

    task_name: str | None
    arguments: dict[str, Any]
    options: Mapping[str, Any]
    now: datetime.datetime = attrs.field(factory=types.utcnow)

    @classmethod
    def from_call(
        cls, where: Place, task: AnyTask | None, arguments: dict[str, Any], options: ExpectedOptions | None
    ) -> _Wanted:
        options = options or {}
        for name in options:
            if name not in ExpectedOptions.__annotations__:
                hint = tasks.did_you_mean(name, ExpectedOptions.__annotations__)
                raise TypeError(f"No job can be expected to have the option {name!r}{hint}")
        if isinstance(task, str) and not isinstance(where, manager.JobManager | connector.BaseConnector):
            task = where.tasks.get(task, task)  # by an alias
        used = _manager(where).connector
        json = postgres.JsonText(used.json_dumps, used.json_loads)
        return cls(
            task_name=task if isinstance(task, str) or task is None else task.name,
            arguments={name: _as_stored(value, json) for name, value in arguments.items()},
            options=options,
        )

    def differences(self, job: jobs.Job) -> list[str]:
        """Say what is not as wanted, nothing if all is."""
        different: list[str] = []
        if self.task_name not in {None, job.task_name}:
            different.append("another task")
        for name, value in self.arguments.items():
            if name not in job.task_kwargs:
                different.append(f"no {name}")
            elif job.task_kwargs[name] != value:
                different.append(f"{name}={job.task_kwargs[name]!r} instead of {value!r}")
        return different + [text for name in self.options if (text := self._difference_in_option(job, name))]

    def _difference_in_option(self, job: jobs.Job, name: str) -> str | None:
        wanted = self.options[name]
        if name == "schedule_in":
            latest = self.now + datetime.timedelta(**wanted)
            is_fit = job.scheduled_at is not None and latest - SLOWEST <= job.scheduled_at <= latest
            return None if is_fit else f"scheduled_at={_shown(job.scheduled_at)} instead of in {wanted}"
        attribute = {"schedule_at": "scheduled_at"}.get(name, name)
        found = getattr(job, attribute)
        return None if found == wanted else f"{attribute}={_shown(found)} instead of {_shown(wanted)}"

    def found_in(self, deferred: Sequence[jobs.Job], count: int | None) -> list[jobs.Job]:
        """Return those of the jobs that are as wanted. Raises AssertionError if they are not `count`."""
        __tracebackhide__ = True
        found = [job for job in deferred if not self.differences(job)]
        if found if count is None else len(found) == count:
            return found
        expected = "at least 1 deferred job" if count is None else f"{count} deferred job{'s' * (count != 1)}"
        lines = [f"Expected {expected} {self}, found {len(found) or 'none'}."]
        if found:
            lines += [f"  {job.call_string}" for job in found[:MOST_SHOWN]]
        elif deferred:
            lines.append("Deferred instead, the closest first:")
            closest = sorted(deferred, key=self._distance)[:MOST_SHOWN]
            lines += [f"  {job.call_string}: {', '.join(self.differences(job))}" for job in closest]
        else:
            lines.append("No job at all was deferred.")
        hidden = len(found or deferred) - MOST_SHOWN
        if hidden > 0:
            lines.append(f"  … and {hidden} more")
        raise AssertionError("\n".join(lines))

    def _distance(self, job: jobs.Job) -> tuple[bool, int, int]:
        return self.task_name not in {None, job.task_name}, len(self.differences(job)), job.id or 0

    def __str__(self) -> str:
        """Describe the jobs: `of task(a=1) with queue='q'`."""
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        options = ", ".join(f"{name}={_shown(value)}" for name, value in self.options.items())
        return f"of {self.task_name or 'any task'}({arguments})" + (f" with {options}" if options else "")


def _as_stored(value: Any, json: postgres.JsonText) -> Any:
    """Return a value as it comes back from the database: a tuple is a list there."""
    try:
        return json.loads(json.dumps(value))
    except TypeError:
        return value  # an object that compares as it likes, such as pytest.approx


def _shown(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime.datetime) else repr(value)
