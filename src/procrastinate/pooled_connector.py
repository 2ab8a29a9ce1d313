"""What connectors with a pool have in common: when they are open, and how they use one of its connections."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, TypeVar

from typing_extensions import override

from procrastinate import connections, connector, exceptions
from procrastinate.connections import AsyncAdapter, Rendering, SyncAdapter, Translation
from procrastinate.store import postgres
from procrastinate.store.operation import Operation

T = TypeVar("T")


class _PooledConnector(connector.BaseConnector):
    """The settings, and operations on the caller's own connection."""

    def __init__(
        self,
        *,
        json_dumps: Callable[[Any], Any] | None = None,
        json_loads: Callable[[Any], Any] | None = None,
        schema: str | None = None,
    ) -> None:
        self.json_dumps = json_dumps
        self.json_loads = json_loads
        self.schema = postgres.check_schema(schema)
        self._rendering = Rendering(postgres.JsonText(json_dumps, json_loads), schema)
        self._pool: Any = None
        self._is_own_pool = False

    @property
    def _settings(self) -> dict[str, Any]:
        """What a connector beside this one is to have in common with it."""
        return {"json_dumps": self.json_dumps, "json_loads": self.json_loads, "schema": self.schema}

    @property
    def _opened_pool(self) -> Any:
        """The pool in use. Raises AppNotOpen if there is none."""
        if self._pool is None:
            raise exceptions.AppNotOpen
        return self._pool

    @abc.abstractmethod
    def _translated(self, error: Exception) -> exceptions.ProcrastinateException | None:
        """Return our error for one of the driver or of the pool, None for another kind."""

    def _check_pool(self, pool: Any) -> None:
        """Raise ConnectorException if the caller's pool is of no use here."""

    def _forget_pool(self) -> Any:
        """Be closed; return the pool if it was our own, for it to be closed too."""
        pool, self._pool = self._pool, None
        return pool if self._is_own_pool else None

    @override
    def run(self, operation: Operation[T], connection: Any = None) -> T:
        # On the caller's connection nothing of ours is needed, so we may be closed, or open in the other colour.
        if connection is not None:
            return connections.sync_adapter(connection).run(operation, self._rendering)
        return self._run(operation)

    @override
    async def run_async(self, operation: Operation[T], connection: Any = None) -> T:
        if connection is not None:
            return await connections.async_adapter(connection).run(operation, self._rendering)
        return await self._run_async(operation)

    @override
    def execute_query_one_with_connection(self, connection: Any, query: str, **arguments: Any) -> dict[str, Any]:
        return first(self.execute_query_all_with_connection(connection, query, **arguments))

    @override
    def execute_query_all_with_connection(self, connection: Any, query: str, **arguments: Any) -> list[dict[str, Any]]:
        return connections.sync_adapter(connection).query(query, arguments, self._rendering.json)

    @override
    async def execute_query_one_async_with_connection(
        self, connection: Any, query: str, **arguments: Any
    ) -> dict[str, Any]:
        return first(await self.execute_query_all_async_with_connection(connection, query, **arguments))

    @override
    async def execute_query_all_async_with_connection(
        self, connection: Any, query: str, **arguments: Any
    ) -> list[dict[str, Any]]:
        return await connections.async_adapter(connection).query(query, arguments, self._rendering.json)

    @abc.abstractmethod
    def _run(self, operation: Operation[T]) -> T:
        """Answer an operation on a connection of the pool."""

    @abc.abstractmethod
    async def _run_async(self, operation: Operation[T]) -> T:
        """Do as `_run`, asynchronously."""


class SyncPooledConnector(_PooledConnector):
    """A sync connector with a pool: defers and manages jobs, but runs no worker."""

    def __init__(self, **settings: Any) -> None:
        """Keep the settings; nothing is opened yet."""
        super().__init__(**settings)
        self._opening = threading.Lock()

    @abc.abstractmethod
    def _make_pool(self) -> Any:
        """Return a new pool that works. Raises ConnectorException, and leaves nothing behind, if there can be none."""

    @abc.abstractmethod
    def _close_pool(self, pool: Any) -> None:
        """Close a pool that `_make_pool` made."""

    @abc.abstractmethod
    def _borrow(self) -> AbstractContextManager[SyncAdapter]:
        """Lend a connection of the pool, on which each statement is committed. Errors are the driver's."""

    @override
    def get_sync_connector(self) -> connector.BaseConnector:
        return self

    @override
    def open(self, pool: Any = None) -> None:
        with self._opening:
            if self._pool is not None:
                return
            if pool is not None:
                self._check_pool(pool)
            self._is_own_pool = pool is None
            self._pool = self._make_pool() if pool is None else pool

    @override
    def close(self) -> None:
        pool = self._forget_pool()
        if pool is not None:
            self._close_pool(pool)

    def _use(self, call: Callable[[SyncAdapter], T]) -> T:
        """Lend a connection of the pool to `call`."""
        with connections.errors_translated(self._translated), self._borrow() as adapter:
            return call(adapter)

    @override
    def _run(self, operation: Operation[T]) -> T:
        return self._use(lambda adapter: adapter.run(operation, self._rendering))

    @override
    async def _run_async(self, operation: Operation[T]) -> T:
        raise self._is_sync_only()

    @override
    def execute_query(self, query: str, **arguments: Any) -> None:
        if arguments:
            self.execute_query_all(query, **arguments)
        else:
            self._use(lambda adapter: adapter.script(query))

    @override
    def execute_query_one(self, query: str, **arguments: Any) -> dict[str, Any]:
        return first(self.execute_query_all(query, **arguments))

    @override
    def execute_query_all(self, query: str, **arguments: Any) -> list[dict[str, Any]]:
        return self._use(lambda adapter: adapter.query(query, arguments, self._rendering.json))


