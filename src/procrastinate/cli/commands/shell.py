"""The command `procrastinate shell`."""

from __future__ import annotations

import importlib

import click

from procrastinate.cli import discretion, loading


@click.command("shell")
@click.argument("words", metavar="[COMMAND]...", nargs=-1)
@click.pass_context
def command(context: click.Context, *, words: tuple[str, ...]) -> None:
    """Look at jobs and change them, interactively; with a command, execute only that."""
    app = context.ensure_object(loading.GlobalOptions).load_app()
    shell = importlib.import_module("procrastinate.shell").ProcrastinateShell(
        app.job_manager, discretion.logs_args_of(app)
    )
    with loading.opened_in_background(app):
        if not words:
            shell.cmdloop()
        elif not shell.run_words(words):
            context.exit(1)
