"""Blueprints: tasks that wait for an app."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, overload

import attrs
from typing_extensions import Unpack

from procrastinate import exceptions, importing, jobs
from procrastinate.job_context import JobContext
from procrastinate.periodic import AnyTask, PeriodicRegistry
from procrastinate.tasks import ConfigureTaskOptions, Task, TaskOptions, add_namespace, refuse_unknown_options

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


class Blueprint:
    """Declares tasks apart from any app; `App.add_tasks_from` attaches them later.

    Attributes:
        tasks: every task, under its name and its aliases.
        periodic_registry: the periodic tasks.
        log_args: whether arguments may appear in logs; an app can say no for all of its tasks.
    """

    log_args: bool = True

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
    def task(
        self, _func: Callable[P, R], *, pass_context: Literal[False] = False, **options: Unpack[TaskOptions]
    ) -> Task[P, R]: ...

    @overload
    def task(
        self,
        _func: Callable[Concatenate[JobContext, P], R],
        *,
        pass_context: Literal[True],
        **options: Unpack[TaskOptions],
    ) -> Task[P, R, Concatenate[JobContext, P]]: ...

    @overload
    def task(
        self, _func: None = None, *, pass_context: Literal[False] = False, **options: Unpack[TaskOptions]
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    @overload
    def task(
        self, _func: None = None, *, pass_context: Literal[True], **options: Unpack[TaskOptions]
    ) -> Callable[[Callable[Concatenate[JobContext, P], R]], Task[P, R, Concatenate[JobContext, P]]]: ...

    def task(
        self, _func: Callable[..., Any] | None = None, *, pass_context: bool = False, **options: Unpack[TaskOptions]
    ) -> Any:
        """Make a task of a function: `@app.task` or `@app.task(queue="mail", …)`.

        Args:
            pass_context: the function takes a JobContext first.
            **options: in any number:

                - `name`: what jobs call the task; by default `module.function`.
                - `aliases`: further names under which jobs may call it, for instance older ones.
                - `retry`: False for no retry, True for retries without end, a number of retries, or a strategy.
                - `queue`: where its jobs wait; by default "default".
                - `priority`: bigger runs earlier; by default 0.
                - `lock`: at most one job with this text runs at a time.
                - `queueing_lock`: at most one job with this text waits at a time.
                - `task_middleware`: functions around the task, outermost first, of its own kind, sync or async.
                - `check_arguments`: False switches off that deferring checks the arguments against the function's
                  signature, for a task that runs elsewhere with another one.
                - `log_args`: False keeps its arguments and results out of logs, and the messages of its errors, which
                  may quote them, out of logs and of the log of attempts.

        Raises:
            TaskAlreadyRegistered: a name or alias is taken.
            FunctionPathError: no name is given, and none can be derived.
            TypeError: an option is unknown or of the wrong type, or a middleware is no callable.
            ValueError: a name or the priority does not fit the database.
            MiddlewareKindMismatch: a middleware is async and the task is not, or the reverse.
        """
        refuse_unknown_options(options, TaskOptions.__annotations__, "task")

        def register(func: Callable[..., Any]) -> Task[..., Any]:
            if not callable(func):
                raise TypeError(f"A task is made of a function, not of {func!r}: write @app.task(name={func!r})")
            settings: dict[str, Any] = {"queue": jobs.DEFAULT_QUEUE, **options}
            task: Task[..., Any] = Task(func, blueprint=self, pass_context=pass_context, **settings)
            self.register(task)
            return task

        return register if _func is None else register(_func)

    def register(self, task: Task[..., Any]) -> None:
        """Add a task under its name and aliases, all or none. Raises TaskAlreadyRegistered."""
        names = [task.name, *task.aliases]
        self._refuse_taken(names)
        self.tasks |= dict.fromkeys(names, task)

    def _refuse_taken(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self.tasks:
                raise exceptions.TaskAlreadyRegistered(f"A task named {name} was already registered")

    def periodic(
        self, *, cron: str, periodic_id: str = "", **configure_kwargs: Unpack[ConfigureTaskOptions]
    ) -> Callable[[AnyTask], AnyTask]:
        """Defer a task again and again: a decorator that goes above `@app.task`.

        The function receives `timestamp`, the tick in seconds since the epoch.

        Args:
            cron: when, in UTC: minute, hour, day, month, weekday, and seconds as a sixth field if wanted; or `@hourly`
                and the like. `H` and `R` stand for a number that is drawn from the task's name, so that many schedules
                spread out and all workers agree.
            periodic_id: tells several schedules of one task from each other.
            **configure_kwargs: settings of the jobs, as for `Task.configure`.

        Raises:
            ValueError: the cron expression is wrong.
            TypeError: an option is unknown, or the task takes no `timestamp`.
            TaskAlreadyRegistered: the task has a schedule under this periodic_id.
        """
        return self.periodic_registry.periodic_decorator(cron, periodic_id, **configure_kwargs)

    def add_task_alias(self, task: Task[..., Any], alias: str) -> None:
        """Let jobs call a task by another name, as it stands. Raises TaskAlreadyRegistered if it is taken."""
        self._refuse_taken([alias])
        self.tasks[jobs.check_name(alias, "task")] = task

    def add_tasks_from(self, blueprint: Blueprint, *, namespace: str = "") -> None:
        """Take over the tasks of another blueprint, their names prefixed by `namespace:` if one is given.

        The blueprint's own task objects belong to the app to which it was added last: their `defer` goes there. Apps to
        which it was added before keep tasks of their own, under the names that they had.

        Raises TaskAlreadyRegistered, with nothing changed, if a name is taken or the blueprint was added before.
        """
        if any(task.blueprint is self for task in blueprint.tasks.values()):
            raise exceptions.TaskAlreadyRegistered("The tasks of this blueprint were added before")
        prefix = f"{namespace}:" if namespace else ""
        names = {
            name: jobs.check_name(add_namespace(name.removeprefix(blueprint._prefix), namespace), "task")
            for name in blueprint.tasks
        }
        if namespace and self.tasks.keys() & set(names.values()):
            raise exceptions.TaskAlreadyRegistered(f"A namespace named {namespace} was already registered")
        self._refuse_taken(names.values())
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
        try:
            module = importing.caller_module_name()
        except exceptions.CallerModuleUnknown:
            logger.warning(
                "The module in which %s is instantiated could not be determined",
                type(self).__name__,
                extra={"action": "app_location_unknown"},
                exc_info=True,
            )
            return
        if module == "__main__":
            logger.warning(
                "%s is instantiated in the main Python module (%s): tasks are then named after __main__, and a worker "
                "that imports the module by its name does not find them. Put the app in a module of its own.",
                type(self).__name__,
                sys.argv[0],
                extra={"action": "app_defined_in___main__"},
            )