class AsyncPooledConnector(_PooledConnector, connector.BaseAsyncConnector):
    """An async connector with a pool. Sync calls work too: before it is open on a sync twin, then through its loop."""

    def __init__(self, **settings: Any) -> None:
        """Keep the settings; nothing is opened yet."""
        super().__init__(**settings)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sync_connector: connector.BaseConnector | None = None

    @abc.abstractmethod
    async def _make_pool(self) -> Any:
        """Return a new pool that works. Raises ConnectorException, and leaves nothing behind, if there can be none."""

    @abc.abstractmethod
    async def _close_pool(self, pool: Any) -> None:
        """Close a pool that `_make_pool` made."""

    @abc.abstractmethod
    def _borrow(self) -> AbstractAsyncContextManager[AsyncAdapter]:
        """Lend a connection of the pool, on which each statement is committed. Errors are the driver's."""

    @abc.abstractmethod
    def _make_sync_connector(self, **pool_arguments: Any) -> connector.BaseConnector:
        """Return a sync connector with the same settings."""

    @override
    def get_sync_connector(self) -> connector.BaseConnector:
        if self._pool is not None:
            return self
        if self._sync_connector is None:
            self._sync_connector = self._make_sync_connector()
        return self._sync_connector

    @override
    async def open_async(self, pool: Any = None) -> None:
        if self._pool is not None:
            return
        if pool is not None:
            self._check_pool(pool)
        opened = await self._make_pool() if pool is None else pool
        if self._pool is not None:  # another task was faster
            if pool is None:
                await self._close_pool(opened)
            return
        self._pool, self._is_own_pool, self._loop = opened, pool is None, asyncio.get_running_loop()
        twin, self._sync_connector = self._sync_connector, None
        if twin is not None:
            twin.close()

    @override
    async def close_async(self) -> None:
        self._loop = None
        pool = self._forget_pool()
        if pool is not None:
            await self._close_pool(pool)

    @override
    def open(self, pool: Any = None) -> None:
        """Do nothing: the app is open already, asynchronously, and sync calls go that way."""

    @override
    def close(self) -> None:
        """Do nothing: what `open_async` opened, `close_async` closes."""

    async def _use(self, call: Callable[[AsyncAdapter], Awaitable[T]]) -> T:
        """Lend a connection of the pool to `call`."""

        async def use() -> T:
            with connections.errors_translated(self._translated):
                async with self._borrow() as adapter:
                    return await call(adapter)

        home = self._loop
        if home is None or not home.is_running() or home is asyncio.get_running_loop():
            return await use()
        # A thread with a loop of its own, as in `asyncio.run(task.defer_async())`: who waits there for a connection,
        # the pool's own loop would never wake.
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(use(), home))

    @override
    async def _run_async(self, operation: Operation[T]) -> T:
        return await self._use(lambda adapter: adapter.run(operation, self._rendering))

    @override
    async def execute_query_async(self, query: str, **arguments: Any) -> None:
        if arguments:
            await self.execute_query_all_async(query, **arguments)
        else:
            await self._use(lambda adapter: adapter.script(query))

    @override
    async def execute_query_one_async(self, query: str, **arguments: Any) -> dict[str, Any]:
        return first(await self.execute_query_all_async(query, **arguments))

    @override
    async def execute_query_all_async(self, query: str, **arguments: Any) -> list[dict[str, Any]]:
        return await self._use(lambda adapter: adapter.query(query, arguments, self._rendering.json))

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
    def _run(self, operation: Operation[T]) -> T:
        return self._bridge(lambda: self._run_async(operation), "A sync method")

    @override
    def execute_query(self, query: str, **arguments: Any) -> None:
        return self._bridge(lambda: self.execute_query_async(query, **arguments), "execute_query")

    @override
    def execute_query_one(self, query: str, **arguments: Any) -> dict[str, Any]:
        return self._bridge(lambda: self.execute_query_one_async(query, **arguments), "execute_query_one")

    @override
    def execute_query_all(self, query: str, **arguments: Any) -> list[dict[str, Any]]:
        return self._bridge(lambda: self.execute_query_all_async(query, **arguments), "execute_query_all")


def first(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the first row. Raises NoResult if there is none."""
    if not rows:
        raise exceptions.NoResult("The query found no row")
    return rows[0]


@contextlib.contextmanager
def opening(translated: Translation) -> Generator[None]:
    """Turn a driver's failure to connect into our error, which says what to look at."""
    try:
        with connections.errors_translated(translated):
            yield
    except exceptions.ConnectorException as error:
        lost = isinstance(error, exceptions.ConnectionLost)
        raise (exceptions.ConnectionLost if lost else exceptions.ConnectorException)(
            "No connection to the database: check that the server runs, and the connection settings (the connector's "
            f"arguments, or the PG* environment variables). {error}"
        ) from error.__cause__
