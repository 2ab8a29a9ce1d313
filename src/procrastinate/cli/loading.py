"""From the global options to an open app."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from procrastinate import exceptions
from procrastinate.cli import log_settings

if TYPE_CHECKING:
    import asyncio

    from procrastinate.app import App

T = TypeVar("T")

# How much of a traceback is shown where nobody asked for all of it.
LAST_FRAMES = 3


@attrs.frozen(kw_only=True)
class GlobalOptions:
    """What stands before the command, and where the app comes from. Commands get it as the context's object.

    Attributes:
        app_path: the dotted path of the App, None if there is none.
        logging: how to log, None to leave logging as it is.
        app: the App itself, for a program that runs commands on its own one.
    """

    app_path: str | None = None
    logging: log_settings.LogSettings | None = None
    app: App | None = None

    @property
    def is_debug(self) -> bool:
        """Whether the user wants to see everything."""
        return self.logging is not None and self.logging.is_debug

    @property
    def app_name(self) -> str:
        """What to call the app."""
        return self.app_path or type(self.app).__name__

    def load_app(self) -> App:
        """Import the app, unless it is there, and set up logging.

        Raises:
            MissingApp: no path was given.
            click.UsageError: there is no usable app at that path.
        """
        app = self.app or load_app(self.app_path, show_traceback=self.is_debug)
        if self.logging is not None:
            self.logging.apply()
        return app


def load_app(path: str | None, *, show_traceback: bool = False) -> App:
    """Import the App at a dotted path.

    Raises:
        MissingApp: the path is empty.
        click.UsageError: there is no usable app at that path.
    """
    if not path:
        raise exceptions.MissingApp
    # The console script starts with its own folder in sys.path, not with the current one as `python -m` does.
    if not sys.flags.safe_path and not {"", os.getcwd()} & set(sys.path):  # noqa: PTH109  sys.path has texts
        sys.path.insert(0, os.getcwd())  # noqa: PTH109  as above
    # Here, not at the top: help and usage errors come faster without.
    from procrastinate.app import App  # noqa: PLC0415
    from procrastinate.connector import BaseAsyncConnector  # noqa: PLC0415

    try:
        app = App.from_path(path)
    except Exception as error:
        if show_traceback:
            click.echo("".join(traceback.format_exception(error)), err=True)
        details = "\n".join(f"  {message}" for message in messages(error, with_types=True))
        raise click.UsageError(f"Could not load app from {path}\n{details}{_origin(error)}") from error
    if not isinstance(app.connector, BaseAsyncConnector):
        raise click.UsageError(
            "The connector provided by the app is not async. Please use an async connector for the procrastinate CLI."
        )
    return app


def _origin(error: BaseException) -> str:
    """Return where the user's own code raised what kept it from being imported: the lines next to the error."""
    while error.__cause__ is not None:
        error = error.__cause__
    ours = (os.path.dirname(importlib.__file__), os.path.dirname(os.path.dirname(__file__)))  # noqa: PTH120  texts
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((*ours, "<frozen importlib"))
    ]
    lines = traceback.format_list(frames[-LAST_FRAMES:])
    if isinstance(error, SyntaxError):
        lines += traceback.format_exception_only(error)[:-1]
    return "".join(f"\n{line.rstrip()}" for line in lines)


def run(app: App, command: Callable[[App], Coroutine[Any, Any, T]]) -> T:
    """Open the app, await the command, close the app."""
    with opened(app) as runner:
        return runner.run(command(app))


@contextlib.contextmanager
def opened(app: App) -> Generator[asyncio.Runner]:
    """Open the app, give what runs coroutines with it, one after the other, and close the app."""
    import asyncio  # noqa: PLC0415  help and usage errors come faster without

    async def open_app() -> None:
        await app.open_async()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(open_app())
        try:
            yield runner
        finally:
            runner.run(app.close_async())


@contextlib.contextmanager
def opened_in_background(app: App) -> Generator[None]:
    """Open the app on an event loop in another thread, so that this one can use the sync verbs and wait for a user."""
    import asyncio  # noqa: PLC0415  help and usage errors come faster without
    import threading  # noqa: PLC0415  as above

    async def open_app() -> None:
        await app.open_async()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        loop = runner.get_loop()
        thread = threading.Thread(target=loop.run_forever, name="event loop")
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(open_app(), loop).result()
            try:
                yield
            finally:
                asyncio.run_coroutine_threadsafe(app.close_async(), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


def _loop_factory() -> Any:
    import asyncio  # noqa: PLC0415  help and usage errors come faster without

    # psycopg cannot work with the loop that Windows has by default.
    return asyncio.SelectorEventLoop if sys.platform == "win32" else None


def messages(error: BaseException, *, with_types: bool = False) -> list[str]:
    """Return the messages of an error and of what caused it, innermost first.

    A message that an outer one repeats is left out; where the error is somebody else's, `with_types` names its class.
    """
    found: list[str] = []
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        text = str(cause).strip()
        if not any(text and text in outer for outer in found):
            is_ours = isinstance(cause, exceptions.ProcrastinateException)
            name = type(cause).__name__
            found.append(f"{name}: {text}" if text and with_types and not is_ours else text or name)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return found[::-1]
