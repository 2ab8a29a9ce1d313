"""Tasks: functions that can be deferred."""

from __future__ import annotations

import copy
import datetime
import difflib
import functools
import inspect
import pathlib
import sys
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from types import FunctionType
from typing import Any, Generic, Protocol, Self, cast, overload

from typing_extensions import ParamSpec, TypedDict, TypeVar, Unpack

from procrastinate import exceptions, jobs, retry, types
from procrastinate.middleware import TaskMiddleware, check_middleware, is_async_callable

P = ParamSpec("P", default=...)
R = TypeVar("R", default=Any)
# What the function itself takes: the arguments of a job, after the context if it wants one.
Called = ParamSpec("Called", default=P)


class TaskOptions(TypedDict, total=False):
    """What can be set for a task, apart from `pass_context`; explained at `Blueprint.task`."""

    name: str | None
    aliases: Sequence[str] | None
    retry: retry.RetryValue
    queue: str
    priority: int
    lock: str | None
    queueing_lock: str | None
    task_middleware: Sequence[TaskMiddleware] | None
    check_arguments: bool
    log_args: bool


class JobOptions(TypedDict, total=False):
    """What can be set for one job, apart from its arguments. None keeps the task's own setting.

    Attributes:
        lock: at most one job with this text runs at a time.
        queueing_lock: at most one job with this text waits at a time.
        schedule_at: not to start before this aware time.
        schedule_in: the same, as a time from now: `{"minutes": 5}`.
        queue: where it waits.
        priority: bigger runs earlier.
        connection: a connection of the caller's, whose transaction the insert joins.
    """

    lock: str | None
    queueing_lock: str | None
    schedule_at: datetime.datetime | None
    schedule_in: types.TimeDeltaParams | None
    queue: str | None
    priority: int | None
    connection: Any


class ConfigureTaskOptions(JobOptions, total=False):
    """What can be set for one job: its options, and arguments that `defer` completes or replaces."""

    task_kwargs: Mapping[str, Any] | None


class TaskHome(Protocol):
    """What a task needs of the blueprint or app that it belongs to."""

    @property
    def job_manager(self) -> jobs.JobDefererManager:
        """What inserts the jobs."""
        ...

    @property
    def log_args(self) -> bool:
        """Whether arguments may appear in logs, where the task says nothing else."""
        ...

    def will_configure_task(self) -> None:
        """Refuse, if the task cannot be deferred from here."""


def configure_task(
    *,
    name: str,
    job_manager: jobs.JobDefererManager,
    **options: Unpack[ConfigureTaskOptions],
) -> jobs.JobDeferrer:
    """Return a deferrer for jobs of the task called `name`, known here or not.

    Args:
        name: the task's name.
        job_manager: what will insert the jobs.
        **options: the job's settings; `queue` is "default" and `priority` 0 if they are not given.

    Raises:
        TypeError: an option is unknown or of the wrong type.
        ValueError: both `schedule_at` and `schedule_in` are given, a time is naive, a name or number does not fit.
    """
    refuse_unknown_options(options)
    schedule_at, schedule_in = options.get("schedule_at"), options.get("schedule_in")
    if schedule_at is not None and schedule_in is not None:
        raise ValueError("Cannot set both schedule_at and schedule_in")
    if schedule_in is not None:
        schedule_at = types.time_from_now(schedule_in)
    job = jobs.Job(
        queue=jobs.check_name(options.get("queue") or jobs.DEFAULT_QUEUE, "queue"),
        priority=_priority(options.get("priority")),
        lock=jobs.lock_text(options.get("lock")),
        queueing_lock=jobs.lock_text(options.get("queueing_lock")),
        task_name=jobs.check_name(name, "task"),
        task_kwargs=dict(options.get("task_kwargs") or {}),
        scheduled_at=schedule_at,
    )
    return jobs.JobDeferrer(job_manager=job_manager, job=job, connection=options.get("connection"))


def _priority(priority: int | None) -> int:
    return jobs.DEFAULT_PRIORITY if priority is None else jobs.check_priority(priority)


