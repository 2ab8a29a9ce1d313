"""From the global options to an open app."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import attrs
import click

from procrastinate import exceptions
from procrastinate.cli import log_settings

if TYPE_CHECKING:
    from procrastinate.app import App

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class GlobalOptions:
    """What stands before the command.

    Attributes:
        app_path: the dotted path of the App, None if there is none.
        logging: how to log.
    """

    app_path: str | None
    logging: log_settings.LogSettings

    def load_app(self) -> App:
        """Import the app and set up logging.

        Raises:
            MissingApp: no path was given.
            click.UsageError: there is no usable app at that path.
        """
        if not self.app_path:
            raise exceptions.MissingApp
        app = _import_app(self.app_path, show_traceback=self.logging.is_debug)
        self.logging.apply()
        return app


def _import_app(path: str, *, show_traceback: bool) -> App:
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
        raise click.UsageError(f"Could not load app from {path}\n{details}") from error
    if not isinstance(app.connector, BaseAsyncConnector):
        raise click.UsageError(
            "The connector provided by the app is not async. Please use an async connector for the procrastinate CLI."
        )
    return app


def run(app: App, command: Callable[[App], Awaitable[T]]) -> T:
    """Open the app, await the command, close the app."""

    async def open_and_run() -> T:
        async with app.open_async():
            return await command(app)

    return asyncio.run(open_and_run())


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
