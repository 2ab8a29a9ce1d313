"""The connector on aiopg."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

import aiopg
import psycopg2.extras
from typing_extensions import override

from procrastinate import connections, connector, exceptions, pooled_connector
from procrastinate.connections import aiopg as driver
from procrastinate.connections import psycopg2 as sync_driver
from procrastinate.contrib.psycopg2 import Psycopg2Connector

__all__ = ["AiopgConnector"]

logger = logging.getLogger(__name__)

DEFAULTS: dict[str, Any] = {
    "dsn": "",
    "enable_json": False,
    "enable_hstore": False,
    "enable_uuid": False,
    "cursor_factory": psycopg2.extras.RealDictCursor,
}
# Arguments of the pool that its connections do not take, and those that psycopg2 does not take.
POOL_ONLY = ("minsize", "maxsize", "pool_recycle", "on_connect")
AIOPG_ONLY = (*POOL_ONLY, "timeout", "enable_json", "enable_hstore", "enable_uuid", "echo")


class AiopgConnector(pooled_connector.AsyncPooledConnector):
    """Runs operations on aiopg, and workers; sync calls work too, on psycopg2 before the app is open."""

    def __init__(
        self,
        *,
        json_dumps: Callable[[Any], Any] | None = None,
        json_loads: Callable[[Any], Any] | None = None,
        schema: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep the settings; nothing is opened yet.

        Args:
            json_dumps: writes arguments as JSON, in place of `json.dumps`.
            json_loads: reads arguments from JSON, in place of `json.loads`.
            schema: where the tables are, in place of the first schema of the search_path that has them.
            **kwargs: for `aiopg.create_pool` and its connections: `minsize`, `maxsize`, `dsn`, `host`, … Without any
                the PG* environment variables apply.
        """
        super().__init__(json_dumps=json_dumps, json_loads=json_loads, schema=schema)
        self._arguments = {**DEFAULTS, **kwargs}

    @property
    def pool(self) -> aiopg.Pool:
        """The pool in use. Raises AppNotOpen if there is none."""
        return self._opened_pool

    @override
    async def _make_pool(self) -> aiopg.Pool:
        with pooled_connector.opening(sync_driver.translated):
            return await aiopg.create_pool(**self._arguments)

    @override
    async def _close_pool(self, pool: aiopg.Pool) -> None:
        pool.terminate()  # what is in use is nobody's any more; `close` would wait for it
        await pool.wait_closed()

    @override
    def _translated(self, error: Exception) -> exceptions.ProcrastinateException | None:
        return sync_driver.translated(error)

    @override
    @contextlib.asynccontextmanager
    async def _borrow(self) -> AsyncGenerator[connections.AsyncAdapter]:
        pool = self.pool
        connection = await _live_connection(pool)
        try:
            yield driver.AiopgAdapter(connection)
        finally:
            await pool.release(connection)

    @override
    async def listen_notify(
        self,
        on_notification: connector.Notify,
        channels: Iterable[str],
        on_listening: Callable[[], None] | None = None,
    ) -> None:
        pool = self.pool
        if self._is_own_pool:
            # Outside the pool: LISTEN belongs to one session for as long as the worker lives.
            arguments = {name: value for name, value in self._arguments.items() if name not in POOL_ONLY}
            with connections.errors_translated(sync_driver.translated):
                connection = await aiopg.connect(**arguments)
            try:
                await driver.listen(connection, on_notification, channels, on_listening)
            finally:
                await connection.close()
        elif (pool.maxsize or 0) > 1:
            # Only the caller's pool knows how to connect.
            connection = await pool.acquire()
            try:
                await driver.listen(connection, on_notification, channels, on_listening)
            finally:
                await connection.close()  # not to go back to the pool with a subscription
                await pool.release(connection)
        else:
            logger.warning(
                "Listening is off: the pool has one connection, which it would hold all the time. The worker polls.",
                extra={"action": "listen_notify_disabled"},
            )

    @override
    def side_connector(self) -> connector.BaseConnector | None:
        return self._make_sync_connector(minconn=1, maxconn=1) if self._is_own_pool else None

    @override
    def _make_sync_connector(self, **pool_arguments: Any) -> Psycopg2Connector:
        arguments = {name: value for name, value in self._arguments.items() if name not in AIOPG_ONLY}
        arguments |= {"minconn": self._arguments.get("minsize", 1), "maxconn": self._arguments.get("maxsize") or 10}
        return Psycopg2Connector(**self._settings, **(arguments | pool_arguments))


async def _live_connection(pool: aiopg.Pool) -> Any:
    """Take a connection that the server has not closed meanwhile."""
    tries = (pool.maxsize or pool.size) + 1
    for _ in range(tries):
        connection = await pool.acquire()
        if not connection.closed and sync_driver.is_alive(connection.raw):
            return connection
        await connection.close()
        await pool.release(connection)
    raise exceptions.ConnectionLost(f"Could not get a valid connection after {tries} tries")
