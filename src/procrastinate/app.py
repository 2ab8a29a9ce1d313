"""The app: the one place where connector, tasks, manager and worker meet."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import Any, Generic, Self, TypeVar

from typing_extensions import Unpack, override

from procrastinate import builtin_tasks, connector, exceptions, importing, jobs, manager, periodic, schema, tasks
from procrastinate.blueprints import Blueprint
from procrastinate.worker import Worker, WorkerOptions

__all__ = ["App", "AwaitableContext", "WorkerOptions"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


class AwaitableContext(Generic[T]):
    """What `open_async` returns: awaited, it opens; with `async with`, it also closes at the end."""

    def __init__(
        self,
        open_coro: Callable[[], Awaitable[Any]],
        close_coro: Callable[[], Awaitable[Any]],
        return_value: T,
    ) -> None:
        """Give `return_value` once `open_coro` has been called and awaited; call `close_coro` at the end."""
        self._open, self._close, self._value = open_coro, close_coro, return_value

    async def _opened(self) -> T:
        await self._open()
        return self._value

    def __await__(self) -> Generator[Any, None, T]:
        """Open, and stay open."""
        return self._opened().__await__()

    async def __aenter__(self) -> T:
        """Open."""
        return await self._opened()

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self._close()


class App(Blueprint):
    """Holds the tasks, defers their jobs and runs workers.

    Attributes:
        connector: how the database is reached.
        import_paths: modules that hold tasks, imported before they are needed.
        worker_defaults: options of workers, where `run_worker` says nothing else.
        periodic_defaults: options of periodic tasks: `max_delay`, in seconds.
        log_args: whether arguments may appear in logs.
        job_manager: what can be asked about jobs.
        tasks: every task, under its name and its aliases.
        periodic_registry: the periodic tasks.
    """

    def __init__(
        self,
        *,
        connector: connector.BaseConnector,
        import_paths: Iterable[str] | None = None,
        worker_defaults: WorkerOptions | None = None,
        periodic_defaults: dict[str, Any] | None = None,
        log_args: bool = True,
    ) -> None:
        """Make an app; nothing is opened yet.

        Args:
            connector: how the database is reached.
            import_paths: names of modules that hold tasks.
            worker_defaults: options of workers, where `run_worker` says nothing else.
            periodic_defaults: options of periodic tasks: `max_delay`, the age in seconds beyond which a tick that was
                missed is left out; 600 if it is not given.
            log_args: False keeps the arguments of all tasks out of logs, as the option of that name does for one task.

        Raises:
            TypeError: `periodic_defaults` has an unknown key, or an argument is of a wrong type.
        """
        if isinstance(connector, type):
            raise TypeError(f"connector takes an object, not a class: write connector={connector.__name__}(…)")
        if isinstance(import_paths, str):
            raise TypeError(f"import_paths takes several names, not one text: write import_paths=[{import_paths!r}]")
        super().__init__()
        self.connector = connector
        self.import_paths = list(import_paths or [])
        self.worker_defaults: WorkerOptions = worker_defaults if worker_defaults is not None else {}
        self.periodic_defaults = periodic_defaults if periodic_defaults is not None else {}
        periodic.refuse_unknown_defaults(self.periodic_defaults)
        self.log_args = log_args
        self._job_manager = manager.JobManager(connector)
        self._imported = False
        self.add_tasks_from(builtin_tasks.builtin)

    @property
    @override
    def job_manager(self) -> manager.JobManager:
        return self._job_manager

    @override
    def will_configure_task(self) -> None:
        pass

    @classmethod
    def from_path(cls, dotted_path: str) -> Self:
        """Import an app: `package.module.app`.

        Raises LoadFromPathError, caused by the module's own error if it has one.
        """
        return importing.load_from_path(dotted_path, cls)

    def with_connector(self, connector: connector.BaseConnector) -> Self:
        """Return another app that shares the tasks and settings of this one. Deprecated: use `replace_connector`.

        The task objects still defer through this app; what goes through the other one, such as its `configure_task`,
        uses the other connector.
        """
        app = copy.copy(self)
        app.connector = connector
        app._job_manager = manager.JobManager(connector)  # noqa: SLF001  its own class
        return app

    @contextlib.contextmanager
    def replace_connector(self, connector: connector.BaseConnector) -> Generator[Self]:
        """Use another connector for a while, for instance in tests. Nothing is opened or closed."""
        before = self.connector
        self.connector = self.job_manager.connector = connector
        try:
            yield self
        finally:
            self.connector = self.job_manager.connector = before

    def configure_task(
        self, name: str, *, allow_unknown: bool = True, **options: Unpack[tasks.ConfigureTaskOptions]
    ) -> jobs.JobDeferrer:
        """Return a deferrer for jobs of the task of this name or alias, with the options of `Task.configure`.

        Raises TaskNotFound if the task is unknown and `allow_unknown` is False.
        """
        self.perform_import_paths()
        task = self.tasks.get(name)
        if task is not None:
            deferrer = task.configure(**options)
            deferrer.job_manager = self.job_manager  # not that of the app with which this one shares its tasks
            return self._discreet(deferrer)
        if not allow_unknown:
            hint = tasks.did_you_mean(name, self.tasks)
            raise exceptions.TaskNotFound(f"Task {name!r} is not known to this app{hint}") from KeyError(name)
        return self._discreet(tasks.configure_task(name=name, job_manager=self.job_manager, **options))

    def _discreet(self, deferrer: jobs.JobDeferrer) -> jobs.JobDeferrer:
        if not self.log_args:
            deferrer.job = deferrer.job.evolve(log_args=False)
        return deferrer

    def logs_args_of(self, task_name: str) -> bool:
        """Tell whether the arguments of this task may appear in logs; those of one that is not known here may."""
        task = self.tasks.get(task_name)
        return self.log_args and (task is None or task.log_args)

    def perform_import_paths(self) -> None:
        """Import the modules of `import_paths`, once; their errors are raised as they are."""
        if self._imported:
            return
        importing.import_all(self.import_paths)
        self._imported = True
        names = list(self.tasks)
        logger.debug("All tasks imported", extra={"action": "imported_tasks", "tasks": names})

    async def run_worker_async(self, **kwargs: Unpack[WorkerOptions]) -> None:
        """Run jobs until stopped, on the running loop; the app must be open.

        Options that are not given come from `worker_defaults`, then from WorkerSettings, which explains them.

        Raises:
            TypeError: an option is unknown.
            AppNotOpen: the app is not open.
            ConnectorException: the database cannot be reached, or has no tables.
            WorkerStopped: the database could not be reached for too long.
        """
        self.perform_import_paths()
        options: dict[str, Any] = {**self.worker_defaults, **kwargs}
        await Worker(self, **options).run()

    def run_worker(self, **kwargs: Unpack[WorkerOptions]) -> None:
        """Open the app, run jobs until stopped, and close the app: `run_worker_async` for scripts.

        Raises what `run_worker_async` raises, and RuntimeError where a loop is running already.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError(
                "run_worker starts an event loop of its own, and one is running here: open the app with "
                "`async with app.open_async():` and write `await app.run_worker_async(...)`."
            )

        async def run() -> None:
            async with self.open_async():
                await self.run_worker_async(**kwargs)

        asyncio.run(run())

    def check_connection(self) -> bool:
        """Tell whether the database can be reached and has the table of jobs."""
        return self.job_manager.check_connection()

    async def check_connection_async(self) -> bool:
        """Do as `check_connection`, asynchronously."""
        return await self.job_manager.check_connection_async()

    @property
    def schema_manager(self) -> schema.SchemaManager:
        """What applies and reads the schema."""
        return schema.SchemaManager(self.connector)

    def open(self, pool_or_engine: connector.Pool | connector.Engine | None = None) -> Self:
        """Open the connections for sync calls, or use those of a pool; nothing happens if they are open."""
        self.connector.get_sync_connector().open(pool_or_engine)
        return self

    def close(self) -> None:
        """Close what `open` opened."""
        self.connector.get_sync_connector().close()

    def open_async(self, pool: connector.Pool | None = None) -> AwaitableContext[Self]:
        """Open the connections for async calls, or use those of a pool: `await` it, or use it with `async with`."""
        return AwaitableContext(lambda: self.connector.open_async(pool), self.close_async, self)

    async def close_async(self) -> None:
        """Close what `open_async` opened."""
        await self.connector.close_async()

    def __enter__(self) -> Self:
        """Return the app: for `with app.open():`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the app."""
        self.close()
