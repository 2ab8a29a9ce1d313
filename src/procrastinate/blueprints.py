"""Blueprints: tasks that wait for an app."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, cast, overload

from typing_extensions import Unpack

from procrastinate import exceptions, jobs, retry
from procrastinate.job_context import JobContext
from procrastinate.middleware import TaskMiddleware
from procrastinate.periodic import PeriodicRegistry
from procrastinate.tasks import ConfigureTaskOptions, Task

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


class Blueprint:
    """Declares tasks apart from any app; `App.add_tasks_from` attaches them later."""

    def __init__(self) -> None:
        """Start without tasks."""
        self.tasks: dict[str, Task[..., Any]] = {}
        self.periodic_registry = PeriodicRegistry()
        self._home: Blueprint | None = None
        self._warn_of_main_module()

    @property
    def job_manager(self) -> jobs.JobDefererManager:
        """What inserts the jobs of this blueprint's tasks. Raises UnboundTaskError if no app has it."""
        raise exceptions.UnboundTaskError

    def will_configure_task(self) -> None:
        """Do what must be done before a task is configured. Raises UnboundTaskError if no app has the blueprint."""
        raise exceptions.UnboundTaskError

    @overload
    def task(self, _func: Callable[P, R]) -> Task[P, R]: ...

    @overload
    def task(
        self,
        _func: None = None,
        *,
        name: str | None = None,
        aliases: list[str] | None = None,
        retry: retry.RetryValue = False,
        pass_context: Literal[False] = False,
        queue: str = jobs.DEFAULT_QUEUE,
        priority: int = jobs.DEFAULT_PRIORITY,
        lock: str | None = None,
        queueing_lock: str | None = None,
        task_middleware: list[TaskMiddleware] | None = None,
        check_arguments: bool = True,
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    @overload
    def task(
        self,
        _func: None = None,
        *,
        name: str | None = None,
        aliases: list[str] | None = None,
        retry: retry.RetryValue = False,
        pass_context: Literal[True],
        queue: str = jobs.DEFAULT_QUEUE,
        priority: int = jobs.DEFAULT_PRIORITY,
        lock: str | None = None,
        queueing_lock: str | None = None,
        task_middleware: list[TaskMiddleware] | None = None,
        check_arguments: bool = True,
    ) -> Callable[[Callable[Concatenate[JobContext, P], R]], Task[P, R]]: ...

    def task(self, _func: Callable[..., Any] | None = None, **options: Any) -> Any:
        """Make a task of a function: `@app.task` or `@app.task(queue="mail", …)`.

        Args:
            name: what jobs call the task; by default `module.function`.
            aliases: further names under which jobs may call it, for instance older ones.
            retry: False for no retry, True for retries without end, a number of retries, or a strategy.
            pass_context: the function takes a JobContext first.
            queue: where its jobs wait.
            priority: bigger runs earlier.
            lock: at most one job with this text runs at a time.
            queueing_lock: at most one job with this text waits at a time.
            task_middleware: functions around the task, outermost first, of its own kind, sync or async.
            check_arguments: whether deferring checks the arguments against the function's signature.
            **options: all of these; the overloads above have their types.

        Raises:
            TaskAlreadyRegistered: a name or alias is taken.
            TypeError: an option is unknown. See Task for what else.
        """

        def register(func: Callable[..., Any]) -> Task[..., Any]:
            settings: dict[str, Any] = {"queue": jobs.DEFAULT_QUEUE, **options}
            task: Task[..., Any] = Task(func, blueprint=self, **settings)
            self.register(task)
            return task

        return register if _func is None else register(_func)

    def register(self, task: Task[..., Any]) -> None:
        """Add a task under its name and aliases, all or none. Raises TaskAlreadyRegistered."""
        names = [task.name, *task.aliases]
        for name in names:
            if name in self.tasks:
                raise exceptions.TaskAlreadyRegistered(f"A task named {name} was already registered")
        self.tasks |= dict.fromkeys(names, task)

    def periodic(
        self, *, cron: str, periodic_id: str = "", **configure_kwargs: Unpack[ConfigureTaskOptions]
    ) -> Callable[[Task[P, R]], Task[P, R]]:
        """Defer a task again and again: a decorator that goes above `@app.task`.

        The function receives `timestamp`, the tick in seconds since the epoch.

        Args:
            cron: when, in UTC: minute, hour, day, month, weekday, and seconds as a sixth field if wanted.
            periodic_id: tells several schedules of one task from each other.
            **configure_kwargs: settings of the jobs, as for `Task.configure`.

        Raises:
            ValueError: the cron expression is wrong.
            TaskAlreadyRegistered: the task has a schedule under this periodic_id.
        """
        return self.periodic_registry.periodic_decorator(cron, periodic_id, **configure_kwargs)

    def add_task_alias(self, task: Task[..., Any], alias: str) -> None:
        """Let jobs call a task by another name, as it stands. Raises TaskAlreadyRegistered if it is taken."""
        if alias in self.tasks:
            raise exceptions.TaskAlreadyRegistered(f"A task named {alias} was already registered")
        self.tasks[alias] = task

    def add_tasks_from(self, blueprint: Blueprint, *, namespace: str = "") -> None:
        """Take over the tasks of another blueprint, their names prefixed by `namespace:` if one is given.

        Raises TaskAlreadyRegistered, with nothing changed, if a name is taken or the blueprint was added before.
        """
        if blueprint._home is not None:
            raise exceptions.TaskAlreadyRegistered(
                "This blueprint was added before: its tasks belong to one app or blueprint only"
            )
        prefix = f"{namespace}:" if namespace else ""
        renamed = {prefix + name: task for name, task in blueprint.tasks.items()}
        if renamed.keys() & self.tasks.keys():
            raise exceptions.TaskAlreadyRegistered(f"A namespace named {namespace} was already registered")
        extra = {"action": "loading_blueprint", "namespace": namespace, "tasks": list(renamed)}
        logger.info("Adding tasks from blueprint to namespace %r", namespace, extra=extra)
        for task in dict.fromkeys(renamed.values()):
            if namespace:
                task.add_namespace(namespace)
            task.blueprint = self
        self.tasks |= renamed
        blueprint.tasks = renamed
        blueprint._home = self
        for periodic_task in blueprint.periodic_registry.periodic_tasks.values():
            self.periodic_registry.add(periodic_task)

    def _warn_of_main_module(self) -> None:
        module = _caller_module()
        if module == "__main__":
            logger.warning(
                "%s is instantiated in the main Python module (%s): tasks are then named after __main__, and a worker "
                "that imports the module by its name does not find them. Put the app in a module of its own.",
                type(self).__name__,
                sys.argv[0],
                extra={"action": "app_defined_in___main__"},
            )


def _caller_module() -> str | None:
    frame = inspect.currentframe()
    while frame is not None:
        name = cast("str", frame.f_globals.get("__name__", ""))
        if name != "procrastinate" and not name.startswith("procrastinate."):
            return name
        frame = frame.f_back
    return None
