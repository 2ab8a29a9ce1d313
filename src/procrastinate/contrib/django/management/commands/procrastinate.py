"""The command `manage.py procrastinate …`: the commands of `procrastinate`, on the project's own app."""

# Django has no types.
# pyright: basic

from __future__ import annotations

import argparse
import contextlib
from typing import Any

import click
from django.core.management.base import BaseCommand
from typing_extensions import override

from procrastinate import cli
from procrastinate.cli import groups, loading
from procrastinate.connector import BaseAsyncConnector
from procrastinate.contrib.django import procrastinate_app
from procrastinate.contrib.django.django_connector import DjangoConnector

# Those that are no matter of a project.
_LEFT_OUT = ("postgres", "completion")

COMMANDS = {name: where for name, where in cli.COMMANDS.items() if name not in _LEFT_OUT} | {
    "healthchecks": (
        "procrastinate.contrib.django.healthchecks:command",
        "Check the database, the migrations, and the app.",
    )
}


class Command(BaseCommand):
    """Runs a command of procrastinate."""

    help = "Run jobs, look at them, and change them."
    # Looking at the database before each command is what healthchecks and migrate are for.
    requires_system_checks: list[str] = []  # noqa: RUF012  as Django declares it

    @property
    def stealth_options(self) -> tuple[str, ...]:
        """The options that `call_command` may be given by name: those of all commands."""
        return tuple({option.name for name in COMMANDS for option in _load(name).params if option.name})

    @override
    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        for action in parser._actions:  # noqa: SLF001  argparse has no other way to them
            if {"--version", "--verbosity"} & set(action.option_strings):
                action.help = argparse.SUPPRESS
        return parser

    @override
    def add_arguments(self, parser: Any) -> None:
        subparsers = parser.add_subparsers(dest="procrastinate_command", required=True, metavar="command")
        for name, (_, line) in COMMANDS.items():
            # Only a place in the help and the choices: click reads the words that follow, `--help` among them.
            subparser = subparsers.add_parser(name, help=line, add_help=False, prefix_chars="\0")
            subparser.add_argument("words", nargs="*")

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        group = groups.LazyGroup(name="procrastinate", commands=COMMANDS, context_settings=cli.cli.context_settings)
        name = options["procrastinate_command"]
        given = {option.name: options[option.name] for option in _load(name).params if option.name in options}
        # What is given by name stands in for a default; "words" are those of the command line.
        given.pop("words", None)
        with _redirected(options.get("stdout"), options.get("stderr")):
            try:
                with _app() as app:
                    code = group.main(
                        args=[name, *options["words"]],
                        prog_name="manage.py procrastinate",
                        default_map={name: given},
                        obj=loading.GlobalOptions(app=app),
                        standalone_mode=False,
                    )
            except click.ClickException as error:
                error.show()
                code = error.exit_code
            except click.Abort:
                code = 1
        if code:
            raise SystemExit(code)


def _load(name: str) -> click.Command:
    group = groups.LazyGroup(commands=COMMANDS)
    command = group.get_command(click.Context(group), name)
    assert command is not None  # noqa: S101  for the type checker
    return command


@contextlib.contextmanager
def _redirected(stdout: Any, stderr: Any) -> Any:
    """Print where `call_command` was told to."""
    with contextlib.ExitStack() as stack:
        if stdout is not None:
            stack.enter_context(contextlib.redirect_stdout(stdout))
        if stderr is not None:
            stack.enter_context(contextlib.redirect_stderr(stderr))
        yield


@contextlib.contextmanager
def _app() -> Any:
    """Give the app, on a connector on which a worker can run."""
    app = procrastinate_app.current_app
    if isinstance(app.connector, DjangoConnector):
        with app.replace_connector(app.connector.get_worker_connector()):
            yield app
    elif isinstance(app.connector, BaseAsyncConnector):
        yield app
    else:
        raise click.UsageError(
            f"The app's connector, {type(app.connector).__name__}, is not async, as these commands need it to be."
        )
