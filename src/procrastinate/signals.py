"""Stopping on SIGINT and SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import threading
from collections.abc import Callable, Generator
from typing import Any

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def on_stop(callback: Callable[[], None]) -> Generator[None]:
    """Call `callback` once, on the first SIGINT or SIGTERM.

    From then on, and at the end, the handlers are those from before, so that a second signal ends the process. Where
    signals cannot be handled (Windows, threads), a warning is logged and nothing happens.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        message = "Signals cannot be handled here: stop the worker by other means"
        logger.warning(message, extra={"action": "skip_signal_handlers"})
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        loop = None

    def restore() -> None:
        for number, handler in before.items():
            if loop is not None and not loop.is_closed():
                loop.remove_signal_handler(number)
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        logger.debug("Signal handlers restored", extra={"action": "uninstall_signal_handlers"})

    def stop(*_: Any) -> None:
        restore()
        callback()

    for number in SIGNALS:
        if loop is not None:
            loop.add_signal_handler(number, stop)
        else:
            signal.signal(number, stop)
    logger.debug("Signal handlers installed", extra={"action": "install_signal_handlers"})
    try:
        yield
    finally:
        restore()
