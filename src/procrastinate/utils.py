"""Small functions that users know under this module's name; most are at home elsewhere and gathered here.

Nothing in procrastinate imports them from here.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import importlib
import logging
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, NoReturn, ParamSpec, TypeVar

from procrastinate.app import AwaitableContext
from procrastinate.importing import caller_module_name, import_all, load_from_path
from procrastinate.job_context import queues_display
from procrastinate.moved import MovedElsewhere
from procrastinate.tasks import add_namespace, get_full_path
from procrastinate.types import parse_datetime, utcnow
from procrastinate.types import time_from_now as datetime_from_timedelta_params

__all__ = [
    "AwaitableContext",
    "MovedElsewhere",
    "add_namespace",
    "async_context_decorator",
    "async_to_sync",
    "caller_module_name",
    "cancel_and_capture_errors",
    "causes",
    "datetime_from_timedelta_params",
    "gen_with_timeout",
    "get_full_path",
    "import_all",
    "import_or_wrapper",
    "load_from_path",
    "parse_datetime",
    "queues_display",
    "sync_to_async",
    "utcmax",
    "utcnow",
    "wait_any",
]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


def utcmax() -> datetime.datetime:
    """Return the latest time there is, aware, in UTC."""
    return datetime.datetime.max.replace(tzinfo=datetime.UTC)


def causes(exc: BaseException | None) -> Iterator[BaseException]:
    """Return an exception and what led to it, one after the other."""
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def async_to_sync(awaitable: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a coroutine function on a loop of its own, and return its result.

    Raises RuntimeError on the thread of a running loop, which would wait for itself.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(awaitable(*args, **kwargs))
    raise RuntimeError("async_to_sync was called on the thread of a running event loop: await the function instead")


async def sync_to_async(func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a thread, with the context variables of here, and return its result."""
    return await asyncio.to_thread(func, *args, **kwargs)


async def gen_with_timeout(aiterable: AsyncIterable[T], timeout: float, raise_timeout: bool) -> AsyncGenerator[T]:  # noqa: ASYNC109  a name that users know
    """Go through `aiterable` until it says nothing for `timeout` seconds: then end, or raise TimeoutError."""
    iterator = aiter(aiterable)
    while True:
        try:
            async with asyncio.timeout(timeout):
                item = await anext(iterator)
        except StopAsyncIteration:
            return
        except TimeoutError:
            if raise_timeout:
                raise
            return
        yield item


async def wait_any(*coros_or_futures: Awaitable[Any]) -> None:
    """Run several until the first ends, cancel the others, and raise the error of the first if it has one."""
    futures = {asyncio.ensure_future(each) for each in coros_or_futures}
    done, pending = await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    for future in pending:
        future.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for future in done:
        future.result()


async def cancel_and_capture_errors(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks of a loop and wait for them; their errors are logged, not raised."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    for task, result in zip(tasks, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
        if isinstance(result, Exception):
            extra = {"action": f"{task.get_name()}_error"}
            logger.error("%s failed while it was cancelled", task.get_name(), exc_info=result, extra=extra)


class _Missing:
    """Stands where a module could not be imported; says so at any use."""

    def __init__(self, error: ImportError) -> None:
        self.__error = error

    def __getattr__(self, name: str) -> NoReturn:
        raise self.__error


def import_or_wrapper(*names: str) -> Iterator[Any]:
    """Return modules by their names; one that cannot be imported raises its ImportError when it is used."""
    for name in names:
        try:
            yield importlib.import_module(name)
        except ImportError as error:
            yield _Missing(error)


def async_context_decorator(
    func: Callable[[], AsyncGenerator[Any]],
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Make a decorator for coroutine functions of an async generator function with one yield, where they run."""
    context = contextlib.asynccontextmanager(func)

    def decorate(inner: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        @functools.wraps(inner)
        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            async with context():
                return await inner(*args, **kwargs)

        return wrapper

    return decorate
