"""Connections of asyncpg."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
import asyncpg.pool  # pyright: ignore[reportMissingTypeStubs]
from typing_extensions import override

from procrastinate import connector, exceptions
from procrastinate.connections.adapter import Adapter, AsyncDriverAdapter, JsonFunctions, by_sqlstate, with_json
from procrastinate.store.operation import Row
from procrastinate.store.postgres import Statement, with_lone_percents

# The types of PostgreSQL that hold JSON, by their fixed numbers: json and jsonb.
JSON_TYPES = (114, 3802)


def adapt(connection: Any) -> Adapter | None:
    """Return the adapter for a connection of asyncpg, also where a pool lends it."""
    if isinstance(connection, asyncpg.Connection | asyncpg.pool.PoolConnectionProxy):
        return AsyncpgAdapter(connection)
    return None


class AsyncpgAdapter(AsyncDriverAdapter):
    """A connection of asyncpg."""

    kind = "an asyncpg Connection"

    def __init__(self, connection: Any, *, may_have_codecs: bool = True) -> None:
        """Speak on `connection`; `may_have_codecs` if somebody may have taught it to take and give JSON as objects."""
        super().__init__(connection)
        self._may_have_codecs = may_have_codecs

    @property
    @override
    def commits_each_statement(self) -> bool:
        return not self.connection.is_in_transaction()

    @override
    def translated(self, error: Exception) -> exceptions.ConnectorException | None:
        return translated(error)

    @override
    async def execute(self, statement: Statement) -> Sequence[Row]:
        text, values = statement.numbered()
        return [tuple(record) for record in await self.connection.fetch(text, *values)]

    @override
    async def query(self, text: str, arguments: Mapping[str, Any], json: JsonFunctions) -> list[dict[str, Any]]:
        with self.errors_translated():
            # A text is what the driver itself makes of JSON.
            if self._may_have_codecs and await self.connection.fetchval("select '{}'::jsonb") != "{}":
                json = _AS_IT_IS
            sql, values = user_query(text, arguments, json)
            prepared = await self.connection.prepare(sql)
            types = [column.type.oid for column in prepared.get_attributes()]
            records = await prepared.fetch(*values)
            return [dict(zip(record.keys(), read_json(types, record, json), strict=True)) for record in records]

    @override
    async def script(self, text: str) -> None:
        with self.errors_translated():
            await self.connection.execute(text)


class _AsItIs:
    """JSON functions for connections with some of their own."""

    def dumps(self, value: Any) -> Any:
        return value

    def loads(self, text: Any) -> Any:
        return text


_AS_IT_IS = _AsItIs()


def user_query(text: str, arguments: Mapping[str, Any], json: JsonFunctions) -> tuple[str, tuple[Any, ...]]:
    """Return the user's own SQL with `$n` placeholders, and their values in order."""
    if not arguments:
        return text, ()
    values = {name: with_json(value, json.dumps) for name, value in arguments.items()}
    return Statement(with_lone_percents(text), values).numbered()


def read_json(types: Sequence[int], values: Iterable[Any], json: JsonFunctions) -> Iterable[Any]:
    """Return the values of a row, with those of JSON types read."""
    return (
        json.loads(value) if type_ in JSON_TYPES and value is not None else value
        for type_, value in zip(types, values, strict=True)
    )


def translated(error: Exception) -> exceptions.ConnectorException | None:
    """Return our error for one of asyncpg, None for another kind."""
    match error:
        case asyncpg.PostgresError():
            return by_sqlstate(error, is_about_a_value=False)
        case asyncpg.InterfaceError() if isinstance(error, ValueError):
            return by_sqlstate(error, is_about_a_value=True)
        case asyncpg.InterfaceError() if "closed" not in str(error):
            return exceptions.ConnectorException(str(error))  # the connection was used in a wrong way
        case asyncpg.InterfaceError() | OSError():
            # What the socket reports comes through as it is.
            return exceptions.ConnectionLost(f"{error}" or type(error).__name__)
        case _:
            return None


async def listen(
    connection: Any,
    on_notification: connector.Notify,
    channels: Iterable[str],
    on_listening: Callable[[], None] | None,
) -> None:
    """Listen on a connection until it is lost."""
    arrived: asyncio.Queue[tuple[str, str] | None] = asyncio.Queue()

    def lost(_: Any) -> None:
        arrived.put_nowait(None)

    def receive(_connection: Any, _pid: int, channel: str, payload: object) -> None:
        arrived.put_nowait((channel, str(payload)))

    names = list(channels)
    connection.add_termination_listener(lost)
    try:
        for name in names:
            await connection.add_listener(name, receive)
        if on_listening is not None:
            on_listening()
        while True:
            try:
                async with asyncio.timeout(connector.LISTEN_TIMEOUT):
                    notification = await arrived.get()
            except TimeoutError:
                # Silence may mean that nothing happens, or that nobody is there any more.
                await connection.fetchval("select 1", timeout=connector.LISTEN_TIMEOUT)
                continue
            if notification is None:
                raise exceptions.ConnectionLost("The server closed the connection that listens")
            channel, payload = notification
            await on_notification(channel=channel, payload=payload)
    finally:
        # A connection that goes back to a pool must not be listening.
        if not connection.is_closed():
            connection.remove_termination_listener(lost)
            for name in names:
                await connection.remove_listener(name, receive)


async def disconnect(connection: Any) -> None:
    """Close a connection at once; a lost server would not answer to a farewell."""
    connection.terminate()
