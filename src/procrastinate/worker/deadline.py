"""Bounds each of a worker's round trips: a connection that fell silent must not hold a service for ever."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from typing_extensions import override

from procrastinate import connector, exceptions
from procrastinate.store.operation import Operation

T = TypeVar("T")

# How a task takes its first step where it is made.
AT_ONCE: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}


class Deadline(connector.BaseAsyncConnector):
    """Answers what another connector answers, or raises ConnectionLost after so many seconds."""

    def __init__(self, inner: connector.BaseConnector, seconds: float) -> None:
        """Wait `seconds` for each answer of `inner`."""
        self._inner = inner
        self._seconds = seconds

    @override
    async def run_async(self, operation: Operation[T], connection: Any = None) -> T:
        loop = asyncio.get_running_loop()
        # Rung by the operation itself as its last act: `asyncio.wait` would take one more turn of the loop.
        ended = asyncio.Event()

        async def ask() -> T:
            try:
                return await self._inner.run_async(operation, connection)
            finally:
                ended.set()

        answer = asyncio.Task(ask(), loop=loop, **AT_ONCE)
        timer = loop.call_later(self._seconds, ended.set)
        try:
            await ended.wait()
        finally:
            timer.cancel()
            if not answer.done():
                # Not awaited: a driver first asks the server to cancel, which may be just as silent.
                answer.cancel()
                answer.add_done_callback(_forget)
        if not answer.done():
            raise exceptions.ConnectionLost(f"The database did not answer {operation.name} within {self._seconds:g} s")
        return answer.result()

    @override
    async def listen_notify(
        self,
        on_notification: connector.Notify,
        channels: Iterable[str],
        on_listening: Callable[[], None] | None = None,
    ) -> None:
        # It is silent most of the time, and looks after its connection by itself.
        await self._inner.listen_notify(on_notification, channels, on_listening)


def _forget(answer: asyncio.Future[Any]) -> None:
    if not answer.cancelled():
        answer.exception()  # seen, or the loop would complain
