"""The app of a Django project: a blueprint until Django is ready, the real one from then on."""

# Django has no types.
# pyright: basic

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NoReturn, cast

from django.utils.module_loading import autodiscover_modules, import_string
from typing_extensions import Unpack, override

from procrastinate import blueprints
from procrastinate.app import App, WorkerOptions
from procrastinate.contrib.django import exceptions
from procrastinate.contrib.django.db_cleanup import with_db_cleanup
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.contrib.django.imported_tasks import ImportedTasks
from procrastinate.contrib.django.settings import settings


class DjangoApp(App):
    """An app whose workers look after Django's database connections: they are cleaned up around each task.

    It runs workers on a connector of their own where its own is Django's connection.
    """

    def __init__(self, *, worker_defaults: WorkerOptions | None = None, **kwargs: Any) -> None:
        """Make an app.

        Args:
            worker_defaults: options of workers; whatever middleware they name goes inside the clean-up.
            **kwargs: as for App.
        """
        super().__init__(worker_defaults=with_db_cleanup(worker_defaults), **kwargs)
        self.tasks = ImportedTasks(self.tasks)

    @override
    async def run_worker_async(self, **kwargs: Unpack[WorkerOptions]) -> None:
        options = with_db_cleanup(cast("WorkerOptions", {**self.worker_defaults, **kwargs}))
        if not isinstance(self.connector, DjangoConnector):
            await super().run_worker_async(**options)
            return
        with self.replace_connector(self.connector.get_worker_connector()):
            async with self.open_async():
                await super().run_worker_async(**options)


# What only the real app can do; `app.task`, `app.periodic` and the like work from the start.
_NOT_YET = frozenset(name for name in dir(App) if not name.startswith("_")) - frozenset(dir(blueprints.Blueprint))
_VALUES = frozenset(("connector", "import_paths", "worker_defaults", "periodic_defaults", "schema_manager"))


class FutureApp(blueprints.Blueprint):
    """Stands for the app until Django is ready: takes tasks, and refuses the rest."""

    @property
    @override
    def job_manager(self) -> NoReturn:
        raise exceptions.DjangoNotReady("job_manager")

    @override
    def will_configure_task(self) -> NoReturn:
        raise exceptions.DjangoNotReady("will_configure_task")

    def __enter__(self) -> NoReturn:
        raise exceptions.DjangoNotReady("__enter__")

    def __exit__(self, *_: object) -> NoReturn:
        raise exceptions.DjangoNotReady("__exit__")

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Refuse what the real app will have."""
            if name in _VALUES:
                raise exceptions.DjangoNotReady(name)
            if name not in _NOT_YET:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

            def refuse(*_args: Any, **_kwargs: Any) -> NoReturn:
                raise exceptions.DjangoNotReady(name)

            return refuse


class ProxyApp:
    """Passes everything on to the app of the moment, so that modules can import it before Django is ready."""

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return repr(current_app)

    def __getattr__(self, name: str) -> Any:
        return getattr(current_app, name)

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        setattr(current_app, name, value)

    @override
    def __delattr__(self, name: str) -> None:
        delattr(current_app, name)


def create_app(blueprint: blueprints.Blueprint) -> DjangoApp:
    """Make the real app from the settings, with the blueprint's tasks and those that are discovered."""
    app = DjangoApp(
        connector=DjangoConnector(alias=settings.DATABASE_ALIAS),
        import_paths=list(get_import_paths()),
        worker_defaults=cast("Any", settings.WORKER_DEFAULTS),
        periodic_defaults=settings.PERIODIC_DEFAULTS,
        log_args=settings.LOG_ARGS,
    )
    if blueprint.tasks:
        app.add_tasks_from(blueprint, namespace="")
    if settings.ON_APP_READY:
        import_string(settings.ON_APP_READY)(app)
    return app


def get_import_paths() -> Generator[str]:
    """Import the tasks of all installed apps, which declare them on the way; yield further modules to be imported."""
    if settings.AUTODISCOVER_MODULE_NAME:
        autodiscover_modules(settings.AUTODISCOVER_MODULE_NAME)
    yield from settings.IMPORT_PATHS


def make_ready() -> None:
    """Put the real app in place of the future one; later calls, as by changed INSTALLED_APPS in tests, do nothing."""
    global current_app  # noqa: PLW0603  the one app of the process, behind the proxy
    if isinstance(current_app, FutureApp):
        current_app = create_app(blueprint=current_app)


current_app: App = cast("App", FutureApp())
app: App = cast("App", ProxyApp())
