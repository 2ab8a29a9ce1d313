"""The command line: `procrastinate …`, the same as `python -m procrastinate …`.

Each command lives in a module of its own, imported when it is asked for; no driver is imported before the app is.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

import procrastinate
from procrastinate.cli import groups, loading, log_settings
from procrastinate.cli.loading import load_app
from procrastinate.cli.log_settings import configure_logging, get_log_level
from procrastinate.cli.output import print_stderr
from procrastinate.cli.parameters import cast_queues, env_bool

if TYPE_CHECKING:
    from procrastinate.cli.commands.defer import configure_task, defer, load_json_args
    from procrastinate.cli.commands.healthchecks import healthchecks
    from procrastinate.cli.commands.schema import schema
    from procrastinate.cli.commands.worker import worker_

__all__ = [
    "COMMANDS",
    "ENV_PREFIX",
    "PROGRAM_NAME",
    "cast_queues",
    "cli",
    "configure_logging",
    "configure_task",
    "defer",
    "env_bool",
    "get_log_level",
    "healthchecks",
    "load_app",
    "load_json_args",
    "main",
    "print_stderr",
    "schema",
    "worker_",
]

PROGRAM_NAME: Final = "procrastinate"
ENV_PREFIX: Final = "PROCRASTINATE"

_HERE = "procrastinate.cli.commands"

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "worker": (f"{_HERE}.worker:command", "Run jobs."),
    "defer": (f"{_HERE}.defer:command", "Defer a job."),
    "jobs": (f"{_HERE}.jobs:command", "List jobs."),
    "queues": (f"{_HERE}.counts:queues", "Count jobs by queue and status."),
    "tasks": (f"{_HERE}.counts:tasks", "Count jobs by task and status."),
    "locks": (f"{_HERE}.counts:locks", "Count jobs by lock and status."),
    "workers": (f"{_HERE}.workers:command", "List workers."),
    "retry": (f"{_HERE}.retry:command", "Put failed jobs back to wait."),
    "cancel": (f"{_HERE}.cancel:command", "Cancel waiting jobs, abort running ones."),
    "shell": (f"{_HERE}.shell:command", "Look at jobs and change them, interactively."),
    "schema": (f"{_HERE}.schema:command", "Create the tables."),
    "healthchecks": (f"{_HERE}.healthchecks:command", "Check the app, its database, and the tables."),
    "postgres": (f"{_HERE}.postgres:postgres", "A private PostgreSQL for development."),
    "completion": (f"{_HERE}.completion:command", "Print a script that makes a shell complete commands."),
}
"""The commands by name: where each is, as `module:attribute`, and one line of help."""

if not TYPE_CHECKING:
    # The commands for programs: coroutine functions that take an open app.
    _FUNCTIONS = {
        "worker_": "worker",
        "defer": "defer",
        "configure_task": "defer",
        "load_json_args": "defer",
        "schema": "schema",
        "healthchecks": "healthchecks",
    }

    def __getattr__(name: str) -> Any:
        """Import what a command offers to programs."""
        if name not in _FUNCTIONS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{_HERE}.{_FUNCTIONS[name]}"), name)


@click.group(
    cls=groups.LazyGroup,
    commands=COMMANDS,
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
    envvar=[f"{ENV_PREFIX}_VERBOSE", f"{ENV_PREFIX}_VERBOSITY"],
    show_envvar=True,
    show_default=False,
    help="Log at level debug instead of info.",
)
@click.option(
    "--log-level",
    type=click.Choice(log_settings.LEVELS),
    envvar=f"{ENV_PREFIX}_LOG_LEVEL",
    show_envvar=True,
    show_default="info",
    help="Log from this level on; not together with -v.",
)
@click.option(
    "--log-format",
    default=log_settings.FORMAT,
    envvar=f"{ENV_PREFIX}_LOG_FORMAT",
    show_envvar=True,
    help="Format of the log lines, as in Python's logging. On a terminal, the default is one that reads more easily.",
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
