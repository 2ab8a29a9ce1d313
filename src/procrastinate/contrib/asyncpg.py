"""The connector on asyncpg."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
from typing_extensions import override

from procrastinate import connections, connector, exceptions, pooled_connector
from procrastinate.connections import asyncpg as driver
from procrastinate.connections import libpq
from procrastinate.sync_psycopg_connector import SyncPsycopgConnector

__all__ = ["AsyncpgConnector"]

CLOSING_PATIENCE = 5.0

# What `create_pool` takes for the pool and not for its connections.
POOL_ARGUMENTS = (
    "init_size", "min_size", "max_size", "max_queries", "max_inactive_connection_lifetime", "connect", "setup", "init",
    "reset", "loop",
)  # fmt: skip


class AsyncpgConnector(pooled_connector.AsyncPooledConnector):
    """Runs operations on asyncpg, and workers; sync calls work too, on psycopg before the app is open."""

    def __init__(
        self,
        dsn: str | None = None,
        *,
        json_dumps: Callable[[Any], Any] | None = None,
        json_loads: Callable[[Any], Any] | None = None,
        schema: str | None = None,
        pool_factory: Callable[..., Any] = asyncpg.create_pool,  # pyright: ignore[reportUnknownMemberType]
        **kwargs: Any,
    ) -> None:
        """Keep the settings; nothing is opened yet.

        Args:
            dsn: the database, as a URL; the PG* environment variables say what it leaves open.
            json_dumps: writes arguments as JSON, in place of `json.dumps`.
            json_loads: reads arguments from JSON, in place of `json.loads`.
            schema: where the tables are, in place of the first schema of the search_path that has them.
            pool_factory: makes the pool, in place of `asyncpg.create_pool`.
            **kwargs: for the pool and its connections: `min_size`, `max_size`, `host`, `password`, … Behind a
                transaction pooler, `statement_cache_size=0`.
        """
        super().__init__(json_dumps=json_dumps, json_loads=json_loads, schema=schema)
        self._dsn = dsn
        self._pool_factory = pool_factory
        self._arguments = kwargs

    @property
    def pool(self) -> Any:
        """The pool in use, an `asyncpg.Pool`. Raises AppNotOpen if there is none."""
        return self._opened_pool

    @override
    async def _make_pool(self) -> Any:
        with pooled_connector.opening(driver.translated):
            return await self._pool_factory(self._dsn, **self._arguments)

    @override
    async def _close_pool(self, pool: Any) -> None:
        try:
            async with asyncio.timeout(CLOSING_PATIENCE):
                await pool.close()
        except TimeoutError:  # it waits for whoever has not given a connection back
            pool.terminate()

    @override
    def _translated(self, error: Exception) -> exceptions.ProcrastinateException | None:
        return driver.translated(error)

    @override
    @contextlib.asynccontextmanager
    async def _borrow(self) -> AsyncGenerator[connections.AsyncAdapter]:
        may_have_codecs = not self._is_own_pool or not self._arguments.keys().isdisjoint(("init", "setup", "connect"))
        async with self.pool.acquire() as connection:
            yield driver.AsyncpgAdapter(connection, may_have_codecs=may_have_codecs)

    @override
    async def listen_notify(
        self,
        on_notification: connector.Notify,
        channels: Iterable[str],
        on_listening: Callable[[], None] | None = None,
    ) -> None:
        async with self._connection_to_listen() as connection:
            await driver.listen(connection, on_notification, channels, on_listening)

    @contextlib.asynccontextmanager
    async def _connection_to_listen(self) -> AsyncGenerator[Any]:
        pool = self.pool
        if not self._is_own_pool:
            # Only the caller's pool knows how to connect.
            if pool.get_max_size() <= 1:
                raise exceptions.ConnectorException(
                    "The pool has one connection, and listening would hold it all the time: use a bigger one, or run "
                    "the worker with listen_notify=False."
                )
            with connections.errors_translated(driver.translated):
                async with pool.acquire() as connection:
                    yield connection
            return
        arguments = {name: value for name, value in self._arguments.items() if name not in POOL_ARGUMENTS}
        with connections.errors_translated(driver.translated):
            # Outside the pool: LISTEN belongs to one session for as long as the worker lives.
            connect: Callable[..., Any] = self._arguments.get("connect", asyncpg.connect)  # pyright: ignore[reportUnknownMemberType]
            connection = await connect(self._dsn, **arguments)
            try:
                yield connection
            finally:
                await driver.disconnect(connection)

    @override
    def side_connector(self) -> connector.BaseConnector | None:
        if not self._is_own_pool:
            return None
        try:
            return self._make_sync_connector(min_size=1, max_size=1, timeout=5.0)
        except exceptions.ConnectorException:
            return None

    @override
    def _make_sync_connector(self, **pool_arguments: Any) -> SyncPsycopgConnector:
        arguments: dict[str, Any] = {"conninfo": self._dsn or "", "kwargs": libpq.from_asyncpg(self._arguments)}
        arguments |= {name: self._arguments[name] for name in ("min_size", "max_size") if name in self._arguments}
        return SyncPsycopgConnector(**self._settings, **(arguments | pool_arguments))