def refuse_unknown_options(
    options: Mapping[str, Any],
    known: Iterable[str] = ConfigureTaskOptions.__annotations__,
    function: str = "configure",
) -> None:
    """Raise TypeError for an option that `function` does not know, and name the one that was meant."""
    for name in options:
        if name not in known:
            raise TypeError(f"{function}() got an unknown option {name!r}{did_you_mean(name, known)}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message that names what was probably meant; empty if nothing is close."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f": did you mean {close[0]!r}?" if close else ""


class Task(Generic[P, R, Called]):
    """A function that can be called as before, and deferred to be called by a worker.

    Attributes:
        func: the function.
        blueprint: what it belongs to: an app, or a blueprint that waits for one.
        name: what its jobs call it.
        aliases: further names that jobs may call it by.
        retry_strategy: decides what becomes of a run that failed; None for no retry.
        pass_context: whether the function takes a JobContext first.
        queue, priority, lock, queueing_lock: settings of its jobs.
        task_middleware: functions around it, outermost first.
        is_async: whether the function is a coroutine function.
        checks_arguments: whether deferring checks the arguments against the signature.
        log_args: whether its arguments and results may appear in logs.
    """

    def __init__(  # noqa: PLR0913  the options of the decorator, which users know
        self,
        func: Callable[Called, R],
        *,
        blueprint: TaskHome,
        queue: str,
        name: str | None = None,
        aliases: Sequence[str] | None = None,
        retry: retry.RetryValue = False,
        pass_context: bool = False,
        priority: int = jobs.DEFAULT_PRIORITY,
        lock: str | None = None,
        queueing_lock: str | None = None,
        task_middleware: Sequence[TaskMiddleware] | None = None,
        check_arguments: bool = True,
        log_args: bool = True,
    ) -> None:
        """Make a task of `func`; the options are those of `Blueprint.task`.

        Raises:
            FunctionPathError: no name is given, and none can be derived.
            ValueError: a name or the priority does not fit the database.
            TypeError: an option has the wrong type, or a middleware is no callable.
            MiddlewareKindMismatch: a middleware is async and the task is not, or the reverse.
        """
        functools.update_wrapper(self, func, updated=())
        self.func = func
        self.blueprint = blueprint
        self.name = jobs.check_name(name or self.full_path, "task")
        if isinstance(aliases, str):
            raise TypeError(f"aliases takes several names, not one text: write aliases=[{aliases!r}]")
        self.aliases = [jobs.check_name(alias, "task") for alias in aliases or []]
        self.retry_strategy = _strategy(retry)
        self.pass_context = pass_context
        self.queue = jobs.check_name(queue or jobs.DEFAULT_QUEUE, "queue")
        self.priority = _priority(priority)
        self.lock = lock
        self.queueing_lock = queueing_lock
        self.is_async = is_async_callable(func)
        self.checks_arguments = check_arguments
        self.log_args = log_args
        self.task_middleware = list(task_middleware or [])
        # The settings of jobs that were deferred latest without any of their own, and their deferrer.
        self._latest: tuple[tuple[Any, ...], jobs.JobDeferrer[...]] | None = None
        for each in self.task_middleware:
            check_middleware(each, owner=f"task {self.name}", must_be_async=self.is_async, what="Task middleware")

    @property
    def full_path(self) -> str:
        """The name that follows from where the function stands: `module.function`. Raises FunctionPathError."""
        return get_full_path(self.func)

    @property
    def retry(self) -> retry.BaseRetryStrategy | None:
        """The retry strategy, under the name of the option."""
        return self.retry_strategy

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def __call__(self, *args: Called.args, **kwargs: Called.kwargs) -> R:
        """Call the function, here and now."""
        return self.func(*args, **kwargs)

    def __reduce__(self) -> str:
        # As functions are: by the name under which the module has it. Its app and connections stay where they are.
        return getattr(self, "__qualname__", self.name)

    def __copy__(self) -> Self:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.__dict__.pop("_check_names", None)  # it is bound to this one
        twin._latest = None
        return twin

    def defer(self, *args: P.args, **task_kwargs: P.kwargs) -> int:
        """Have a worker call the function with these keyword arguments; return the job's id.

        Raises:
            TypeError: arguments are positional, do not fit the function, or are no JSON values.
            AlreadyEnqueued: a job with the task's queueing lock waits.
            UnboundTaskError: the task's blueprint belongs to no app.
            AppNotOpen: the app is not open.
            ConnectorException: the database refuses.
        """
        return self._deferrer().defer(*args, **task_kwargs)

    async def defer_async(self, *args: P.args, **task_kwargs: P.kwargs) -> int:
        """Do as `defer`, asynchronously."""
        return await self._deferrer().defer_async(*args, **task_kwargs)

    def batch_defer(self, *task_kwargs: Mapping[str, Any]) -> list[int]:
        """Defer one job for each dictionary of arguments, all or none; return their ids in the same order.

        Raises what `defer` raises.
        """
        return self._deferrer().batch_defer(*task_kwargs)

    async def batch_defer_async(self, *task_kwargs: Mapping[str, Any]) -> list[int]:
        """Do as `batch_defer`, asynchronously."""
        return await self._deferrer().batch_defer_async(*task_kwargs)

    def defer_many(self, task_kwargs: Iterable[Mapping[str, Any]], *, batch_size: int = jobs.BATCH) -> int:
        """Defer one job for each dictionary of arguments that an iterable gives, batch by batch; return how many.

        See `JobDeferrer.defer_many`.
        """
        return self._deferrer().defer_many(task_kwargs, batch_size=batch_size)

    async def defer_many_async(
        self,
        task_kwargs: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]],
        *,
        batch_size: int = jobs.BATCH,
    ) -> int:
        """Do as `defer_many`, asynchronously; takes what `async for` takes, too."""
        return await self._deferrer().defer_many_async(task_kwargs, batch_size=batch_size)

    @overload
    def configure(self, *, task_kwargs: None = None, **options: Unpack[JobOptions]) -> jobs.JobDeferrer[P]: ...

    # With some arguments given here, type checkers cannot tell which ones `defer` still needs.
    @overload
    def configure(self, **options: Unpack[ConfigureTaskOptions]) -> jobs.JobDeferrer[...]: ...

    def configure(self, **options: Unpack[ConfigureTaskOptions]) -> jobs.JobDeferrer[...]:
        """Return a deferrer with some settings changed for its jobs; those that are None stay as they are.

        Args:
            **options: `lock`, `queueing_lock`, `queue`, `priority`, `connection`; `schedule_at`, an aware datetime, or
                `schedule_in`, such as `{"minutes": 5}`; `task_kwargs`, arguments that `defer` completes or replaces.

        Raises:
            TypeError: an option is unknown or of the wrong type.
            ValueError: both `schedule_at` and `schedule_in` are given, a time is naive, a name or number does not fit.
            UnboundTaskError: the task's blueprint belongs to no app.
        """
        self.blueprint.will_configure_task()
        refuse_unknown_options(options)
        settings: ConfigureTaskOptions = {
            "queue": self.queue,
            "priority": self.priority,
            "lock": self.lock,
            "queueing_lock": self.queueing_lock,
        }
        if options:
            given = {name: value for name, value in options.items() if value is not None}
            settings = cast("ConfigureTaskOptions", {**settings, **given})
        deferrer = configure_task(name=self.name, job_manager=self.blueprint.job_manager, **settings)
        if self.checks_arguments:
            deferrer.check_arguments = self.check_arguments
        if not (self.log_args and self.blueprint.log_args):
            deferrer.job = deferrer.job.evolve(log_args=False)
        return deferrer

    def _deferrer(self) -> jobs.JobDeferrer[...]:
        """Return what `configure` without options does, and the same again while the settings stay as they are.

        To make it takes as long as a tenth of the statement.
        """
        self.blueprint.will_configure_task()
        settings = (
            self.name,
            self.queue,
            self.priority,
            self.lock,
            self.queueing_lock,
            self.checks_arguments,
            self.log_args and self.blueprint.log_args,
            self.blueprint.job_manager,
        )
        if self._latest is None or self._latest[0] != settings:
            self._latest = settings, self.configure()
        return self._latest[1]

    def check_arguments(self, task_kwargs: Mapping[str, Any]) -> None:
        """Raise TypeError if the function cannot be called with these keyword arguments."""
        self._check_names(frozenset(task_kwargs))

    @functools.cached_property
    def _check_names(self) -> Callable[[frozenset[str]], None]:
        # A task is deferred with the same few sets of names again and again, and to bind one takes 8 µs.
        return functools.lru_cache(maxsize=32)(self._refuse_misfit)

    def _refuse_misfit(self, names: frozenset[str]) -> None:
        signature = self._signature
        if signature is None:
            return
        try:
            # In place of the context, if the function takes one.
            signature.bind(*([None] if self.pass_context else []), **dict.fromkeys(names))
        except TypeError as error:
            raise TypeError(
                f"Task {self.name}{signature} {_misfit(signature, names) or error}. Declare the task with "
                "check_arguments=False if it runs elsewhere with another signature."
            ) from None

    @functools.cached_property
    def _signature(self) -> inspect.Signature | None:
        if _hides_its_signature(self.func):
            return None
        try:
            return inspect.signature(self.func, follow_wrapped=False)
        except (TypeError, ValueError):  # some builtin functions have none
            return None

    def copy_for(self, blueprint: TaskHome) -> Self:
        """Return a task like this one that belongs to `blueprint`, for good."""
        twin = copy.copy(self)
        twin.blueprint = blueprint
        twin.aliases = list(self.aliases)
        return twin

    def add_namespace(self, namespace: str) -> None:
        """Put `namespace:` before the name and the aliases."""
        self.name = jobs.check_name(add_namespace(self.name, namespace), "task")
        self.aliases = [jobs.check_name(add_namespace(alias, namespace), "task") for alias in self.aliases]

    def get_retry_exception(self, exception: BaseException, job: jobs.Job) -> exceptions.JobRetry | None:
        """Return the strategy's decision for a failed job, or None for no retry."""
        return self.retry_strategy.get_retry_exception(exception, job) if self.retry_strategy else None


