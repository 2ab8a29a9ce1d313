"""A group of commands that imports them when they are asked for, and reports their errors."""

from __future__ import annotations

import errno
import importlib
import traceback
from collections.abc import Mapping
from typing import Any

import click
from typing_extensions import override

from procrastinate import exceptions
from procrastinate.cli import loading

WATCHDOG_EXIT_CODE = 75
"""Says that a worker ended because it could not reach its database: sysexits.h's "try again later" (EX_TEMPFAIL)."""


class LazyGroup(click.Group):
    """Imports a command when it is asked for, so that `--help` and the other commands do not wait for it."""

    def __init__(self, *arguments: Any, commands: Mapping[str, tuple[str, str]], **options: Any) -> None:
        """Offer `commands`: by name, where each is (`module:attribute`), and one line of help."""
        super().__init__(*arguments, **options)
        self._lazy = commands

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        module, _, attribute = self._lazy[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101  for the type checker
        return command

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._lazy.items()])

    @override
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                # Whoever read our output has enough, as in `procrastinate schema --read | head`: click ends quietly.
                raise
            report(error, show_traceback=isinstance(ctx.obj, loading.GlobalOptions) and ctx.obj.is_debug)
            ctx.exit(WATCHDOG_EXIT_CODE if isinstance(error, exceptions.WorkerStopped) else 1)


def report(error: Exception, *, show_traceback: bool) -> None:
    """Print the messages of an error and of its causes, innermost first, to standard error."""
    if show_traceback:
        click.echo("Exception details:\n" + "".join(traceback.format_exception(error)), err=True)
    for message in loading.messages(error):
        click.echo(message, err=True)
