"""Blueprints: tasks that wait for an app."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, cast, overload

import attrs
from typing_extensions import Unpack

from procrastinate import exceptions, jobs, retry
from procrastinate.job_context import JobContext
from procrastinate.middleware import TaskMiddleware
from procrastinate.periodic import AnyTask, PeriodicRegistry
from procrastinate.tasks import ConfigureTaskOptions, Task, check_name

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


class Blueprint:
    """Declares tasks apart from any app; `App.add_tasks_from` attaches them later."""

    def __init__(self) -> None:
        """Start without tasks."""
        self.tasks: dict[str, Task[..., Any]] = {}
        self.periodic_registry = PeriodicRegistry()
        # What stands before its tasks' names since it was added to an app or blueprint.
        self._prefix = ""
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
    ) -> Callable[[Callable[Concatenate[JobContext, P], R]], Task[P, R, Concatenate[JobContext, P]]]: ...

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
    ) -> Callable[[AnyTask], AnyTask]:
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

        The blueprint's own task objects belong to the app to which it was added last: their `defer` goes there. Apps to
        which it was added before keep tasks of their own, under the names that they had.

        Raises TaskAlreadyRegistered, with nothing changed, if a name is taken or the blueprint was added before.
        """
        if any(task.blueprint is self for task in blueprint.tasks.values()):
            raise exceptions.TaskAlreadyRegistered("The tasks of this blueprint were added before")
        prefix = f"{namespace}:" if namespace else ""
        names = {name: check_name(prefix + name.removeprefix(blueprint._prefix), "task") for name in blueprint.tasks}
        if self.tasks.keys() & set(names.values()):
            raise exceptions.TaskAlreadyRegistered(f"A namespace named {namespace} was already registered")
        scheduled = list(blueprint.periodic_registry.periodic_tasks.values())
        for periodic_task in scheduled:
            task = periodic_task.task
            self.periodic_registry.refuse_taken(names.get(task.name, task.name), periodic_task.periodic_id)
        extra = {"action": "loading_blueprint", "namespace": namespace, "tasks": list(names.values())}
        logger.info("Adding tasks from blueprint to namespace %r", namespace, extra=extra)
        for task in dict.fromkeys(blueprint.tasks.values()):
            if task.blueprint is not blueprint and isinstance(task.blueprint, Blueprint):
                task.blueprint.keep_copy_of(task)
            task.name = names.get(task.name, task.name)
            task.aliases = [names.get(alias, alias) for alias in task.aliases]
            task.blueprint = self
        blueprint.tasks = {names[name]: task for name, task in blueprint.tasks.items()}
        blueprint._prefix = prefix
        self.tasks |= blueprint.tasks
        for periodic_task in scheduled:
            self.periodic_registry.add(periodic_task)

    def keep_copy_of(self, task: Task[..., Any]) -> None:
        """Put a copy in place of a task that goes elsewhere, wherever it stands here."""
        twin = task.copy_for(self)
        for name, each in self.tasks.items():
            if each is task:
                self.tasks[name] = twin
        schedules = self.periodic_registry.periodic_tasks
        for key, periodic_task in schedules.items():
            if periodic_task.task is task:
                schedules[key] = attrs.evolve(periodic_task, task=twin)

    def _warn_of_main_module(self) -> None:
        module = _caller_module()
        if not module:
            logger.warning(
                "The module in which %s is instantiated could not be determined",
                type(self).__name__,
                extra={"action": "app_location_unknown"},
                stack_info=True,
            )
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
