"""The command `procrastinate healthchecks`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from procrastinate.cli import loading

if TYPE_CHECKING:
    from procrastinate.app import App


@click.command("healthchecks")
@click.pass_obj
def command(options: loading.GlobalOptions) -> None:
    """Check the app, its database, and the tables."""
    app = options.load_app()
    click.echo("App configuration: OK")
    loading.run(app, _check)


async def healthchecks(app: App) -> None:
    """Check an open app, its database, and the tables, and print what is fine.

    Raises click.ClickException if the tables are missing, ConnectorException if the database cannot be reached.
    """
    click.echo("App configuration: OK")
    await _check(app)


async def _check(app: App) -> None:
    has_tables = await app.check_connection_async()
    click.echo("DB connection: OK")
    if not has_tables:
        raise click.ClickException(
            "The connection to the database works, but the procrastinate_jobs table was not found. "
            "Apply the schema first; see `procrastinate schema -h`."
        )
    click.echo("Found procrastinate_jobs table: OK")
