"""Connections of psycopg 3."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, LiteralString, cast

import psycopg
import psycopg.rows
import psycopg.sql
import psycopg.types.json
from typing_extensions import override

from procrastinate import connector, coroutines, exceptions
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
        return self.connection.autocommit and self.connection.pgconn.transaction_status == IDLE

    @override
    def translated(self, error: Exception) -> exceptions.ConnectorException | None:
        return translated(error)


class PsycopgAdapter(_PsycopgAdapter, SyncDriverAdapter):
    """A sync connection of psycopg."""

    kind = "a psycopg.Connection"

    @override
    def execute(self, statement: Statement) -> Sequence[Row]:
        cursor = self.connection.cursor(row_factory=psycopg.rows.tuple_row)
        cursor.execute(
            as_query(statement.text), with_plain_arrays(statement.parameters), prepare=may_be_prepared(statement)
        )
        return cursor.fetchall() if has_rows(cursor) else []

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
        cursor = self.connection.cursor(row_factory=psycopg.rows.tuple_row)
        await cursor.execute(
            as_query(statement.text), with_plain_arrays(statement.parameters), prepare=may_be_prepared(statement)
        )
        return await cursor.fetchall() if has_rows(cursor) else []

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


def has_rows(cursor: psycopg.Cursor[Any] | psycopg.AsyncCursor[Any]) -> bool:
    """Tell whether there are rows to fetch, be it none, without having the driver describe their columns."""
    return cursor.rownumber is not None


def may_be_prepared(statement: Statement) -> bool | None:
    """Return what a cursor takes: False for a statement that is to be planned anew, None to leave it to the driver."""
    return False if statement.is_planned_anew else None


def as_query(text: str) -> LiteralString:
    """Tell the type checker that this text is trusted: a file of the package, or the user's own SQL."""
    return cast("LiteralString", text)


