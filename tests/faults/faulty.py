"""Faults by operation: a connector that answers as another does, except where a plan says otherwise.

The wire is left out, so a fault strikes exactly the operation that is meant, in memory or on a database::

    plan = Plan(FailAfter(FinishJobs), Hold(FetchJobs))
    app = App(connector=FaultyConnector(InMemoryConnector(), plan))
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from typing_extensions import override

from procrastinate import connector, exceptions
from procrastinate.store.operation import Operation

T = TypeVar("T")


def connection_lost() -> Exception:
    return exceptions.ConnectionLost("on purpose: the connection is gone")


class Fault:
    """What becomes of the next `times` operations of these kinds."""

    def __init__(self, *kinds: type[Operation[Any]], times: int = 1) -> None:
        self.kinds = kinds
        self.left = times

    def before(self) -> None:
        """Happen before the operation is sent."""

    async def before_async(self) -> None:
        """Do as `before`, asynchronously."""
        self.before()

    def after(self) -> None:
        """Happen after it was answered."""

    repeats = False


class FailBefore(Fault):
    """The operation is never sent."""

    def __init__(
        self, *kinds: type[Operation[Any]], times: int = 1, error: Callable[[], Exception] = connection_lost
    ) -> None:
        super().__init__(*kinds, times=times)
        self.error = error

    @override
    def before(self) -> None:
        raise self.error()


class FailAfter(FailBefore):
    """The operation is committed, but its answer is lost."""

    @override
    def before(self) -> None:
        pass

    @override
    def after(self) -> None:
        raise self.error()


class Duplicate(Fault):
    """The operation is sent twice, as by a proxy that tries again; the second answer is the one that counts."""

    repeats = True


class Hold(Fault):
    """The operation is not sent before the test releases it."""

    def __init__(self, *kinds: type[Operation[Any]], times: int = 1) -> None:
        super().__init__(*kinds, times=times)
        self._reached = threading.Event()
        self._released = threading.Event()

    async def reached(self) -> None:
        """Return when an operation is being held."""
        assert await asyncio.to_thread(self._reached.wait, 20), "nothing was held"

    def release(self) -> None:
        self._released.set()

    @override
    def before(self) -> None:
        self._reached.set()
        assert self._released.wait(30), "never released"

    @override
    async def before_async(self) -> None:
        await asyncio.to_thread(self.before)


class SwallowCancellation(Hold):
    """The operation is held until its caller is cancelled, and then answered as if nothing had happened."""

    @override
    async def before_async(self) -> None:
        self._reached.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(30)


class Plan:
    """The faults still to come, in the order in which they are tried. May be used from any thread."""

    def __init__(self, *faults: Fault) -> None:
        self._faults = list(faults)
        self._mutex = threading.Lock()

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)

    def next_for(self, operation: Operation[Any]) -> Fault:
        """Take the fault that strikes this operation; one without effect if none does."""
        with self._mutex:
            for fault in self._faults:
                if fault.left and isinstance(operation, fault.kinds):
                    fault.left -= 1
                    return fault
        return Fault()

    @property
    def is_over(self) -> bool:
        """Whether every fault has struck as often as it should."""
        return not any(fault.left for fault in self._faults)


class FaultyConnector(connector.BaseAsyncConnector):
    """Does as `inner` does, except where the plan says otherwise; so do its sync and its side connector."""

    def __init__(self, inner: connector.BaseConnector, plan: Plan) -> None:
        self.inner = inner
        self.plan = plan
        self.json_dumps, self.json_loads = inner.json_dumps, inner.json_loads

    @override
    def run(self, operation: Operation[T], connection: Any = None) -> T:
        fault = self.plan.next_for(operation)
        fault.before()
        answer = self.inner.run(operation, connection)
        if fault.repeats:
            answer = self.inner.run(operation, connection)
        fault.after()
        return answer

    @override
    async def run_async(self, operation: Operation[T], connection: Any = None) -> T:
        fault = self.plan.next_for(operation)
        await fault.before_async()
        answer = await self.inner.run_async(operation, connection)
        if fault.repeats:
            answer = await self.inner.run_async(operation, connection)
        fault.after()
        return answer

    @override
    def get_sync_connector(self) -> connector.BaseConnector:
        inner = self.inner.get_sync_connector()
        return self if inner is self.inner else FaultyConnector(inner, self.plan)

    @override
    def side_connector(self) -> connector.BaseConnector | None:
        inner = self.inner.side_connector()
        return None if inner is None else FaultyConnector(inner, self.plan)

    @override
    def open(self, pool: connector.Pool | None = None) -> None:
        self.inner.open(pool)

    @override
    def close(self) -> None:
        self.inner.close()

    @override
    async def open_async(self, pool: connector.Pool | None = None) -> None:
        await self.inner.open_async(pool)

    @override
    async def close_async(self) -> None:
        await self.inner.close_async()

    @override
    async def listen_notify(
        self,
        on_notification: connector.Notify,
        channels: Iterable[str],
        on_listening: Callable[[], None] | None = None,
    ) -> None:
        await self.inner.listen_notify(on_notification, channels, on_listening)
