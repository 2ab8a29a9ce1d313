"""The commands `procrastinate postgres …`: a private PostgreSQL that keeps running, for development.

They are the only commands that start a server, and only when told to: no other one does so for want of a DSN.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

import click

from procrastinate import embedded
from procrastinate.exceptions import EmbeddedPostgresError

__all__ = ["NOT_RUNNING", "postgres"]

NOT_RUNNING: Final = 3
"""The exit code of `status` if no server runs, as for any service (LSB)."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _data_dir_option(command: _Command) -> _Command:
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        default=embedded.default_data_dir,
        show_default="a folder of the user's own",
        help="Where the data is kept.",
    )(command)


@click.group()
def postgres() -> None:
    """A private PostgreSQL for development, kept in a folder."""


@postgres.command()
@_data_dir_option
@click.option(
    "--listen",
    type=click.Choice(get_args(embedded.Listen)),
    help="A Unix socket only (the default), or also a TCP port of 127.0.0.1, with a password.",
)
@click.option("--pg-version", type=int, metavar="MAJOR", help="PostgreSQL's major version, such as 18.")
def start(data_dir: Path, listen: embedded.Listen | None, pg_version: int | None) -> None:
    """Start the server, unless it runs, and print its DSN.

    It runs until `procrastinate postgres stop`.
    """
    server = embedded.PostgresServer(data_dir, listen=listen, version=pg_version)
    try:
        click.echo(server.start(detached=True).conninfo)
    except EmbeddedPostgresError as error:
        raise click.ClickException(str(error)) from error


@postgres.command()
@_data_dir_option
def stop(data_dir: Path) -> None:
    """Stop the server, whoever uses it. The data is kept."""
    try:
        embedded.PostgresServer(data_dir).shut_down()
    except EmbeddedPostgresError as error:
        raise click.ClickException(str(error)) from error


@postgres.command()
@_data_dir_option
@click.pass_context
def status(context: click.Context, data_dir: Path) -> None:
    """Say whether the server runs: exit code 0 if it does, 3 if not."""
    server = embedded.PostgresServer(data_dir)
    try:
        if server.is_running:
            click.echo(f"PostgreSQL {server.version} is running in {data_dir} (process {server.pid}).")
            return
    except EmbeddedPostgresError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"No PostgreSQL is running in {data_dir}.")
    context.exit(NOT_RUNNING)


@postgres.command()
@_data_dir_option
def conninfo(data_dir: Path) -> None:
    """Print the DSN of the running server."""
    try:
        click.echo(embedded.PostgresServer(data_dir).conninfo)
    except EmbeddedPostgresError as error:
        raise click.ClickException(str(error)) from error
