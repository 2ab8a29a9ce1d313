"""Stopping on SIGINT and SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import threading
from collections.abc import Callable, Generator
from types import FrameType
from typing import Any, TypeAlias

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


Handler: TypeAlias = Callable[[int, FrameType | None], Any] | int | None


@contextlib.contextmanager
def on_stop(callback: Callable[[], Any]) -> Generator[None]:
    """Call `callback` once, on the first SIGINT or SIGTERM.

    From then on, and at the end, the handlers are those from before, so that a second signal ends the process. Where
    signals cannot be handled (Windows, threads), a warning is logged and nothing happens.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        message = "Signals cannot be handled here: stop the worker by other means"
        logger.warning(message, extra={"action": "skip_signal_handlers"})
        yield
        return
    before = [signal.getsignal(number) for number in SIGNALS]
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        loop = None

    def stop() -> None:
        uninstall(loop, *before)
        callback()

    install(loop, stop)
    try:
        yield
    finally:
        uninstall(loop, *before)


def install(loop: asyncio.AbstractEventLoop | None, handler: Callable[[], Any]) -> None:
    """Call `handler` on SIGINT and SIGTERM: in a loop that runs, or anywhere in the main thread if there is none."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        handler()

    for number in SIGNALS:
        if loop is not None:
            loop.add_signal_handler(number, handler)
        else:
            signal.signal(number, handle)
    logger.debug("Signal handlers installed", extra={"action": "install_signal_handlers"})


def uninstall(loop: asyncio.AbstractEventLoop | None, sigint_handler: Handler, sigterm_handler: Handler) -> None:
    """Put these handlers in place of those that `install` set, as `signal.getsignal` returned them."""
    for number, handler in zip(SIGNALS, (sigint_handler, sigterm_handler), strict=True):
        if loop is not None and not loop.is_closed():
            loop.remove_signal_handler(number)
        signal.signal(number, handler if handler is not None else signal.SIG_DFL)
    logger.debug("Signal handlers restored", extra={"action": "uninstall_signal_handlers"})
