"""Connections of psycopg 3."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, LiteralString, cast

import psycopg
import psycopg.rows
import psycopg.sql
import psycopg.types.json
from typing_extensions import override

from procrastinate import connector, exceptions
from procrastinate.connections.adapter import (
    Adapter,
    AsyncDriverAdapter,
    DriverAdapter,
    JsonFunctions,
    SyncDriverAdapter,
    by_sqlstate,
    with_json,
)
from procrastinate.store.operation import Row
from procrastinate.store.postgres import Statement, with_lone_percents

if TYPE_CHECKING:
    import psycopg_pool

IDLE = psycopg.pq.TransactionStatus.IDLE


def adapt(connection: Any) -> Adapter | None:
    """Return the adapter for a connection of psycopg."""
    match connection:
        case psycopg.Connection():
            return PsycopgAdapter(connection)
        case psycopg.AsyncConnection():
            return AsyncPsycopgAdapter(connection)
        case _:
            return None


class _PsycopgAdapter(DriverAdapter):
    @property
    @override
    def commits_each_statement(self) -> bool:
        return self.connection.autocommit and self.connection.info.transaction_status == IDLE

    @override
    def translated(self, error: Exception) -> exceptions.ConnectorException | None:
        return translated(error)


class PsycopgAdapter(_PsycopgAdapter, SyncDriverAdapter):
    """A sync connection of psycopg."""

    kind = "a psycopg.Connection"

    @override
    def execute(self, statement: Statement) -> Sequence[Row]:
        with self.connection.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
            cursor.execute(as_query(statement.text), with_plain_arrays(statement.parameters))
            return cursor.fetchall() if cursor.description else []

    @override
    def query(self, text: str, arguments: Mapping[str, Any], json: JsonFunctions) -> list[dict[str, Any]]:
        with self.errors_translated(), self.connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            psycopg.types.json.set_json_loads(_loads(json), cursor)
            cursor.execute(*user_query(text, arguments, json))
            return cursor.fetchall() if cursor.description else []


class AsyncPsycopgAdapter(_PsycopgAdapter, AsyncDriverAdapter):
    """An async connection of psycopg."""

    kind = "a psycopg.AsyncConnection"

    @override
    async def execute(self, statement: Statement) -> Sequence[Row]:
        async with self.connection.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
            await cursor.execute(as_query(statement.text), with_plain_arrays(statement.parameters))
            return await cursor.fetchall() if cursor.description else []

    @override
    async def query(self, text: str, arguments: Mapping[str, Any], json: JsonFunctions) -> list[dict[str, Any]]:
        with self.errors_translated():
            async with self.connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
                psycopg.types.json.set_json_loads(_loads(json), cursor)
                await cursor.execute(*user_query(text, arguments, json))
                return await cursor.fetchall() if cursor.description else []


def translated(error: Exception) -> exceptions.ConnectorException | None:
    """Return our error for one of psycopg, None for another kind."""
    if not isinstance(error, psycopg.Error):
        return None
    # Errors that the driver finds itself carry no SQLSTATE; those about a value are not the connection's fault.
    return by_sqlstate(error, is_about_a_value=isinstance(error, psycopg.DataError | psycopg.ProgrammingError))


@functools.cache
def _loads(json: JsonFunctions) -> Callable[[Any], Any]:
    # The driver keeps classes by the function's code, which is the same for all bound methods: give it none.
    return functools.partial(json.loads)


def as_query(text: str) -> LiteralString:
    """Tell the type checker that this text is trusted: a file of the package, or the user's own SQL."""
    return cast("LiteralString", text)