def with_plain_arrays(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of one of our statements, whose arrays all have a cast, with lists as the text of arrays.

    The driver looks at each element by itself, which takes 1 to 2 µs: as much as to run the smallest job a few times.
    """
    return {
        name: _plain_array(cast("list[Any]", value)) if isinstance(value, list) else value
        for name, value in parameters.items()
    }


def _plain_array(values: list[Any]) -> Any:
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
# begins its own transaction: without that, each takes one round trip in place of three. To set a connection to commit
# each statement sends nothing.
#
# A connection that the server closed while it was idle (a restart, a failover, pg_terminate_backend) is found out
# before it is used: the server has said so, and it stands in the socket. The pool's own check would ask the server, a
# second round trip for each statement, and would sleep a second or more after each closed connection that it finds. A
# host that vanished without a word is found out by neither.
#
# These are classes because each job that is deferred passes here: as generators they took as long again.


class lend(contextlib.AbstractContextManager[PsycopgAdapter]):  # noqa: N801  reads as a verb
    """Lend a connection of a pool, set to commit each statement, that the server has not closed."""

    __slots__ = ("_commits_anyway", "_connection", "_pool")

    def __init__(self, pool: psycopg_pool.ConnectionPool[Any]) -> None:
        self._pool = pool

    @override
    def __enter__(self) -> PsycopgAdapter:
        pool = self._pool
        connection = pool.getconn()
        while _is_closed(connection.pgconn):
            pool.putconn(connection)
            connection = pool.getconn()
        self._connection = connection
        self._commits_anyway = connection.autocommit
        try:
            if not self._commits_anyway:
                connection.autocommit = True
        except BaseException:
            pool.putconn(connection)
            raise
        return PsycopgAdapter(connection)

    @override
    def __exit__(self, *_: object) -> None:
        connection = self._connection
        try:
            if not self._commits_anyway:
                if connection.pgconn.transaction_status == IDLE:
                    connection.autocommit = False
                else:
                    connection.close()
        finally:
            self._pool.putconn(connection)


class lend_async(contextlib.AbstractAsyncContextManager[AsyncPsycopgAdapter]):  # noqa: N801
    """Do as `lend`, asynchronously."""

    __slots__ = ("_commits_anyway", "_connection", "_pool")

    def __init__(self, pool: psycopg_pool.AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    @override
    async def __aenter__(self) -> AsyncPsycopgAdapter:
        pool = self._pool
        connection = await pool.getconn()
        while _is_closed(connection.pgconn):
            await _give_back(pool, connection)
            connection = await pool.getconn()
        self._connection = connection
        self._commits_anyway = connection.autocommit
        try:
            if not self._commits_anyway:
                await connection.set_autocommit(True)
        except BaseException:
            await _give_back(pool, connection)
            raise
        return AsyncPsycopgAdapter(connection)

    @override
    async def __aexit__(self, *_: object) -> None:
        connection = self._connection
        try:
            if not self._commits_anyway:
                if connection.pgconn.transaction_status == IDLE:
                    await connection.set_autocommit(False)
                else:
                    await connection.close()
        finally:
            await _give_back(self._pool, connection)


async def _give_back(pool: psycopg_pool.AsyncConnectionPool[Any], connection: psycopg.AsyncConnection[Any]) -> None:
    """Return a connection to its pool, whatever becomes of the one who returns it.

    While others wait for connections, `putconn` waits for its turn. Cancelled there, as by a timeout around
    `defer_async` or a worker that stops, it would lose the connection, and with it the client that it has just taken
    from the queue: that one waits in vain, and after some such losses so does everybody.
    """
    rest = coroutines.start(pool.putconn(connection), contextvars.copy_context())
    if rest is not None:
        await asyncio.shield(asyncio.ensure_future(rest))


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
    ear = _Ear(connection, on_notification)
    for channel in channels:
        await connection.execute(psycopg.sql.SQL("listen {}").format(psycopg.sql.Identifier(channel)))
    if on_listening is not None:
        on_listening()
    while True:
        await ear.listen_until_silent(connector.LISTEN_TIMEOUT)
        # Silence may mean that nothing happens, or that nobody is there any more.
        try:
            async with asyncio.timeout(connector.LISTEN_TIMEOUT):
                await connection.execute("select 1")
        except TimeoutError as error:
            raise exceptions.ConnectionLost("The connection that listens is silent") from error


class _Ear:
    """Takes the first step with each notification at the moment at which it arrives, in the event loop's own callback.

    That is all that most of them take. A task would have to be woken first, which takes two more turns of the loop. And
    the driver's own `notifies` wakes up ten times a second, which was three quarters of what an idle worker cost.
    """

    def __init__(self, connection: psycopg.AsyncConnection[Any], on_notification: connector.Notify) -> None:
        self._connection = connection
        self._descriptor = connection.fileno()  # a lost connection has none any more
        self._on_notification = on_notification
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        # What is left to do with notifications, one after another.
        self._unfinished: collections.deque[Awaitable[None]] = collections.deque()
        self._failure: BaseException | None = None
        self._is_needed = asyncio.Event()
        self._heard_at = 0.0
        # The driver calls it too, for those that arrive with the answer to a statement.
        connection.add_notify_handler(self._hear)

    async def listen_until_silent(self, seconds: float) -> None:
        """Return when nothing has arrived for so many seconds. Raises what a handler raised, or the driver's error."""
        self._loop.add_reader(self._descriptor, self._read)
        try:
            self._read()  # what came with the answer to a statement stands no longer in the socket
            while self._loop.time() < self._heard_at + seconds:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(self._heard_at + seconds):
                        await self._is_needed.wait()
                await self._finish()
        finally:
            self._loop.remove_reader(self._descriptor)

    async def _finish(self) -> None:
        self._is_needed.clear()
        if self._failure is not None:
            raise self._failure
        while self._unfinished:
            await self._unfinished[0]
            self._unfinished.popleft()

    def _read(self) -> None:
        self._heard_at = self._loop.time()
        try:
            _read_notifications(self._connection.pgconn)
        except BaseException as error:  # noqa: BLE001  for the one who listens, not for the loop
            self._failure = error
            self._loop.remove_reader(self._descriptor)
            self._is_needed.set()

    def _hear(self, notification: psycopg.Notify) -> None:
        handling = self._handle(notification)
        rest = handling if self._unfinished else coroutines.start(handling, self._context)
        if rest is not None:
            self._unfinished.append(rest)
            self._is_needed.set()

    async def _handle(self, notification: psycopg.Notify) -> None:
        await self._on_notification(channel=notification.channel, payload=notification.payload)


def _read_notifications(pgconn: psycopg.pq.abc.PGconn) -> None:
    """Hand what has arrived to the handlers. Raises psycopg.OperationalError if the server has hung up."""
    pgconn.consume_input()
    while (notification := pgconn.notifies()) is not None:
        if pgconn.notify_handler is not None:
            pgconn.notify_handler(notification)


async def disconnect(connection: psycopg.AsyncConnection[Any]) -> None:
    """Close a connection at once."""
    await connection.close()
