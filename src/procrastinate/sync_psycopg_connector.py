"""The sync connector on psycopg 3, and what it shares with the async one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any, LiteralString, TypeVar, cast

import psycopg
import psycopg.rows
import psycopg_pool
from typing_extensions import override

from procrastinate import connector, exceptions
from procrastinate.store import postgres
from procrastinate.store.operation import Operation

T = TypeVar("T")

# A batch that is undone on the caller's own transaction: only this part of it.
SAVEPOINT = "savepoint procrastinate"
ROLLBACK = "rollback to savepoint procrastinate"
RELEASE = "release savepoint procrastinate"


def as_query(text: str) -> LiteralString:
    """Tell the type checker that this text is trusted: a file of the package, or the user's own SQL."""
    return cast("LiteralString", text)


@contextlib.contextmanager
def errors_translated() -> Generator[None]:
    """Turn the driver's errors into ours, with the original as their cause."""
    try:
        yield
    except psycopg_pool.PoolClosed as error:
        raise exceptions.AppNotOpen from error
    except psycopg_pool.PoolTimeout as error:
        raise exceptions.ConnectionLost(f"No connection to the database could be had in time: {error}") from error
    except psycopg.Error as error:
        # Errors that the driver finds itself carry no SQLSTATE; those about a value are not the connection's fault.
        if error.sqlstate is None and isinstance(error, psycopg.DataError | psycopg.ProgrammingError):
            raise exceptions.InvalidData(f"PostgreSQL cannot store this value: {error}") from error
        raise postgres.translate_error(
            error.sqlstate, str(error).strip(), constraint=error.diag.constraint_name
        ) from error


def pool_failed(error: Exception, seconds: float) -> exceptions.ConnectionLost:
    """Return the error for a pool that could not connect."""
    return exceptions.ConnectionLost(
        f"No connection to the database within {seconds:g} s: {error}. Check that the server runs, and the connection "
        "settings: the connector's arguments, or the PG* environment variables."
    )


class SyncPsycopgConnector(connector.BaseConnector):
    """Runs operations on psycopg 3, synchronously: to defer and manage jobs, not to run a worker."""

    def __init__(
        self,
        *,
        json_dumps: Callable[[Any], Any] | None = None,
        json_loads: Callable[[Any], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep the settings; nothing is opened yet.

        Args:
            json_dumps: writes arguments as JSON, in place of `json.dumps`.
            json_loads: reads arguments from JSON, in place of `json.loads`.
            **kwargs: for `psycopg_pool.ConnectionPool`: `conninfo`, `kwargs`, `min_size`, `max_size`, `timeout`, …
                Without `conninfo` the PG* environment variables apply.
        """
        self.json_dumps = json_dumps
        self.json_loads = json_loads
        self._json = postgres.JsonText(json_dumps, json_loads)
        self._pool_arguments: dict[str, Any] = {
            "check": psycopg_pool.ConnectionPool.check_connection,
            **kwargs,
            "open": False,
        }
        self._pool: psycopg_pool.ConnectionPool[Any] | None = None
        self._is_own_pool = False

    @property
    def pool(self) -> psycopg_pool.ConnectionPool[Any]:
        """The pool in use. Raises AppNotOpen if there is none."""
        if self._pool is None:
            raise exceptions.AppNotOpen
        return self._pool

    @override
    def get_sync_connector(self) -> SyncPsycopgConnector:
        return self

    @override
    def open(self, pool: psycopg_pool.ConnectionPool[Any] | None = None) -> None:
        if self._pool is not None:
            return
        if pool is not None:
            self._pool, self._is_own_pool = pool, False
            return
        new_pool = psycopg_pool.ConnectionPool(**self._pool_arguments)
        try:
            new_pool.open(wait=True, timeout=new_pool.timeout)
        except psycopg_pool.PoolTimeout as error:
            new_pool.close()
            raise pool_failed(error, new_pool.timeout) from error
        self._pool, self._is_own_pool = new_pool, True

    @override
    def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None and self._is_own_pool:
            pool.close()

    @override
    def run(self, operation: Operation[T], connection: Any = None) -> T:
        with errors_translated():
            if connection is not None:
                return self._run_in_transaction(operation, connection)
            with self.pool.connection() as own:
                return self._run_on(operation, own)

    def _run_on(self, operation: Operation[T], connection: psycopg.Connection[Any]) -> T:
        with connection.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
            cursor.execute(as_query(postgres.statement(operation)), operation.parameters(self._json))
            rows = cursor.fetchall() if cursor.description else []
        return operation.decode(rows, self._json)

    def _run_in_transaction(self, operation: Operation[T], connection: Any) -> T:
        if not isinstance(connection, psycopg.Connection):
            raise exceptions.ConnectorException(
                f"connection= takes a psycopg.Connection here, not a {type(connection).__name__}"
            )
        connection = cast("psycopg.Connection[Any]", connection)
        if not operation.atomic:
            return self._run_on(operation, connection)
        if connection.autocommit:
            with connection.transaction():
                return self._run_on(operation, connection)
        # Not `connection.transaction()`: where none has begun it would commit at its end, and that is the caller's.
        connection.execute(SAVEPOINT)
        try:
            answer = self._run_on(operation, connection)
        except exceptions.ProcrastinateException:
            connection.execute(ROLLBACK)
            raise
        connection.execute(RELEASE)
        return answer

    @contextlib.contextmanager
    def _query(self, query: str, arguments: dict[str, Any]) -> Generator[psycopg.Cursor[dict[str, Any]]]:
        with (
            errors_translated(),
            self.pool.connection() as connection,
            connection.cursor(row_factory=psycopg.rows.dict_row) as cursor,
        ):
            cursor.execute(as_query(query), arguments or None)
            yield cursor

    @override
    def execute_query(self, query: str, **arguments: Any) -> None:
        with self._query(query, arguments):
            pass

    @override
    def execute_query_one(self, query: str, **arguments: Any) -> dict[str, Any]:
        with self._query(query, arguments) as cursor:
            row = cursor.fetchone()
        if row is None:
            raise exceptions.NoResult("The query found no row")
        return row

    @override
    def execute_query_all(self, query: str, **arguments: Any) -> list[dict[str, Any]]:
        with self._query(query, arguments) as cursor:
            return cursor.fetchall()
