"""Connections of psycopg2."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import psycopg2
import psycopg2.extensions
import psycopg2.extras
from typing_extensions import override

from procrastinate import exceptions
from procrastinate.connections.adapter import Adapter, JsonFunctions, SyncDriverAdapter, by_sqlstate, with_json
from procrastinate.store.operation import Row
from procrastinate.store.postgres import Statement, with_lone_percents

IDLE = psycopg2.extensions.TRANSACTION_STATUS_IDLE
PLAIN_CURSOR = psycopg2.extensions.cursor


def adapt(connection: Any) -> Adapter | None:
    """Return the adapter for a connection of psycopg2."""
    return Psycopg2Adapter(connection) if isinstance(connection, psycopg2.extensions.connection) else None


class Psycopg2Adapter(SyncDriverAdapter):
    """A connection of psycopg2."""

    kind = "a psycopg2 connection"

    @property
    @override
    def commits_each_statement(self) -> bool:
        return self.connection.autocommit and self.connection.get_transaction_status() == IDLE

    @override
    def translated(self, error: Exception) -> exceptions.ConnectorException | None:
        return translated(error)

    @override
    def execute(self, statement: Statement) -> Sequence[Row]:
        with self.connection.cursor(cursor_factory=PLAIN_CURSOR) as cursor:
            cursor.execute(statement.text, statement.parameters)
            return cursor.fetchall() if cursor.description else []

    @override
    def query(self, text: str, arguments: Mapping[str, Any], json: JsonFunctions) -> list[dict[str, Any]]:
        with self.errors_translated(), self.connection.cursor(cursor_factory=PLAIN_CURSOR) as cursor:
            read_json(cursor, json)
            cursor.execute(*user_query(text, arguments, json))
            return rows(cursor.description, cursor.fetchall()) if cursor.description else []


def translated(error: Exception) -> exceptions.ConnectorException | None:
    """Return our error for one of psycopg2, None for another kind."""
    match error:
        case psycopg2.Error():
            return by_sqlstate(
                error, is_about_a_value=isinstance(error, psycopg2.DataError | psycopg2.ProgrammingError)
            )
        case ValueError() if "NUL" in str(error):
            return by_sqlstate(error, is_about_a_value=True)
        case _:
            return None


def read_json(cursor: Any, json: JsonFunctions) -> None:
    """Have a cursor read JSON with `json`. This sends nothing: the types' numbers are fixed."""
    psycopg2.extras.register_default_json(cursor, loads=json.loads)
    psycopg2.extras.register_default_jsonb(cursor, loads=json.loads)


def user_query(text: str, arguments: Mapping[str, Any], json: JsonFunctions) -> tuple[str, dict[str, Any] | None]:
    """Return what a cursor executes for the user's own SQL."""
    if not arguments:
        return text, None
    values = {name: with_json(value, lambda item: _Jsonb(item, json.dumps)) for name, value in arguments.items()}
    return with_lone_percents(text), values


class _Jsonb(psycopg2.extras.Json):
    """JSON whose type the server need not guess."""

    @override
    def getquoted(self) -> bytes:
        return super().getquoted() + b"::jsonb"


def rows(description: Sequence[Any], found: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows as dictionaries."""
    names = [column.name for column in description]
    return [dict(zip(names, row, strict=True)) for row in found]


@contextlib.contextmanager
def autocommitting(connection: Any) -> Generator[Any]:
    """Set a connection to commit each statement, for a while. This sends nothing."""
    if connection.autocommit:
        yield connection
        return
    connection.autocommit = True
    try:
        yield connection
    finally:
        if not connection.closed and connection.get_transaction_status() == IDLE:
            connection.autocommit = False
        else:
            connection.close()


def is_alive(connection: Any) -> bool:
    """Tell whether a connection that was idle can be used. This sends nothing.

    Nothing should have arrived there either. What has is most likely the server's farewell.
    """
    if connection.closed:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)