def with_plain_arrays(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of one of our statements, whose arrays all have a cast, with lists as the text of arrays.

    The driver looks at each element by itself, which takes 1 to 2 µs: as much as to run the smallest job a few times.
    """
    return {name: _plain_array(value) for name, value in parameters.items()}


def _plain_array(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    values = cast("list[Any]", value)
    kinds = set(map(type, values))
    if kinds == {int}:
        return f"{{{','.join(map(str, values))}}}"
    if kinds == {str}:
        text = '","'.join(values)
        if text.count('"') == 2 * (len(values) - 1) and "\\" not in text:
            return f'{{"{text}"}}'
    return values


def user_query(
    text: str, arguments: Mapping[str, Any], json: JsonFunctions
) -> tuple[LiteralString, dict[str, Any] | None]:
    """Return what a cursor executes for the user's own SQL."""
    if not arguments:
        return as_query(text), None  # without parameters, the server takes several statements at once
    values = {
        name: with_json(value, lambda item: psycopg.types.json.Jsonb(item, json.dumps))
        for name, value in arguments.items()
    }
    return as_query(with_lone_percents(text)), values


# A pool's connections begin a transaction by themselves, as users of the pool expect. What we run is one statement, or
# begins its own transaction: without that, each takes one round trip in place of three.


@contextlib.contextmanager
def autocommitting(connection: psycopg.Connection[Any]) -> Generator[psycopg.Connection[Any]]:
    """Set a connection to commit each statement, for a while. This sends nothing."""
    if connection.autocommit:
        yield connection
        return
    connection.autocommit = True
    try:
        yield connection
    finally:
        if connection.info.transaction_status == IDLE:
            connection.autocommit = False
        else:
            connection.close()


@contextlib.asynccontextmanager
async def autocommitting_async(
    connection: psycopg.AsyncConnection[Any],
) -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
    """Do as `autocommitting`, asynchronously."""
    if connection.autocommit:
        yield connection
        return
    await connection.set_autocommit(True)
    try:
        yield connection
    finally:
        if connection.info.transaction_status == IDLE:
            await connection.set_autocommit(False)
        else:
            await connection.close()


# A connection that the server closed while it was idle (a restart, a failover, pg_terminate_backend) is found out
# before it is used: the server has said so, and it stands in the socket. The pool's own check would ask the server, a
# second round trip for each statement, and would sleep a second or more after each closed connection that it finds. A
# host that vanished without a word is found out by neither.


@contextlib.contextmanager
def lend(pool: psycopg_pool.ConnectionPool[Any]) -> Generator[psycopg.Connection[Any]]:
    """Lend a connection of a pool, set to commit each statement, that the server has not closed."""
    connection = pool.getconn()
    while _is_closed(connection.pgconn):
        pool.putconn(connection)
        connection = pool.getconn()
    try:
        with autocommitting(connection):
            yield connection
    finally:
        pool.putconn(connection)


@contextlib.asynccontextmanager
async def lend_async(pool: psycopg_pool.AsyncConnectionPool[Any]) -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
    """Do as `lend`, asynchronously."""
    connection = await pool.getconn()
    while _is_closed(connection.pgconn):
        await pool.putconn(connection)
        connection = await pool.getconn()
    try:
        async with autocommitting_async(connection):
            yield connection
    finally:
        await pool.putconn(connection)


def _is_closed(pgconn: psycopg.pq.abc.PGconn) -> bool:
    try:
        # The server's farewell comes first, and the end of the stream after it.
        pgconn.consume_input()
        pgconn.consume_input()
    except psycopg.OperationalError:
        return True  # and the pool, to which it is given back, sees that as well
    return False


async def listen(
    connection: psycopg.AsyncConnection[Any],
    on_notification: connector.Notify,
    channels: Iterable[str],
    on_listening: Callable[[], None] | None,
) -> None:
    """Listen on a connection that commits each statement, until it is lost."""
    for channel in channels:
        await connection.execute(psycopg.sql.SQL("listen {}").format(psycopg.sql.Identifier(channel)))
    if on_listening is not None:
        on_listening()
    while True:
        async for notification in connection.notifies(timeout=connector.LISTEN_TIMEOUT):
            await on_notification(channel=notification.channel, payload=notification.payload)
        # Silence may mean that nothing happens, or that nobody is there any more.
        try:
            async with asyncio.timeout(connector.LISTEN_TIMEOUT):
                await connection.execute("select 1")
        except TimeoutError as error:
            raise exceptions.ConnectionLost("The connection that listens is silent") from error


async def disconnect(connection: psycopg.AsyncConnection[Any]) -> None:
    """Close a connection at once."""
    await connection.close()
