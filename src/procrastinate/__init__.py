"""A task queue for Python on PostgreSQL."""

from __future__ import annotations

import importlib
from importlib import util
from typing import TYPE_CHECKING, Any, NoReturn

from procrastinate import exceptions

if TYPE_CHECKING:
    from procrastinate.app import App
    from procrastinate.blueprints import Blueprint
    from procrastinate.connector import BaseConnector
    from procrastinate.job_context import JobContext
    from procrastinate.jobs import Job
    from procrastinate.psycopg_connector import PsycopgConnector
    from procrastinate.retry import BaseRetryStrategy, RetryDecision, RetryStrategy
    from procrastinate.sync_psycopg_connector import SyncPsycopgConnector

    __author__: str
    __author_email__: str
    __license__: str
    __url__: str

__version__ = "4.0.0.dev0"

__all__ = [
    "App",
    "BaseConnector",
    "BaseRetryStrategy",
    "Blueprint",
    "Job",
    "JobContext",
    "PsycopgConnector",
    "RetryDecision",
    "RetryStrategy",
    "SyncPsycopgConnector",
]

# Imported when they are asked for: `procrastinate --help` must not load a database driver.
_MODULES = {
    "App": "app",
    "BaseConnector": "connector",
    "BaseRetryStrategy": "retry",
    "Blueprint": "blueprints",
    "Job": "jobs",
    "JobContext": "job_context",
    "PsycopgConnector": "psycopg_connector",
    "RetryDecision": "retry",
    "RetryStrategy": "retry",
    "SyncPsycopgConnector": "sync_psycopg_connector",
}

_METADATA = {
    "__author__": "Author",
    "__author_email__": "Author-email",
    "__license__": "License-Expression",
    "__url__": "Home-page",
}


class _Moved:
    """Stands where a connector was that lives in an optional package now; says so at any use."""

    def __init__(self, name: str, module: str) -> None:
        self.__text = f"procrastinate.{name} has been moved to procrastinate.contrib.{module}.{name}"

    def __call__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise exceptions.MovedElsewhere(self.__text)

    def __getattr__(self, name: str) -> NoReturn:
        raise exceptions.MovedElsewhere(self.__text)


AiopgConnector = _Moved("AiopgConnector", "aiopg")
Psycopg2Connector = _Moved("Psycopg2Connector", "psycopg2")

if not TYPE_CHECKING:  # type checkers would take any name for a public one

    def __getattr__(name: str) -> Any:
        """Import a public name, or one of the package's modules."""
        if name in _MODULES:
            value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        elif name in _METADATA:
            from importlib import metadata  # noqa: PLC0415  slow, and rarely asked for

            value = metadata.metadata("procrastinate").get(_METADATA[name]) or ""
        elif not name.startswith("_") and util.find_spec(f"{__name__}.{name}") is not None:
            value = importlib.import_module(f"{__name__}.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        """Return the public names."""
        return sorted([*globals(), *_MODULES])
