"""What a connector is: a driver that can answer the store's operations, sync or async or both.

A connector implements few methods: open and close, `run` or `run_async`, the user's own queries (`execute_query…`),
and, if it can, `listen_notify`. It knows nothing about jobs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeVar

from procrastinate import exceptions
from procrastinate.store.operation import Operation

T = TypeVar("T")

Pool = Any
Engine = Any

LISTEN_TIMEOUT = 30.0


class Notify(Protocol):
    """Called for each notification, in their order; the next one waits for the end of this one.

    The first step may be taken outside of any task, in the event loop's own callback: what needs a task, as
    `asyncio.timeout` does, belongs in one of its own.
    """

    def __call__(self, *, channel: str, payload: str) -> Awaitable[None]: ...  # noqa: D102


class BaseConnector:
    """The root of all connectors: every method says that it is not supported.

    Attributes:
        json_dumps: writes arguments as JSON, None for `json.dumps`.
        json_loads: reads arguments from JSON, None for `json.loads`.
        schema: the schema that has the tables, None to find them on the search_path.
    """

    json_dumps: Callable[[Any], Any] | None = None
    json_loads: Callable[[Any], Any] | None = None
    schema: str | None = None

    def get_sync_connector(self) -> BaseConnector:
        """Return the connector that answers sync calls."""
        raise NotImplementedError

    def open(self, pool: Pool | None = None) -> None:
        """Open the connections, or use those of `pool`."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connections that `open` made."""
        raise NotImplementedError

    def run(self, operation: Operation[T], connection: Any = None) -> T:
        """Answer an operation, in its own transaction, or on the caller's `connection` without a commit."""
        raise NotImplementedError

    def execute_query(self, query: str, **arguments: Any) -> None:
        """Run the user's own SQL, with `%(name)s` placeholders; without arguments, several statements at once."""
        raise NotImplementedError

    def execute_query_one(self, query: str, **arguments: Any) -> dict[str, Any]:
        """Run the user's own SQL and return its first row. Raises NoResult if there is none."""
        raise NotImplementedError

    def execute_query_all(self, query: str, **arguments: Any) -> list[dict[str, Any]]:
        """Run the user's own SQL and return its rows."""
        raise NotImplementedError

    def execute_query_one_with_connection(self, connection: Any, query: str, **arguments: Any) -> dict[str, Any]:
        """Do as `execute_query_one` on the caller's connection, in its transaction and without a commit."""
        raise self._is_without_connections()

    def execute_query_all_with_connection(self, connection: Any, query: str, **arguments: Any) -> list[dict[str, Any]]:
        """Do as `execute_query_all` on the caller's connection, in its transaction and without a commit."""
        raise self._is_without_connections()

    async def open_async(self, pool: Pool | None = None) -> None:
        """Do as `open`, asynchronously."""
        raise self._is_sync_only()

    async def close_async(self) -> None:
        """Do as `close`, asynchronously."""
        raise self._is_sync_only()

    async def run_async(self, operation: Operation[T], connection: Any = None) -> T:
        """Do as `run`, asynchronously."""
        raise self._is_sync_only()

    async def execute_query_async(self, query: str, **arguments: Any) -> None:
        """Do as `execute_query`, asynchronously."""
        raise self._is_sync_only()

    async def execute_query_one_async(self, query: str, **arguments: Any) -> dict[str, Any]:
        """Do as `execute_query_one`, asynchronously."""
        raise self._is_sync_only()

    async def execute_query_all_async(self, query: str, **arguments: Any) -> list[dict[str, Any]]:
        """Do as `execute_query_all`, asynchronously."""
        raise self._is_sync_only()

    async def execute_query_one_async_with_connection(
        self, connection: Any, query: str, **arguments: Any
    ) -> dict[str, Any]:
        """Do as `execute_query_one_with_connection`, asynchronously."""
        raise self._is_without_connections()

    async def execute_query_all_async_with_connection(
        self, connection: Any, query: str, **arguments: Any
    ) -> list[dict[str, Any]]:
        """Do as `execute_query_all_with_connection`, asynchronously."""
        raise self._is_without_connections()

    async def listen_notify(
        self, on_notification: Notify, channels: Iterable[str], on_listening: Callable[[], None] | None = None
    ) -> None:
        """Call `on_notification` for what arrives on the channels, until cancelled.

        `on_listening` is called once the subscription stands. Raises ConnectorException when the connection is lost.
        """
        raise self._is_sync_only()

    def side_connector(self) -> BaseConnector | None:
        """Return a new sync connector with a connection of its own for use in another thread, or None if there is none.

        Heartbeats go through it, so that a blocked event loop or an exhausted pool does not make a worker look dead.
        """
        return None

    def _is_without_connections(self) -> exceptions.ConnectorException:
        return exceptions.ConnectorException(f"{type(self).__name__} does not support external connections")

    def _is_sync_only(self) -> exceptions.SyncConnectorConfigurationError:
        return exceptions.SyncConnectorConfigurationError(
            f"{type(self).__name__} is sync only: use an async connector (PsycopgConnector) to run a worker or to call "
            "the async methods."
        )


class BaseAsyncConnector(BaseConnector):
    """The root of connectors that can run a worker."""
