"""Connectors on SQLAlchemy engines."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from typing import Any

import sqlalchemy
import sqlalchemy.exc
from sqlalchemy.ext import asyncio as sqlalchemy_asyncio
from typing_extensions import override

from procrastinate import connections, connector, exceptions, pooled_connector
from procrastinate.connections import libpq
from procrastinate.connections import sqlalchemy as driver

__all__ = ["SQLAlchemyAsyncConnector", "SQLAlchemyConnector", "SQLAlchemyPsycopg2Connector"]

# Arguments of an async engine that a sync one cannot take.
ASYNC_ONLY = ("async_creator", "poolclass", "connect_args")


class SQLAlchemyConnector(pooled_connector.SyncPooledConnector):
    """Runs operations on a SQLAlchemy engine, synchronously: to defer and manage jobs, not to run a worker."""

    default_driver = "psycopg"

    def __init__(
        self,
        dsn: str | sqlalchemy.URL | sqlalchemy.Engine = "postgresql://",
        *,
        json_dumps: Callable[[Any], Any] | None = None,
        json_loads: Callable[[Any], Any] | None = None,
        schema: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep the settings; nothing is opened yet.

        Args:
            dsn: a URL for psycopg or psycopg2, or an engine, which is never disposed of.
            json_dumps: writes arguments as JSON, in place of `json.dumps`.
            json_loads: reads arguments from JSON, in place of `json.loads`.
            schema: where the tables are, in place of the first schema of the search_path that has them.
            **kwargs: for `sqlalchemy.create_engine`.

        Raises ConnectorException if this is not PostgreSQL, or another driver.
        """
        super().__init__(json_dumps=json_dumps, json_loads=json_loads, schema=schema)
        self._given: sqlalchemy.Engine | None = None
        if isinstance(dsn, sqlalchemy.Engine):
            self._check_pool(dsn)
            self._given, self._url = dsn, dsn.url
        else:
            self._url = url_of(dsn, self.default_driver)
        self._arguments = kwargs

    @property
    def engine(self) -> sqlalchemy.Engine:
        """The engine in use. Raises AppNotOpen if there is none."""
        return self._opened_pool

    @override
    def _check_pool(self, pool: Any) -> None:
        if not isinstance(pool, sqlalchemy.Engine):
            raise exceptions.ConnectorException(f"This connector takes an Engine, not a {type(pool).__name__}")
        driver.check_dialect(pool.dialect)
        if pool.dialect.is_async:
            raise exceptions.ConnectorException(
                f"The engine's driver is async ({pool.dialect.driver}): use an AsyncEngine and SQLAlchemyAsyncConnector"
            )

    @override
    def _make_pool(self) -> sqlalchemy.Engine:
        if self._given is not None:
            return self._given
        engine = sqlalchemy.create_engine(self._url, **{**engine_defaults(self), **self._arguments})
        self._check_pool(engine)
        with pooled_connector.opening(lambda error: driver.translated(error, engine.dialect)):
            try:
                engine.connect().close()
            except BaseException:
                engine.dispose()
                raise
        return engine

    @override
    def _close_pool(self, pool: sqlalchemy.Engine) -> None:
        if pool is not self._given:
            pool.dispose()

    @override
    def _translated(self, error: Exception) -> exceptions.ProcrastinateException | None:
        return driver.translated(error, self.engine.dialect)

    @override
    @contextlib.contextmanager
    def _borrow(self) -> Generator[connections.SyncAdapter]:
        with self.engine.connect() as connection:
            yield ready(connection)


class SQLAlchemyPsycopg2Connector(SQLAlchemyConnector):
    """The same on psycopg2, where the URL names no driver."""

    default_driver = "psycopg2"


