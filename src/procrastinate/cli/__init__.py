"""The command line: `procrastinate …`, the same as `python -m procrastinate …`.

Each command lives in a module of its own, imported when it is asked for; no driver is imported before the app is.
"""

from __future__ import annotations

import errno
import importlib
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click
from typing_extensions import override

import procrastinate
from procrastinate.cli import loading, log_settings

__all__ = ["ENV_PREFIX", "PROGRAM_NAME", "cli", "main"]

PROGRAM_NAME: Final = "procrastinate"
ENV_PREFIX: Final = "PROCRASTINATE"

_COMMANDS: Final[Mapping[str, str]] = {
    "worker": "procrastinate.cli.worker",
    "defer": "procrastinate.cli.defer",
    "schema": "procrastinate.cli.schema",
    "healthchecks": "procrastinate.cli.healthchecks",
    "postgres": "procrastinate.cli.postgres",
}


class _LazyGroup(click.Group):
    """Imports the module of a command when the command is asked for; the command has the name of its module."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(_COMMANDS[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101  for the type checker
        return command

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
            _report(error, ctx.obj)
            ctx.exit(1)


def _report(error: Exception, options: object) -> None:
    if isinstance(options, loading.GlobalOptions) and options.logging.is_debug:
        click.echo("Exception details:\n" + "".join(traceback.format_exception(error)), err=True)
    for message in loading.messages(error):
        click.echo(message, err=True)


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 120},
    no_args_is_help=False,
)
@click.option(
    "-a",
    "--app",
    "app_path",
    metavar="PATH",
    envvar=f"{ENV_PREFIX}_APP",
    show_envvar=True,
    help="Dotted path of the App, such as `package.module.app`.",
)
@click.option(
    "-v",
    "--verbose",
    count=True,
    envvar=f"{ENV_PREFIX}_VERBOSE",
    show_envvar=True,
    show_default=False,
    help="Log at level debug instead of info.",
)
@click.option(
    "--log-level",
    type=click.Choice(log_settings.LEVELS),
    envvar=f"{ENV_PREFIX}_LOG_LEVEL",
    show_envvar=True,
    help="Log from this level on; not together with -v.",
)
@click.option(
    "--log-format",
    default=log_settings.FORMAT,
    envvar=f"{ENV_PREFIX}_LOG_FORMAT",
    show_envvar=True,
    help="Format of the log lines, as in Python's logging.",
)
@click.option(
    "--log-format-style",
    type=click.Choice(log_settings.STYLES),
    default="%",
    envvar=f"{ENV_PREFIX}_LOG_FORMAT_STYLE",
    show_envvar=True,
    help="Style of the log format.",
)
@click.version_option(procrastinate.__version__, "-V", "--version", prog_name=PROGRAM_NAME)
@click.pass_context
def cli(
    context: click.Context,
    *,
    app_path: str | None,
    verbose: int,
    log_level: str | None,
    log_format: str,
    log_format_style: str,
) -> None:
    """A task queue on PostgreSQL.

    Options of this level go before the command. Each option can also be given by its environment variable; the command
    line wins, and an empty variable counts as not set.
    """
    settings = log_settings.from_options(
        context, verbose=verbose, level=log_level, log_format=log_format, style=log_format_style
    )
    context.obj = loading.GlobalOptions(app_path=app_path, logging=settings)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line on `arguments`, by default the process's own, and exit the process."""
    cli.main(args=sys.argv[1:] if arguments is None else list(arguments), prog_name=PROGRAM_NAME)
