"""Functions around tasks: what they are, and how they are put around each other."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

from procrastinate import exceptions
from procrastinate.job_context import JobContext

SyncCallNext: TypeAlias = Callable[[], Any]
AsyncCallNext: TypeAlias = Callable[[], Awaitable[Any]]
# Called as middleware(call_next, context, worker); the worker is typed loosely, for the domain does not know it.
SyncTaskMiddleware: TypeAlias = Callable[[SyncCallNext, JobContext, Any], Any]
AsyncTaskMiddleware: TypeAlias = Callable[[AsyncCallNext, JobContext, Any], Awaitable[Any]]
TaskMiddleware: TypeAlias = SyncTaskMiddleware | AsyncTaskMiddleware
WorkerMiddleware: TypeAlias = AsyncTaskMiddleware


def is_async_callable(function: Any) -> bool:
    """Tell whether calling this gives a coroutine; looks through `functools.partial` and into `__call__`."""
    while isinstance(function, functools.partial):
        function = function.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


is_async_middleware = is_async_callable


def check_middleware(each: Any, *, owner: str, must_be_async: bool | None, what: str = "Middleware") -> None:
    """Refuse what cannot be a middleware of `owner`, which calls it `what`.

    Raises TypeError for what cannot be called, MiddlewareKindMismatch for the wrong colour; None allows both colours.
    """
    if not callable(each):
        raise TypeError(f"{what} {each!r} of {owner} is not callable.")
    if must_be_async is not None and is_async_callable(each) != must_be_async:
        given, needed = ("sync", "async") if must_be_async else ("async", "sync")
        raise exceptions.MiddlewareKindMismatch(f"The middleware {each!r} is {given}, but {owner} needs {needed} ones.")


def compose(
    middlewares: Iterable[Callable[..., Any]], run_task: Callable[[], Any], context: JobContext, worker: Any
) -> Callable[[], Any]:
    """Return a call of `run_task` with the middlewares around it, the first one outermost."""
    call = run_task
    for each in reversed(list(middlewares)):
        call = functools.partial(each, call, context, worker)
    return call
