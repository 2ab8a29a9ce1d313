"""A task queue for Python on PostgreSQL."""

from __future__ import annotations

import importlib
from importlib import util
from typing import TYPE_CHECKING, Any

from procrastinate.moved import MovedElsewhere

if TYPE_CHECKING:
    # Modules that users reach without an import of their own.
    from procrastinate import app as app
    from procrastinate import blueprints as blueprints
    from procrastinate import builtin_tasks as builtin_tasks
    from procrastinate import connector as connector
    from procrastinate import exceptions as exceptions
    from procrastinate import job_context as job_context
    from procrastinate import jobs as jobs
    from procrastinate import manager as manager
    from procrastinate import middleware as middleware
    from procrastinate import periodic as periodic
    from procrastinate import retry as retry
    from procrastinate import schema as schema
    from procrastinate import signals as signals
    from procrastinate import tasks as tasks
    from procrastinate import testing as testing
    from procrastinate import types as types
    from procrastinate import utils as utils
    from procrastinate import worker as worker
    from procrastinate.app import App
    from procrastinate.blueprints import Blueprint
    from procrastinate.connector import BaseConnector
    from procrastinate.contrib.aiopg import AiopgConnector as AiopgConnector
    from procrastinate.contrib.psycopg2 import Psycopg2Connector as Psycopg2Connector
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

# Their drivers are extras.
_CONTRIB = {"AiopgConnector": "aiopg", "Psycopg2Connector": "psycopg2"}

_METADATA = {"__author__": "author", "__author_email__": "email", "__license__": "license", "__url__": "url"}

if not TYPE_CHECKING:  # type checkers would take any name for a public one

    def __getattr__(name: str) -> Any:
        """Import a public name, or one of the package's modules."""
        if name in _MODULES:
            value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        elif name in _CONTRIB:
            location = f"{__name__}.contrib.{_CONTRIB[name]}"
            try:
                value = getattr(importlib.import_module(location), name)
            except ImportError:
                value = MovedElsewhere(name, location)
        elif name in _METADATA:
            value = importlib.import_module(f"{__name__}.metadata").extract_metadata()[_METADATA[name]]
        elif not name.startswith("_") and util.find_spec(f"{__name__}.{name}") is not None:
            value = importlib.import_module(f"{__name__}.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        """Return the public names."""
        return sorted([*globals(), *_MODULES])
