"""A task queue for Python on PostgreSQL."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from procrastinate.app import App
    from procrastinate.blueprints import Blueprint
    from procrastinate.connector import BaseConnector
    from procrastinate.job_context import JobContext
    from procrastinate.jobs import Job
    from procrastinate.psycopg_connector import PsycopgConnector
    from procrastinate.retry import BaseRetryStrategy, RetryDecision, RetryStrategy
    from procrastinate.sync_psycopg_connector import SyncPsycopgConnector

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


def __getattr__(name: str) -> Any:
    """Import a public name."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted([*globals(), *_MODULES])
