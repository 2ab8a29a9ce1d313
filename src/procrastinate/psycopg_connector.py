"""The async connector on psycopg 3: the one that runs workers."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import Any, TypeVar, cast

import psycopg
import psycopg.rows
import psycopg.sql
import psycopg_pool
from typing_extensions import override

from procrastinate import connector, exceptions
from procrastinate.store import postgres
from procrastinate.store.operation import Operation
from procrastinate.sync_psycopg_connector import (
    RELEASE,
    ROLLBACK,
    SAVEPOINT,
    SyncPsycopgConnector,
    as_query,
    errors_translated,
    pool_failed,
)

T = TypeVar("T")

# Arguments of the async pool that a sync one cannot take: they are coroutine functions, or classes of the other colour.
ASYNC_ONLY = ("configure", "reset", "check", "reconnect_failed", "connection_class")


class PsycopgConnector(connector.BaseAsyncConnector):
    """Runs operations on psycopg 3, asynchronously; sync calls work too, before and while the app is open."""

    def __init__(
        self,
        *,
        json_dumps: Callable[[Any], Any] | None = None,
        json_loads: Callable[[Any], Any] | None = None,
        pool_factory: Callable[..., psycopg_pool.AsyncConnectionPool[Any]] = psycopg_pool.AsyncConnectionPool,
        **kwargs: Any,
    ) -> None:
        """Keep the settings; nothing is opened yet.

        Args:
            json_dumps: writes arguments as JSON, in place of `json.dumps`.
            json_loads: reads arguments from JSON, in place of `json.loads`.
            pool_factory: makes the pool, in place of `psycopg_pool.AsyncConnectionPool`.
            **kwargs: for the pool: `conninfo`, `kwargs`, `min_size`, `max_size`, `timeout`, … Without `conninfo` the
                PG* environment variables apply.
        """
        self.json_dumps = json_dumps
        self.json_loads = json_loads
        self._json = postgres.JsonText(json_dumps, json_loads)
        self._pool_factory = pool_factory
        self._arguments = kwargs
        self._pool: psycopg_pool.AsyncConnectionPool[Any] | None = None
        self._is_own_pool = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sync_connector: SyncPsycopgConnector | None = None

    @property
    def pool(self) -> psycopg_pool.AsyncConnectionPool[Any]:
        """The pool in use. Raises AppNotOpen if there is none."""
        if self._pool is None:
            raise exceptions.AppNotOpen
        return self._pool

    @override
    def get_sync_connector(self) -> connector.BaseConnector:
        if self._pool is not None:
            return self
        if self._sync_connector is None:
            self._sync_connector = self._make_sync_connector()
        return self._sync_connector

    def _make_sync_connector(self, **overrides: Any) -> SyncPsycopgConnector:
        arguments = {name: value for name, value in self._arguments.items() if name not in ASYNC_ONLY}
        return SyncPsycopgConnector(
            json_dumps=self.json_dumps, json_loads=self.json_loads, **{**arguments, **overrides}
        )

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
    async def open_async(self, pool: psycopg_pool.AsyncConnectionPool[Any] | None = None) -> None:
        if self._pool is not None:
            return
        if self._sync_connector is not None:
            self._sync_connector.close()
            self._sync_connector = None
        if pool is None:
            arguments: dict[str, Any] = {
                "check": psycopg_pool.AsyncConnectionPool.check_connection,
                **self._arguments,
                "open": False,
            }
            own_pool = self._pool_factory(**arguments)
            try:
                await own_pool.open(wait=True, timeout=own_pool.timeout)
            except psycopg_pool.PoolTimeout as error:
                await own_pool.close()
                raise pool_failed(error, own_pool.timeout) from error
            self._pool, self._is_own_pool = own_pool, True
        else:
            self._pool, self._is_own_pool = pool, False
        self._loop = asyncio.get_running_loop()

    @override
    async def close_async(self) -> None:
        pool, self._pool, self._loop = self._pool, None, None
        if pool is not None and self._is_own_pool:
            await pool.close()

    @override
    def open(self, pool: Any = None) -> None:
        """Do nothing: the app is open already, asynchronously, and sync calls go that way."""

    @override
    def close(self) -> None:
        """Do nothing: what `open_async` opened, `close_async` closes."""

    @override
    async def run_async(self, operation: Operation[T], connection: Any = None) -> T:
        with errors_translated():
            if connection is not None:
                return await self._run_in_transaction(operation, connection)
            async with self.pool.connection() as own:
                return await self._run_on(operation, own)

    async def _run_on(self, operation: Operation[T], connection: psycopg.AsyncConnection[Any]) -> T:
        async with connection.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
            await cursor.execute(as_query(postgres.statement(operation)), operation.parameters(self._json))
            rows = await cursor.fetchall() if cursor.description else []
        return operation.decode(rows, self._json)

    async def _run_in_transaction(self, operation: Operation[T], connection: Any) -> T:
        if not isinstance(connection, psycopg.AsyncConnection):
            raise exceptions.ConnectorException(
                f"connection= takes a psycopg.AsyncConnection here, not a {type(connection).__name__}"
            )
        connection = cast("psycopg.AsyncConnection[Any]", connection)
        if not operation.atomic:
            return await self._run_on(operation, connection)
        if connection.autocommit:
            async with connection.transaction():
                return await self._run_on(operation, connection)
        # Not `connection.transaction()`: where none has begun it would commit at its end, and that is the caller's.
        await connection.execute(SAVEPOINT)
        try:
            answer = await self._run_on(operation, connection)
        except exceptions.ProcrastinateException:
            await connection.execute(ROLLBACK)
            raise
        await connection.execute(RELEASE)
        return answer

    @contextlib.asynccontextmanager
    async def _query(
        self, query: str, arguments: dict[str, Any]
    ) -> AsyncGenerator[psycopg.AsyncCursor[dict[str, Any]]]:
        with errors_translated():
            async with (
                self.pool.connection() as connection,
                connection.cursor(row_factory=psycopg.rows.dict_row) as cursor,
            ):
                await cursor.execute(as_query(query), arguments or None)
                yield cursor

    @override
    async def execute_query_async(self, query: str, **arguments: Any) -> None:
        async with self._query(query, arguments):
            pass

    @override
    async def execute_query_one_async(self, query: str, **arguments: Any) -> dict[str, Any]:
        async with self._query(query, arguments) as cursor:
            row = await cursor.fetchone()
        if row is None:
            raise exceptions.NoResult("The query found no row")
        return row

    @override
    async def execute_query_all_async(self, query: str, **arguments: Any) -> list[dict[str, Any]]:
        async with self._query(query, arguments) as cursor:
            return await cursor.fetchall()

    @override
    async def listen_notify(
        self,
        on_notification: connector.Notify,
        channels: Iterable[str],
        on_listening: Callable[[], None] | None = None,
    ) -> None:
        with errors_translated():
            # Outside the pool: LISTEN belongs to one session for as long as the worker lives.
            connection = await self._connect_apart()
            async with connection:
                for channel in channels:
                    await connection.execute(psycopg.sql.SQL("listen {}").format(psycopg.sql.Identifier(channel)))
                if on_listening is not None:
                    on_listening()
                while True:
                    async for notification in connection.notifies(timeout=connector.LISTEN_TIMEOUT):
                        await on_notification(channel=notification.channel, payload=notification.payload)
                    # Silence may mean that nothing happens, or that nobody is there any more.
                    async with asyncio.timeout(connector.LISTEN_TIMEOUT):
                        await connection.execute("select 1")

    async def _connect_apart(self) -> psycopg.AsyncConnection[Any]:
        conninfo = await _resolved(self.pool.conninfo)
        arguments: dict[str, Any] = {**(await _resolved(self.pool.kwargs) or {}), "autocommit": True}
        return await psycopg.AsyncConnection.connect(conninfo, **arguments)

    # Sync calls while the app is open asynchronously: carried over to the loop's thread.

    def _bridge(self, call: Callable[[], Coroutine[Any, Any, T]], verb: str) -> T:
        if self._loop is None:
            raise exceptions.AppNotOpen
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            raise RuntimeError(
                f"{verb} was called on the event loop's own thread, where it would wait for itself: use the async verb "
                "(for instance `await task.defer_async(...)`), or call it from a thread (`asyncio.to_thread`)."
            )
        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    @override
    def run(self, operation: Operation[T], connection: Any = None) -> T:
        return self._bridge(lambda: self.run_async(operation, connection), "A sync method")

    @override
    def execute_query(self, query: str, **arguments: Any) -> None:
        return self._bridge(lambda: self.execute_query_async(query, **arguments), "execute_query")

    @override
    def execute_query_one(self, query: str, **arguments: Any) -> dict[str, Any]:
        return self._bridge(lambda: self.execute_query_one_async(query, **arguments), "execute_query_one")

    @override
    def execute_query_all(self, query: str, **arguments: Any) -> list[dict[str, Any]]:
        return self._bridge(lambda: self.execute_query_all_async(query, **arguments), "execute_query_all")


async def _resolved(setting: Any) -> Any:
    """Return a pool's setting, which may be given as a function, sync or async, so that it can change."""
    value = setting() if callable(setting) else setting
    return await value if inspect.isawaitable(value) else value
