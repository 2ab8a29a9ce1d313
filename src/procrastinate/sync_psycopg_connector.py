"""The sync connector on psycopg 3."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import psycopg
import psycopg_pool
from typing_extensions import override

from procrastinate import connections, exceptions, pooled_connector
from procrastinate.connections import psycopg as driver

# What `psycopg.connect` takes besides libpq's parameters.
CONNECT_ARGUMENTS = ("autocommit", "prepare_threshold", "context", "row_factory", "cursor_factory")

# The pool's pauses between two tries to connect double until it gives up; whoever needs a connection then makes it
# begin anew. By its own default it gives up after five minutes, and after an outage of 90 seconds it slept for 36 more.
POOL_DEFAULTS = {"reconnect_timeout": 10.0}


class SyncPsycopgConnector(pooled_connector.SyncPooledConnector):
    """Runs operations on psycopg 3, synchronously: to defer and manage jobs, not to run a worker."""

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
            **kwargs: for `psycopg_pool.ConnectionPool`: `conninfo`, `kwargs`, `min_size`, `max_size`, `timeout`, …
                and for its connections: `host`, `port`, `dbname`, `user`, `password`, … Without any the PG*
                environment variables apply, and there are one to four connections, as they are needed.
        """
        super().__init__(json_dumps=json_dumps, json_loads=json_loads, schema=schema)
        self._arguments = pool_arguments(kwargs)

    @property
    def pool(self) -> psycopg_pool.ConnectionPool[Any]:
        """The pool in use. Raises AppNotOpen if there is none."""
        return self._opened_pool

    @override
    def _check_pool(self, pool: Any) -> None:
        if isinstance(pool, psycopg_pool.AsyncConnectionPool):
            raise exceptions.ConnectorException(
                "open() was given an async pool: use open_async() with an async connector, or a "
                "psycopg_pool.ConnectionPool."
            )

    @override
    def _make_pool(self) -> psycopg_pool.ConnectionPool[Any]:
        arguments: dict[str, Any] = {**POOL_DEFAULTS, **pool_sizes(self._arguments), **self._arguments, "open": False}
        pool = psycopg_pool.ConnectionPool(**arguments)
        with pooled_connector.opening(translated):
            try:
                pool.open(wait=True, timeout=pool.timeout)
            except BaseException:
                pool.close()
                raise
        return pool

    @override
    def _close_pool(self, pool: psycopg_pool.ConnectionPool[Any]) -> None:
        pool.close()

    @override
    def _translated(self, error: Exception) -> exceptions.ProcrastinateException | None:
        return translated(error)

    @override
    def _borrow(self) -> contextlib.AbstractContextManager[connections.SyncAdapter]:
        return driver.lend(self.pool)


def translated(error: Exception) -> exceptions.ProcrastinateException | None:
    """Return our error for one of psycopg or of its pool, None for another kind."""
    match error:
        case psycopg_pool.PoolClosed():
            return exceptions.AppNotOpen()
        case psycopg_pool.PoolTimeout():
            return exceptions.ConnectionLost(f"No connection to the database could be had in time: {error}")
        case _:
            return driver.translated(error)


def pool_sizes(arguments: dict[str, Any]) -> dict[str, int]:
    """Return how many connections a pool has that these arguments say nothing of, as many as it would have at most.

    It lends them in turn. A client that defers one job after the other would go round all those that stand ready, and
    each server process would have cooled down: with four of them a job took 40 µs more of the client's processor time
    and 80 µs more of the server's. So it begins with one, and grows to what is needed at a time.
    """
    # With no most, the least would be that as well.
    is_open_ended = arguments.get("max_size", 4) is None
    return {} if "min_size" in arguments or is_open_ended else {"min_size": 1, "max_size": 4}


def pool_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments for a pool, with those that are meant for its connections in `kwargs`.

    Raises TypeError if they can be added to nothing, because `kwargs` is a function.
    """
    libpq = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    ours = {name: value for name, value in arguments.items() if name in libpq or name in CONNECT_ARGUMENTS}
    if not ours:
        return arguments
    kwargs: Any = arguments.get("kwargs") or {}
    if callable(kwargs):
        raise TypeError(f"kwargs is a function here: have it return {', '.join(sorted(ours))} too")
    others = {name: value for name, value in arguments.items() if name not in ours}
    return {**others, "kwargs": {**kwargs, **ours}}
