"""The settings, read from Django's at each access."""

# Django has no types.
# pyright: basic

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings
from typing_extensions import override


class BaseSettings:
    """Takes the value of an attribute from Django's setting `PROCRASTINATE_<NAME>`, or else from the class."""

    @override
    def __getattribute__(self, name: str) -> Any:
        default = super().__getattribute__(name)
        return default if name.startswith("_") else getattr(django_settings, f"PROCRASTINATE_{name}", default)


class ProcrastinateSettings(BaseSettings):
    """The settings and their defaults.

    Attributes:
        ON_APP_READY: dotted path of a function that is called with the app once it is made.
        AUTODISCOVER_MODULE_NAME: the module of each installed app that is imported for its tasks; None for no module.
        IMPORT_PATHS: further modules that hold tasks.
        DATABASE_ALIAS: the database that holds the jobs.
        WORKER_DEFAULTS: options of workers.
        PERIODIC_DEFAULTS: options of periodic tasks.
        READONLY_MODELS: whether the models refuse to write.
        LOG_ARGS: whether the arguments of jobs may appear in logs.
    """

    ON_APP_READY: str | None = None
    AUTODISCOVER_MODULE_NAME: str | None = "tasks"
    IMPORT_PATHS: list[str] = []  # noqa: RUF012  nobody appends to it
    DATABASE_ALIAS: str = "default"
    WORKER_DEFAULTS: dict[str, Any] | None = None
    PERIODIC_DEFAULTS: dict[str, Any] | None = None
    READONLY_MODELS: bool = True
    LOG_ARGS: bool = True


settings = ProcrastinateSettings()
