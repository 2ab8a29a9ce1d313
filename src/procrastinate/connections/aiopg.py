"""Connections of aiopg."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import aiopg
from typing_extensions import override

from procrastinate import connector, exceptions
from procrastinate.connections import psycopg2
from procrastinate.connections.adapter import Adapter, AsyncDriverAdapter, JsonFunctions
from procrastinate.store.operation import Row
from procrastinate.store.postgres import Statement, identifier


def adapt(connection: Any) -> Adapter | None:
    """Return the adapter for a connection of aiopg."""
    return AiopgAdapter(connection) if isinstance(connection, aiopg.Connection) else None


class AiopgAdapter(AsyncDriverAdapter):
    """A connection of aiopg."""

    kind = "an aiopg connection"

    @property
    @override
    def commits_each_statement(self) -> bool:
        # The driver never begins a transaction by itself.
        return self.connection.raw.get_transaction_status() == psycopg2.IDLE

    @override
    def translated(self, error: Exception) -> exceptions.ConnectorException | None:
        if isinstance(error, TimeoutError):
            return exceptions.ConnectionLost(f"The server did not answer within {self.connection.timeout} s")
        return psycopg2.translated(error)

    @override
    async def execute(self, statement: Statement) -> Sequence[Row]:
        async with self.connection.cursor(cursor_factory=psycopg2.PLAIN_CURSOR) as cursor:
            await cursor.execute(statement.text, statement.parameters)
            return await cursor.fetchall() if cursor.description else []

    @override
    async def query(self, text: str, arguments: Mapping[str, Any], json: JsonFunctions) -> list[dict[str, Any]]:
        with self.errors_translated():
            async with self.connection.cursor(cursor_factory=psycopg2.PLAIN_CURSOR) as cursor:
                psycopg2.read_json(cursor.raw, json)
                await cursor.execute(*psycopg2.user_query(text, arguments, json))
                if not cursor.description:
                    return []
                return psycopg2.rows(cursor.description, await cursor.fetchall())


async def listen(
    connection: Any,
    on_notification: connector.Notify,
    channels: Iterable[str],
    on_listening: Callable[[], None] | None,
) -> None:
    """Listen on a connection until it is lost."""
    adapter = AiopgAdapter(connection)
    with adapter.errors_translated():
        for channel in channels:
            await adapter.execute(Statement(f"listen {identifier(channel).replace('%', '%%')}"))
        if on_listening is not None:
            on_listening()
        # One task for each, however long it takes: a `get` that is cancelled may lose what it has just got.
        arrival = asyncio.ensure_future(connection.notifies.get())
        try:
            while True:
                await asyncio.wait([arrival], timeout=connector.LISTEN_TIMEOUT)
                if not arrival.done():
                    # Silence may mean that nothing happens, or that nobody is there any more.
                    await adapter.execute(Statement("select 1"))
                    continue
                notification = arrival.result()
                arrival = asyncio.ensure_future(connection.notifies.get())
                await on_notification(channel=notification.channel, payload=notification.payload)
        finally:
            arrival.cancel()
