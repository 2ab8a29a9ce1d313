"""The command `procrastinate schema`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

import click

from procrastinate import exceptions
from procrastinate.cli import loading, output
from procrastinate.schema import SchemaManager

if TYPE_CHECKING:
    from procrastinate.app import App


_ACTIONS = Literal["apply", "read", "migrations_path"]


@click.command("schema")
@click.option("--apply", "action", flag_value="apply", help="Create the tables (the default).")
@click.option("--read", "action", flag_value="read", help="Print the SQL that creates the tables.")
@click.option(
    "--migrations-path", "action", flag_value="migrations_path", help="Print the folder of the migrations' SQL."
)
@click.pass_obj
def command(options: loading.GlobalOptions, *, action: _ACTIONS | None) -> None:
    """Create the tables, or show what would create them."""
    if action in {"read", "migrations_path"}:
        asyncio.run(schema(None, action))
    else:
        loading.run(options.load_app(), schema)


async def schema(app: App | None, action: _ACTIONS | None = None) -> None:
    """Create the tables of an open app, or print the SQL or its folder, which needs no app."""
    match action:
        case "read":
            click.echo(SchemaManager.get_schema().strip())
        case "migrations_path":
            click.echo(SchemaManager.get_migrations_path())
        case _:
            if app is None:
                raise exceptions.MissingApp
            output.print_stderr("Applying schema")
            is_new = await _apply(app)
            output.print_stderr("Done" if is_new else "The schema was already applied; nothing was changed.")


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
