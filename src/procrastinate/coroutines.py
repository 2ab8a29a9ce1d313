"""A coroutine's first step without a task, which is all that most of ours take."""

from __future__ import annotations

import contextvars
import types
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any


def start(coroutine: Coroutine[Any, Any, None], context: contextvars.Context) -> Awaitable[None] | None:
    """Take a coroutine's first step, in its context; return the rest of it, None if that was all."""
    try:
        awaited = context.run(coroutine.send, None)
    except StopIteration:
        return None
    return _go_on(coroutine, context, awaited)


@types.coroutine
def _go_on(
    coroutine: Coroutine[Any, Any, None], context: contextvars.Context, awaited: Any
) -> Generator[Any, Any, None]:
    """Take the other steps of a coroutine, which waits for `awaited`, in the task that awaits this."""
    while True:
        try:
            value = yield awaited
        except BaseException as error:  # noqa: BLE001  a cancellation, or what closes generators: it is the coroutine's
            step, argument = coroutine.throw, error
        else:
            step, argument = coroutine.send, value
        try:
            awaited = context.run(step, argument)
        except StopIteration:
            return
