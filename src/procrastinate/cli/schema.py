"""The command `procrastinate schema`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from procrastinate import exceptions
from procrastinate.cli import loading
from procrastinate.schema import SchemaManager

if TYPE_CHECKING:
    from procrastinate.app import App


@click.command()
@click.option("--apply", "action", flag_value="apply", help="Create the tables (the default).")
@click.option("--read", "action", flag_value="read", help="Print the SQL that creates the tables.")
@click.option(
    "--migrations-path", "action", flag_value="migrations_path", help="Print the folder of the migrations' SQL."
)
@click.pass_obj
def schema(options: loading.GlobalOptions, *, action: str | None) -> None:
    """Create the tables, or show what would create them."""
    if action == "read":
        click.echo(SchemaManager.get_schema().strip())
    elif action == "migrations_path":
        click.echo(SchemaManager.get_migrations_path())
    else:
        app = options.load_app()
        click.echo("Applying schema", err=True)
        is_new = loading.run(app, _apply)
        click.echo("Done" if is_new else "The schema was already applied; nothing was changed.", err=True)


async def _apply(app: App) -> bool:
    """Create the tables; return whether they were missing."""
    manager = app.schema_manager
    if await manager.is_applied_async():
        return False
    try:
        await manager.apply_schema_async()
    except exceptions.ConnectorException:
        # Somebody else may have applied it just now.
        if await manager.is_applied_async():
            return False
        raise
    return True