def _strategy(value: retry.RetryValue) -> retry.BaseRetryStrategy | None:
    # A function of its own, for inside the class the name `retry` is the property.
    return retry.get_retry_strategy(value)


def _hides_its_signature(func: Any) -> bool:
    """Tell whether this shows the signature of a function inside, to which it may well give arguments of its own."""
    while isinstance(func, functools.partial):
        func = func.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return hasattr(func, "__signature__") or (hasattr(func, "__wrapped__") and type(func) is not FunctionType)


def _misfit(signature: inspect.Signature, names: frozenset[str]) -> str | None:
    parameters = signature.parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    unknown = next((name for name in sorted(names) if name not in parameters), None)
    return None if unknown is None else f"does not take argument {unknown!r}{did_you_mean(unknown, parameters)}"


def add_namespace(name: str, namespace: str) -> str:
    """Return a task's name with `namespace:` before it; an empty namespace changes nothing."""
    return f"{namespace}:{name}" if namespace else name


def get_full_path(func: Any) -> str:
    """Return the name that a task of this function has by default: `module.function`. Raises FunctionPathError."""
    name = getattr(func, "__name__", None)
    if name is None:
        raise exceptions.FunctionPathError(
            f"No task name can be derived from {func!r}, which has no __name__: pass name= to the decorator"
        )
    module = func.__module__
    if module == "__main__":
        # A script that was started by a relative path is importable under the path's dotted form.
        file = getattr(sys.modules["__main__"], "__file__", None)
        if file is not None and not pathlib.Path(file).is_absolute():
            module = ".".join(pathlib.Path(file).with_suffix("").parts)
    return f"{module}.{name}"
