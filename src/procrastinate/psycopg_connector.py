"""The async connector on psycopg 3: the one that runs workers."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import psycopg
import psycopg_pool
from typing_extensions import override

from procrastinate import connections, connector, exceptions, pooled_connector
from procrastinate.connections.psycopg import lend_async, listen
from procrastinate.sync_psycopg_connector import (
    POOL_DEFAULTS,
    SyncPsycopgConnector,
    pool_arguments,
    pool_sizes,
    translated,
)

# Arguments of the async pool that a sync one cannot take: they are coroutine functions, or classes of the other colour.
ASYNC_ONLY = ("configure", "reset", "check", "reconnect_failed", "connection_class")


class PsycopgConnector(pooled_connector.AsyncPooledConnector):
    """Runs operations on psycopg 3, asynchronously; sync calls work too, before and while the app is open."""

    def __init__(
        self,
        *,
        json_dumps: Callable[[Any], Any] | None = None,
        json_loads: Callable[[Any], Any] | None = None,
        schema: str | None = None,
        pool_factory: Callable[..., psycopg_pool.AsyncConnectionPool[Any]] = psycopg_pool.AsyncConnectionPool,
        **kwargs: Any,
    ) -> None:
        """Keep the settings; nothing is opened yet.

        Args:
            json_dumps: writes arguments as JSON, in place of `json.dumps`.
            json_loads: reads arguments from JSON, in place of `json.loads`.
            schema: where the tables are, in place of the first schema of the search_path that has them.
            pool_factory: makes the pool, in place of `psycopg_pool.AsyncConnectionPool`.
            **kwargs: for the pool: `conninfo`, `kwargs`, `min_size`, `max_size`, `timeout`, … and for its connections:
                `host`, `port`, `dbname`, `user`, `password`, … Without any the PG* environment variables apply, and
                there are one to four connections, as they are needed.
        """
        super().__init__(json_dumps=json_dumps, json_loads=json_loads, schema=schema)
        self._pool_factory = pool_factory
        self._arguments = pool_arguments(kwargs)

    @property
    def pool(self) -> psycopg_pool.AsyncConnectionPool[Any]:
        """The pool in use. Raises AppNotOpen if there is none."""
        return self._opened_pool

    @override
    def _make_sync_connector(self, **pool_arguments: Any) -> SyncPsycopgConnector:
        arguments = {name: value for name, value in self._arguments.items() if name not in ASYNC_ONLY}
        return SyncPsycopgConnector(**self._settings, **{**arguments, **pool_arguments})

    @override
    def side_connector(self) -> connector.BaseConnector | None:
        pool = self.pool
        if callable(pool.conninfo) or callable(pool.kwargs):
            return None  # they may be coroutine functions, which a thread cannot await
        overrides: dict[str, Any] = {"min_size": 1, "max_size": 1, "timeout": 5.0}
        if not self._is_own_pool:
            # The caller's pool knows where its database is; our own arguments may say nothing of it.
            overrides |= {"conninfo": pool.conninfo, "kwargs": pool.kwargs}
        return self._make_sync_connector(**overrides)

    @override
    def _check_pool(self, pool: Any) -> None:
        if isinstance(pool, psycopg_pool.ConnectionPool):
            raise exceptions.ConnectorException(
                "open_async() was given a sync pool: it takes a psycopg_pool.AsyncConnectionPool."
            )

    @override
    async def _make_pool(self) -> psycopg_pool.AsyncConnectionPool[Any]:
        # Another kind of pool has sizes of its own: none ready, for instance.
        sizes = pool_sizes(self._arguments) if self._pool_factory is psycopg_pool.AsyncConnectionPool else {}
        arguments: dict[str, Any] = {**POOL_DEFAULTS, **sizes, **self._arguments, "open": False}
        pool = self._pool_factory(**arguments)
        with pooled_connector.opening(translated):
            try:
                await pool.open(wait=True, timeout=pool.timeout)
            except BaseException:
                await pool.close()
                raise
        return pool

    @override
    async def _close_pool(self, pool: psycopg_pool.AsyncConnectionPool[Any]) -> None:
        await pool.close()

    @override
    def _translated(self, error: Exception) -> exceptions.ProcrastinateException | None:
        return translated(error)

    @override
    def _borrow(self) -> contextlib.AbstractAsyncContextManager[connections.AsyncAdapter]:
        return lend_async(self.pool)

    @override
    async def listen_notify(
        self,
        on_notification: connector.Notify,
        channels: Iterable[str],
        on_listening: Callable[[], None] | None = None,
    ) -> None:
        with connections.errors_translated(translated):
            # Outside the pool: LISTEN belongs to one session for as long as the worker lives.
            async with await self._connect_apart() as connection:
                await listen(connection, on_notification, channels, on_listening)

    async def _connect_apart(self) -> psycopg.AsyncConnection[Any]:
        conninfo = await _resolved(self.pool.conninfo)
        arguments: dict[str, Any] = {**(await _resolved(self.pool.kwargs) or {}), "autocommit": True}
        connection: psycopg.AsyncConnection[Any] = await self.pool.connection_class.connect(conninfo, **arguments)
        configure = self._arguments.get("configure") if self._is_own_pool else None
        if configure is not None:
            await configure(connection)
        return connection


async def _resolved(setting: Any) -> Any:
    """Return a pool's setting, which may be given as a function, sync or async, so that it can change."""
    value = setting() if callable(setting) else setting
    return await value if inspect.isawaitable(value) else value
