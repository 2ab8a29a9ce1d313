"""The connector on Django's own connection."""

# Django has no types.
# pyright: basic

from __future__ import annotations

import contextlib
import datetime
import json
import zoneinfo
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, transaction
from django.db.utils import DataError, ProgrammingError
from typing_extensions import override

from procrastinate import connector, exceptions
from procrastinate.connections.adapter import Rendering, by_sqlstate, with_json
from procrastinate.contrib.django.exceptions import NoWorkerConnector
from procrastinate.contrib.django.utils import connector_params, package_is_installed, postgres_connection
from procrastinate.store.operation import Operation, Row
from procrastinate.store.postgres import with_lone_percents

T = TypeVar("T")

# The numbers of PostgreSQL's types json and jsonb. Django leaves their values as text, for its JSONField reads them.
JSON_TYPES = (114, 3802)


class DjangoConnector(connector.BaseAsyncConnector):
    """Runs operations on Django's own connection, and so inside its `transaction.atomic()`.

    It needs not be opened. Workers need a connector of their own: see `get_worker_connector`.

    Attributes:
        alias: which of Django's databases it uses.
    """

    def __init__(self, alias: str = "default") -> None:
        """Use the database `alias`."""
        self.alias = alias
        self._rendering = Rendering()

    @override
    def get_sync_connector(self) -> connector.BaseConnector:
        return self

    @override
    def open(self, pool: connector.Pool | None = None) -> None:
        """Do nothing: Django connects by itself."""
        if pool is not None:
            raise ImproperlyConfigured("Pool is not supported in Django connectors")

    @override
    def close(self) -> None:
        """Do nothing: the connection is Django's."""

    @override
    async def open_async(self, pool: connector.Pool | None = None) -> None:
        self.open(pool)

    @override
    async def close_async(self) -> None:
        self.close()

    @override
    def run(self, operation: Operation[T], connection: Any = None) -> T:
        if connection is not None:
            raise exceptions.ConnectorException(
                "DjangoConnector does not support external connections: it joins the transaction of Django's own "
                "connection, so defer inside `transaction.atomic()`."
            )
        with self._errors_translated(), self._undone_if_refused(operation):
            is_alone = operation.asks_if_alone and postgres_connection(self.alias).get_autocommit()
            statement = self._rendering.statement(operation, is_alone=is_alone)
            _, rows = self._execute(statement.text, statement.parameters)
            return operation.decode(rows, self._rendering.json)

    def _undone_if_refused(self, operation: Operation[Any]) -> Any:
        if operation.atomic:
            # Its first `with` connects, so a wrong database must have been refused before.
            return transaction.atomic(using=postgres_connection(self.alias).alias)
        return contextlib.nullcontext()

    def _execute(self, text: str, parameters: Any) -> tuple[Sequence[Any], list[Row]]:
        """Run a statement; return the description of its columns, and its rows."""
        connection = postgres_connection(self.alias)
        with connection.cursor() as cursor:
            cursor.execute(text, parameters)
            if not cursor.description:
                return [], []
            rows = [tuple(_aware(value, connection) for value in row) for row in cursor.fetchall()]
            return cursor.description, rows

    @contextlib.contextmanager
    def _errors_translated(self) -> Generator[None]:
        """Turn Django's errors into ours, with the driver's as their cause."""
        try:
            yield
        except Error as error:
            # Those that Django raises by itself, about the state of a transaction for instance, have none.
            if error.__cause__ is None:
                raise
            about_a_value = isinstance(error, DataError | ProgrammingError)
            raise by_sqlstate(error.__cause__, is_about_a_value=about_a_value) from error.__cause__
        except ValueError as error:
            if "NUL" not in str(error):  # how psycopg2 refuses it
                raise
            raise by_sqlstate(error, is_about_a_value=True) from error

    @override
    def execute_query(self, query: str, **arguments: Any) -> None:
        self._query(query, arguments)

    @override
    def execute_query_one(self, query: str, **arguments: Any) -> dict[str, Any]:
        rows = self._query(query, arguments)
        if not rows:
            raise exceptions.NoResult("The query found no row")
        return rows[0]

    @override
    def execute_query_all(self, query: str, **arguments: Any) -> list[dict[str, Any]]:
        return self._query(query, arguments)

    def _query(self, query: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        with self._errors_translated():
            postgres_connection(self.alias)
            description, rows = self._execute(*_user_query(query, arguments))
        names = [column[0] for column in description]
        types = [column[1] for column in description]
        return [
            {name: _loaded(value, kind) for name, kind, value in zip(names, types, row, strict=True)} for row in rows
        ]

    # The async verbs run in the thread in which Django runs the ORM for async code, on that thread's connection.

    @override
    async def run_async(self, operation: Operation[T], connection: Any = None) -> T:
        return await sync_to_async(self.run, thread_sensitive=True)(operation, connection)

    @override
    async def execute_query_async(self, query: str, **arguments: Any) -> None:
        await sync_to_async(self.execute_query, thread_sensitive=True)(query, **arguments)

    @override
    async def execute_query_one_async(self, query: str, **arguments: Any) -> dict[str, Any]:
        return await sync_to_async(self.execute_query_one, thread_sensitive=True)(query, **arguments)

    @override
    async def execute_query_all_async(self, query: str, **arguments: Any) -> list[dict[str, Any]]:
        return await sync_to_async(self.execute_query_all, thread_sensitive=True)(query, **arguments)

    @override
    async def listen_notify(
        self,
        on_notification: connector.Notify,
        channels: Iterable[str],
        on_listening: Callable[[], None] | None = None,
    ) -> None:
        raise NoWorkerConnector

    def get_worker_connector(self) -> connector.BaseAsyncConnector:
        """Return a connector to this database on which a worker can run.

        Sync verbs that a task calls still go through Django's connection, so that they join its transactions.

        Raises ImproperlyConfigured if neither psycopg nor aiopg can be imported.
        """
        parameters = connector_params(self.alias)
        role = postgres_connection(self.alias).settings_dict["OPTIONS"].get("assume_role")
        if role:
            # Django sets it on each of its connections.
            parameters["options"] = f"{parameters.get('options', '')} -c role={role}".strip()
        if package_is_installed("psycopg"):
            with contextlib.suppress(ImportError):  # psycopg is there, but libpq is not
                from procrastinate.psycopg_connector import PsycopgConnector  # noqa: PLC0415  as said above

                return _worker_connector(PsycopgConnector, self, kwargs=parameters)
        if package_is_installed("aiopg"):
            from procrastinate.contrib.aiopg import AiopgConnector  # noqa: PLC0415  an extra

            return _worker_connector(AiopgConnector, self, **parameters)
        raise ImproperlyConfigured("A worker needs psycopg 3 (pip install psycopg[binary]) or aiopg.")


def _worker_connector(kind: type[Any], own: DjangoConnector, **arguments: Any) -> Any:
    def get_sync_connector(_self: connector.BaseConnector) -> connector.BaseConnector:
        return own

    # A subclass of whichever driver's connector is at hand.
    return type(kind.__name__, (kind,), {"get_sync_connector": get_sync_connector})(**arguments)


def _aware(value: Any, connection: Any) -> Any:
    # With USE_TZ = False, Django's connections read times without their zone, which is that of the connection.
    if isinstance(value, datetime.datetime) and value.tzinfo is None:
        return value.replace(tzinfo=zoneinfo.ZoneInfo(connection.timezone_name))
    return value


def _loaded(value: Any, kind: int) -> Any:
    return json.loads(value) if kind in JSON_TYPES and isinstance(value, str) else value


def _user_query(query: str, arguments: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
    if not arguments:
        return query, None
    from django.db.backends.postgresql.psycopg_any import Jsonb  # noqa: PLC0415  needs a driver

    return with_lone_percents(query), {name: with_json(value, Jsonb) for name, value in arguments.items()}
