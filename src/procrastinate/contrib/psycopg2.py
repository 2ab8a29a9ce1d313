"""The connector on psycopg2."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator
from typing import Any

import psycopg2.extras
import psycopg2.pool
from typing_extensions import override

from procrastinate import connections, exceptions, pooled_connector
from procrastinate.connections import psycopg2 as driver

__all__ = ["Psycopg2Connector"]

DEFAULTS: dict[str, Any] = {
    "minconn": 1,
    "maxconn": 10,
    "dsn": "",
    "cursor_factory": psycopg2.extras.RealDictCursor,
}
# Seconds to wait for a connection while all are in use.
PATIENCE = 30.0


class Psycopg2Connector(pooled_connector.SyncPooledConnector):
    """Runs operations on psycopg2, synchronously: to defer and manage jobs, not to run a worker."""

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
            **kwargs: for `psycopg2.pool.ThreadedConnectionPool` and its connections: `minconn` (1), `maxconn` (10),
                `dsn`, `host`, `cursor_factory`, … Without any the PG* environment variables apply.
        """
        super().__init__(json_dumps=json_dumps, json_loads=json_loads, schema=schema)
        self._arguments = {**DEFAULTS, **kwargs}

    @property
    def pool(self) -> psycopg2.pool.AbstractConnectionPool:
        """The pool in use. Raises AppNotOpen if there is none."""
        return self._opened_pool

    @override
    def _make_pool(self) -> _WaitingPool:
        with pooled_connector.opening(driver.translated):
            return _WaitingPool(**self._arguments)

    @override
    def _close_pool(self, pool: _WaitingPool) -> None:
        pool.closeall()

    @override
    def _translated(self, error: Exception) -> exceptions.ProcrastinateException | None:
        return driver.translated(error)

    @override
    @contextlib.contextmanager
    def _borrow(self) -> Generator[connections.SyncAdapter]:
        pool = self.pool
        connection = _live_connection(pool)
        try:
            with driver.autocommitting(connection) as ready:
                yield driver.Psycopg2Adapter(ready)
        finally:
            pool.putconn(connection, close=bool(connection.closed))


class _WaitingPool(psycopg2.pool.ThreadedConnectionPool):
    """A pool whose users wait while all its connections are in use, in place of an error."""

    def __init__(self, minconn: int, maxconn: int, **kwargs: Any) -> None:
        self._free = threading.BoundedSemaphore(maxconn)
        super().__init__(minconn, maxconn, **kwargs)  # pyright: ignore[reportUnknownMemberType]

    @override
    def getconn(self, key: Any = None) -> Any:
        if not self._free.acquire(timeout=PATIENCE):
            raise psycopg2.pool.PoolError(f"no connection was given back within {PATIENCE:g} s")
        try:
            return super().getconn(key)
        except BaseException:
            self._free.release()
            raise

    @override
    def putconn(self, conn: Any = None, key: Any = None, close: bool = False) -> None:
        super().putconn(conn, key, close)
        self._free.release()


def _live_connection(pool: Any) -> Any:
    """Take a connection that the server has not closed meanwhile."""
    tries = pool.maxconn + 1
    for _ in range(tries):
        connection = pool.getconn()
        if driver.is_alive(connection):
            return connection
        pool.putconn(connection, close=True)
    raise exceptions.ConnectionLost(f"Could not get a valid connection after {tries} tries")
