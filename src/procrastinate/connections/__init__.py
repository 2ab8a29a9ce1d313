"""Connections of every driver: the caller's, given as `connection=`, and those of our connectors.

No driver is imported to find out whose connection it is: if the object exists, its driver was imported already.
"""

from __future__ import annotations

import importlib
from typing import Any

from procrastinate import exceptions
from procrastinate.connections.adapter import (
    Adapter,
    AsyncAdapter,
    Rendering,
    SyncAdapter,
    Translation,
    errors_translated,
)

__all__ = [
    "Adapter",
    "AsyncAdapter",
    "Rendering",
    "SyncAdapter",
    "Translation",
    "adapt",
    "errors_translated",
]

# Drivers, which are also the names of the modules next to this one.
DRIVERS = ("psycopg", "asyncpg", "sqlalchemy", "psycopg2", "aiopg")

SYNC_KINDS = "a psycopg.Connection, a SQLAlchemy Connection or Session, or a psycopg2 connection"
ASYNC_KINDS = (
    "a psycopg.AsyncConnection, an asyncpg Connection, a SQLAlchemy AsyncConnection or AsyncSession, or an aiopg "
    "connection"
)


def sync_adapter(connection: Any) -> SyncAdapter:
    """Return what speaks on the caller's sync connection, in its transaction, which is never committed.

    Raises ConnectorException for what is no sync connection to PostgreSQL.
    """
    adapter = adapt(connection)
    if isinstance(adapter, SyncAdapter):
        return adapter
    raise _misfit(
        connection, adapter, f"A sync verb takes {SYNC_KINDS}.", "use the async verb: `await task.defer_async(...)`"
    )


def async_adapter(connection: Any) -> AsyncAdapter:
    """Do as `sync_adapter` for async connections."""
    adapter = adapt(connection)
    if isinstance(adapter, AsyncAdapter):
        return adapter
    raise _misfit(
        connection, adapter, f"An async verb takes {ASYNC_KINDS}.", "use the sync verb, in a thread: `task.defer(...)`"
    )


def adapt(connection: Any) -> Adapter | None:
    """Return the adapter for a connection, None if it is of no driver that we know.

    Raises ConnectorException for a connection to another database than PostgreSQL.
    """
    kinds = type(connection).__mro__
    packages = {kind.__module__.partition(".")[0] for kind in kinds}
    for driver in DRIVERS:
        if driver in packages:
            adapter = importlib.import_module(f"{__name__}.{driver}").adapt(connection)
            if adapter is not None:
                return adapter
    return None


def _misfit(connection: Any, adapter: Adapter | None, accepted: str, remedy: str) -> exceptions.ConnectorException:
    cls = type(connection)  # pyright: ignore[reportUnknownVariableType]
    given = adapter.kind if adapter else f"an object of type {cls.__module__}.{cls.__qualname__}"
    hint = f" With this connection {remedy}." if adapter else ""
    return exceptions.ConnectorException(f"connection= was given {given}. {accepted}{hint}")
