"""A connector without a database, for tests."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar

import attrs
from typing_extensions import override

from procrastinate import connector, exceptions, types
from procrastinate.store import memory, postgres
from procrastinate.store.operation import Operation

T = TypeVar("T")


@attrs.frozen(eq=False)
class _Listener:
    """One call to `listen_notify` that goes on."""

    on_notification: connector.Notify
    channels: frozenset[str]
    loop: asyncio.AbstractEventLoop = attrs.field(factory=asyncio.get_running_loop)
    waiting: asyncio.Queue[tuple[str, str]] = attrs.field(factory=asyncio.Queue[tuple[str, str]])

    def receive(self, channel: str, payload: str) -> None:
        """Take one notification, in any thread."""
        if channel in self.channels:
            # A loop that was closed meanwhile has nobody left to tell.
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self.waiting.put_nowait, (channel, payload))


class InMemoryConnector(connector.BaseAsyncConnector):
    """Keeps jobs in dictionaries: the whole of procrastinate without a database, sync and async, for tests.

    It can be used without being opened, and answers every operation as PostgreSQL would. It has no SQL for the user's
    own queries, and no transactions: `connection` is ignored.

    Attributes:
        queries: the operations that were asked for, with their names, in their order.
        states: what was opened and closed: `open`, `closed`, `open_async`, `closed_async`.
    """

    def __init__(
        self,
        *,
        json_dumps: Callable[[Any], Any] | None = None,
        json_loads: Callable[[Any], Any] | None = None,
        now: Callable[[], datetime.datetime] = types.utcnow,
    ) -> None:
        """Start empty.

        Args:
            json_dumps: writes arguments as JSON, in place of `json.dumps`.
            json_loads: reads arguments from JSON, in place of `json.loads`.
            now: tells the time.
        """
        self.json_dumps = json_dumps
        self.json_loads = json_loads
        self._store = memory.MemoryStore(postgres.JsonText(json_dumps, json_loads), now=now)
        self._listeners: list[_Listener] = []
        self.reset()

    def reset(self) -> None:
        """Forget everything, and start again with id 1. Who listens goes on listening."""
        self._store.reset()
        self.queries: list[tuple[str, Operation[Any]]] = []
        self.states: list[str] = []

    @property
    def jobs(self) -> dict[int, dict[str, Any]]:
        """The rows of the jobs, by id, with the columns of `procrastinate_jobs`."""
        return self._store.jobs

    @property
    def events(self) -> dict[int, list[dict[str, Any]]]:
        """What happened to each job, by id: dictionaries with `type` and `at`."""
        return {job_id: memory.events_of(row) for job_id, row in list(self._store.jobs.items())}

    @property
    def table_exists(self) -> bool:
        """What `check_connection` answers; to be set."""
        return self._store.table_exists

    @table_exists.setter
    def table_exists(self, value: bool) -> None:
        self._store.table_exists = value

    @property
    def workers(self) -> dict[int, datetime.datetime]:
        """When each worker last gave a sign of life, by id."""
        return self._store.workers

    @property
    def periodic_defers(self) -> dict[tuple[str, str], int]:
        """The latest tick that was deferred, by task and periodic id."""
        return self._store.periodic_defers

    @property
    def current_locks(self) -> list[str]:
        """The locks that running jobs hold."""
        return [row["lock"] for row in self._rows("doing") if row["lock"] is not None]

    @property
    def finished_jobs(self) -> list[dict[str, Any]]:
        """The rows of the jobs that were run to their end."""
        return self._rows("succeeded", "failed", "aborted")

    def _rows(self, *statuses: str) -> list[dict[str, Any]]:
        return [row for row in list(self._store.jobs.values()) if row["status"] in statuses]

    @property
    def notify_channels(self) -> list[str]:
        """The channels on which somebody listens."""
        return sorted({channel for listener in self._listeners for channel in listener.channels})

    @property
    def on_notification(self) -> connector.Notify | None:
        """What the latest listener wants to have called, None if nobody listens."""
        return self._listeners[-1].on_notification if self._listeners else None

    @override
    def get_sync_connector(self) -> connector.BaseConnector:
        return self

    @override
    def side_connector(self) -> connector.BaseConnector:
        return _SideConnector(self)

    @override
    def open(self, pool: Any = None) -> None:
        self.states.append("open")

    @override
    def close(self) -> None:
        self.states.append("closed")

    @override
    async def open_async(self, pool: Any = None) -> None:
        self.states.append("open_async")

    @override
    async def close_async(self) -> None:
        self.states.append("closed_async")

    @override
    def run(self, operation: Operation[T], connection: Any = None) -> T:
        self.queries.append((operation.name, operation))
        return self._store.answer(operation)

    @override
    async def run_async(self, operation: Operation[T], connection: Any = None) -> T:
        # As every real connector does: let others run, so that a loop of operations cannot starve them.
        await asyncio.sleep(0)
        return self.run(operation)

    @override
    async def listen_notify(
        self,
        on_notification: connector.Notify,
        channels: Iterable[str],
        on_listening: Callable[[], None] | None = None,
    ) -> None:
        listener = _Listener(on_notification, frozenset(channels))
        self._listeners.append(listener)
        self._store.subscribers.append(listener.receive)
        try:
            if on_listening is not None:
                on_listening()
            while True:
                channel, payload = await listener.waiting.get()
                await on_notification(channel=channel, payload=payload)
        finally:
            self._store.subscribers.remove(listener.receive)
            self._listeners.remove(listener)

    @override
    def execute_query(self, query: str, **arguments: Any) -> NoReturn:
        raise exceptions.ConnectorException(
            f"{type(self).__name__} knows no SQL: test this query with a connector to a real database."
        )

    @override
    def execute_query_one(self, query: str, **arguments: Any) -> NoReturn:
        self.execute_query(query)

    @override
    def execute_query_all(self, query: str, **arguments: Any) -> NoReturn:
        self.execute_query(query)

    @override
    async def execute_query_async(self, query: str, **arguments: Any) -> NoReturn:
        self.execute_query(query)

    @override
    async def execute_query_one_async(self, query: str, **arguments: Any) -> NoReturn:
        self.execute_query(query)

    @override
    async def execute_query_all_async(self, query: str, **arguments: Any) -> NoReturn:
        self.execute_query(query)


@attrs.frozen
class _SideConnector(connector.BaseConnector):
    """The same jobs through another connection, which can be closed without closing the first."""

    main: InMemoryConnector

    @override
    def get_sync_connector(self) -> connector.BaseConnector:
        return self

    @override
    def open(self, pool: Any = None) -> None:
        pass

    @override
    def close(self) -> None:
        pass

    @override
    def run(self, operation: Operation[T], connection: Any = None) -> T:
        return self.main.run(operation)
