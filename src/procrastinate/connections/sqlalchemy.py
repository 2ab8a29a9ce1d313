"""Connections and sessions of SQLAlchemy, on the drivers that we know."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy
import sqlalchemy.exc
import sqlalchemy.orm
from sqlalchemy.ext import asyncio as sqlalchemy_asyncio
from typing_extensions import override

from procrastinate import connections, exceptions
from procrastinate.connections.adapter import (
    Adapter,
    AsyncAdapter,
    DriverAdapter,
    JsonFunctions,
    Rendering,
    SyncAdapter,
    SyncDriverAdapter,
    errors_translated,
)
from procrastinate.store.operation import Operation, Row
from procrastinate.store.postgres import Statement

T = TypeVar("T")

# The drivers on which we can speak, as SQLAlchemy calls them, and the modules that know them.
DRIVERS = {"psycopg": "psycopg", "psycopg_async": "psycopg", "psycopg2": "psycopg2", "asyncpg": "asyncpg"}


def adapt(connection: Any) -> Adapter | None:
    """Return the adapter for a connection or session of SQLAlchemy, also where it is behind a registry."""
    match connection:
        case sqlalchemy.orm.scoped_session() | sqlalchemy_asyncio.async_scoped_session():
            return adapt(connection())
        case sqlalchemy.Connection():
            return SQLAlchemyAdapter(connection)
        case sqlalchemy.orm.Session():
            return SessionAdapter(connection)
        case sqlalchemy_asyncio.AsyncConnection():
            return AsyncSQLAlchemyAdapter(connection)
        case sqlalchemy_asyncio.AsyncSession():
            return AsyncSessionAdapter(connection)
        case _:
            return None


def check_dialect(dialect: sqlalchemy.Dialect) -> None:
    """Raise ConnectorException for a database or driver on which we cannot speak."""
    if dialect.name != "postgresql" or dialect.driver not in DRIVERS:
        raise exceptions.ConnectorException(
            f"This SQLAlchemy engine talks to {dialect.name} through {dialect.driver}: procrastinate needs PostgreSQL, "
            "through psycopg, psycopg2 or asyncpg (for instance postgresql+psycopg://…)"
        )


class SQLAlchemyAdapter(SyncDriverAdapter):
    """A connection of SQLAlchemy. Statements go through `exec_driver_sql`: its transactions and events are heeded."""

    kind = "a SQLAlchemy Connection"

    def __init__(self, connection: sqlalchemy.Connection) -> None:
        """Speak on `connection`. Raises ConnectorException if it is not one to PostgreSQL."""
        super().__init__(connection)
        check_dialect(connection.dialect)
        self._is_asyncpg = connection.dialect.driver == "asyncpg"

    @property
    @override
    def commits_each_statement(self) -> bool:
        raw = self.connection.connection
        if not raw.dbapi_connection.autocommit:
            return False
        adapter = connections.adapt(raw.driver_connection)
        return isinstance(adapter, DriverAdapter) and adapter.commits_each_statement

    @override
    def translated(self, error: Exception) -> exceptions.ConnectorException | None:
        return translated(error, self.connection.dialect)

    @override
    def execute(self, statement: Statement) -> Sequence[Row]:
        if self._is_asyncpg:
            result = self.connection.exec_driver_sql(*statement.numbered())
        else:
            result = self.connection.exec_driver_sql(statement.text, dict(statement.parameters))
        return [tuple(row) for row in result] if result.returns_rows else []

    @override
    def query(self, text: str, arguments: Mapping[str, Any], json: JsonFunctions) -> list[dict[str, Any]]:
        sql, values = driver_module(self.connection.dialect).user_query(text, arguments, json)
        # Without parameters a percent sign is one.
        options = {} if arguments else {"no_parameters": True}
        with self.errors_translated():
            result = self.connection.exec_driver_sql(sql, values or None, execution_options=options)
            if not result.returns_rows:
                return []
            # The engine's `json_deserializer` has read JSON.
            return [dict(row) for row in result.mappings()]

    @override
    def script(self, text: str) -> None:
        if not self._is_asyncpg:
            super().script(text)
            return
        # The dialect prepares all that it sends, which allows one statement only.
        with self.errors_translated():
            self.connection.connection.dbapi_connection.run_async(_executing(text))


class SessionAdapter(SyncAdapter):
    """A session of SQLAlchemy's ORM: what it holds but has not flushed is not sent."""

    kind = "a SQLAlchemy Session"

    def _adapter(self) -> SQLAlchemyAdapter:
        dialect = self.connection.get_bind().dialect
        check_dialect(dialect)
        with errors_translated(lambda error: translated(error, dialect)):
            return SQLAlchemyAdapter(self.connection.connection())

    @override
    def run(self, operation: Operation[T], rendering: Rendering) -> T:
        return self._adapter().run(operation, rendering)

    @override
    def query(self, text: str, arguments: Mapping[str, Any], json: JsonFunctions) -> list[dict[str, Any]]:
        return self._adapter().query(text, arguments, json)


class AsyncSQLAlchemyAdapter(AsyncAdapter):
    """An async connection or session: within it is a sync one, and a greenlet in which that can be used."""

    kind = "a SQLAlchemy AsyncConnection"
    inner: type[SyncAdapter] = SQLAlchemyAdapter

    async def _within(self, call: Callable[[SyncAdapter], T]) -> T:
        def run(connection: Any) -> T:
            return call(self.inner(connection))

        return await self.connection.run_sync(run)

    @override
    async def run(self, operation: Operation[T], rendering: Rendering) -> T:
        return await self._within(lambda adapter: adapter.run(operation, rendering))

    @override
    async def query(self, text: str, arguments: Mapping[str, Any], json: JsonFunctions) -> list[dict[str, Any]]:
        return await self._within(lambda adapter: adapter.query(text, arguments, json))

    @override
    async def script(self, text: str) -> None:
        await self._within(lambda adapter: adapter.script(text))


class AsyncSessionAdapter(AsyncSQLAlchemyAdapter):
    """An async session."""

    kind = "a SQLAlchemy AsyncSession"
    inner = SessionAdapter


def _executing(text: str) -> Callable[[Any], Any]:
    return lambda raw: raw.execute(text)


def driver_module(dialect: sqlalchemy.Dialect) -> Any:
    """Return our module for the driver below a dialect."""
    return importlib.import_module(f"{connections.__name__}.{DRIVERS[dialect.driver]}")


def translated(error: Exception, dialect: sqlalchemy.Dialect) -> exceptions.ConnectorException | None:
    """Return our error for one of SQLAlchemy or of its driver, None for another kind."""
    original = getattr(error, "orig", None) or error
    if type(original).__module__.startswith("sqlalchemy."):
        original = original.__cause__ or original  # the dialect for asyncpg puts errors of its own around the driver's
    ours = driver_module(dialect).translated(original)
    if ours is None and isinstance(error, sqlalchemy.exc.TimeoutError):
        return exceptions.ConnectionLost(f"No connection to the database could be had in time: {error}")
    if ours is None and isinstance(error, sqlalchemy.exc.SQLAlchemyError):
        return exceptions.ConnectorException(str(error))
    return ours