class SQLAlchemyAsyncConnector(pooled_connector.AsyncPooledConnector):
    """Runs operations and workers on an async SQLAlchemy engine; sync calls work too, before it is open on psycopg."""

    def __init__(
        self,
        dsn: str | sqlalchemy.URL | sqlalchemy_asyncio.AsyncEngine = "postgresql://",
        *,
        json_dumps: Callable[[Any], Any] | None = None,
        json_loads: Callable[[Any], Any] | None = None,
        schema: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep the settings; nothing is opened yet.

        Args:
            dsn: a URL for psycopg or asyncpg, or an async engine, which is never disposed of.
            json_dumps: writes arguments as JSON, in place of `json.dumps`.
            json_loads: reads arguments from JSON, in place of `json.loads`.
            schema: where the tables are, in place of the first schema of the search_path that has them.
            **kwargs: for `sqlalchemy.ext.asyncio.create_async_engine`.

        Raises ConnectorException if this is not PostgreSQL, or another driver.
        """
        super().__init__(json_dumps=json_dumps, json_loads=json_loads, schema=schema)
        self._given: sqlalchemy_asyncio.AsyncEngine | None = None
        if isinstance(dsn, sqlalchemy_asyncio.AsyncEngine):
            self._check_pool(dsn)
            self._given, self._url = dsn, dsn.url
        else:
            self._url = url_of(dsn, "psycopg")
        self._arguments = kwargs

    @property
    def engine(self) -> sqlalchemy_asyncio.AsyncEngine:
        """The engine in use. Raises AppNotOpen if there is none."""
        return self._opened_pool

    @override
    def _check_pool(self, pool: Any) -> None:
        if not isinstance(pool, sqlalchemy_asyncio.AsyncEngine):
            raise exceptions.ConnectorException(f"This connector takes an AsyncEngine, not a {type(pool).__name__}")
        driver.check_dialect(pool.dialect)

    @override
    async def _make_pool(self) -> sqlalchemy_asyncio.AsyncEngine:
        if self._given is not None:
            return self._given
        engine = sqlalchemy_asyncio.create_async_engine(self._url, **{**engine_defaults(self), **self._arguments})
        self._check_pool(engine)
        with pooled_connector.opening(lambda error: driver.translated(error, engine.dialect)):
            try:
                async with engine.connect():
                    pass
            except BaseException:
                await engine.dispose()
                raise
        return engine

    @override
    async def _close_pool(self, pool: sqlalchemy_asyncio.AsyncEngine) -> None:
        if pool is not self._given:
            await pool.dispose()

    @override
    def _translated(self, error: Exception) -> exceptions.ProcrastinateException | None:
        return driver.translated(error, self.engine.dialect)

    @contextlib.asynccontextmanager
    async def _connect(self) -> AsyncGenerator[sqlalchemy_asyncio.AsyncConnection]:
        async with self.engine.connect() as connection:
            await connection.run_sync(ready)
            yield connection

    @override
    @contextlib.asynccontextmanager
    async def _borrow(self) -> AsyncGenerator[connections.AsyncAdapter]:
        async with self._connect() as connection:
            yield driver.AsyncSQLAlchemyAdapter(connection)

    @override
    async def listen_notify(
        self,
        on_notification: connector.Notify,
        channels: Iterable[str],
        on_listening: Callable[[], None] | None = None,
    ) -> None:
        with connections.errors_translated(self._translated):
            await self._listen(on_notification, channels, on_listening)

    async def _listen(
        self,
        on_notification: connector.Notify,
        channels: Iterable[str],
        on_listening: Callable[[], None] | None,
    ) -> None:
        async with self._connect() as connection:
            raw = (await connection.get_raw_connection()).driver_connection
            # Outside the pool: LISTEN belongs to one session for as long as the worker lives.
            await connection.run_sync(lambda inner: inner.detach())
            module = driver.driver_module(connection.dialect)
            try:
                await module.listen(raw, on_notification, channels, on_listening)
            finally:
                await module.disconnect(raw)
                # Else its way back to the pool would begin with a rollback, which is logged as an error.
                await connection.invalidate()

    @override
    def side_connector(self) -> connector.BaseConnector | None:
        try:
            return self._make_sync_connector(pool_size=1, max_overflow=0, pool_timeout=5.0)
        except exceptions.ConnectorException:
            return None

    @override
    def _make_sync_connector(self, **pool_arguments: Any) -> SQLAlchemyConnector:
        # The engine in use knows where its database is; our own arguments may say nothing of it.
        url: sqlalchemy.URL = self._url if self._pool is None else self.engine.url
        connect_arguments: dict[str, Any] = self._arguments.get("connect_args", {})
        if url.drivername == "postgresql+asyncpg":
            query = libpq.from_asyncpg({**url.query, "ssl": url.query.get("ssl", url.query.get("sslmode"))})
            url = url.set(drivername="postgresql+psycopg", query=query)
            connect_arguments = libpq.from_asyncpg(connect_arguments)
        arguments: dict[str, Any] = {name: value for name, value in self._arguments.items() if name not in ASYNC_ONLY}
        arguments |= {"connect_args": connect_arguments, **pool_arguments}
        return SQLAlchemyConnector(url, **self._settings, **arguments)


def url_of(dsn: str | sqlalchemy.URL, default_driver: str) -> sqlalchemy.URL:
    """Return a URL that names a driver. Raises ConnectorException if it is not one of PostgreSQL."""
    if isinstance(dsn, str) and dsn.startswith("postgres://"):
        dsn = dsn.replace("postgres://", "postgresql://", 1)  # as libpq takes it, and many hosters write it
    try:
        url = sqlalchemy.make_url(dsn)
    except sqlalchemy.exc.ArgumentError as error:
        raise exceptions.ConnectorException(f"dsn: {error}. It looks like postgresql://user@host/database") from error
    if url.get_backend_name() != "postgresql":
        raise exceptions.ConnectorException(
            f"procrastinate needs PostgreSQL, and this URL names {url.get_backend_name()}"
        )
    return url.set(drivername=f"postgresql+{default_driver}") if url.drivername == "postgresql" else url


def engine_defaults(settings: connector.BaseConnector) -> dict[str, Any]:
    """Return what our own engines are made with, where the user says nothing else."""
    defaults: dict[str, Any] = {"pool_pre_ping": True}
    if settings.json_loads is not None:
        defaults["json_deserializer"] = settings.json_loads
    return defaults


def ready(connection: sqlalchemy.Connection) -> driver.SQLAlchemyAdapter:
    """Make sure that a connection from the pool is alive, and set it to commit each statement until it goes back."""
    raw = connection.connection.dbapi_connection
    try:
        connection.dialect.do_ping(raw)  # type: ignore[arg-type]
    except Exception as error:
        if not connection.dialect.is_disconnect(error, raw, None):  # type: ignore[arg-type]
            raise
        connection.invalidate(error)  # the next use connects anew
    return driver.SQLAlchemyAdapter(connection.execution_options(isolation_level="AUTOCOMMIT"))
