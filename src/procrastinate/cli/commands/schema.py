"""The command `procrastinate schema`."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Literal

import attrs
import click

from procrastinate import exceptions, roles
from procrastinate.cli import loading, output
from procrastinate.schema import SchemaManager, UpgradeOptions

if TYPE_CHECKING:
    from procrastinate.app import App


_ACTIONS = Literal["apply", "upgrade", "verify", "read", "migrations_path", "roles"]
_PLAIN = UpgradeOptions()


@click.command("schema")
@click.option("--apply", "action", flag_value="apply", help="Create the tables (the default).")
@click.option(
    "--upgrade",
    "action",
    flag_value="upgrade",
    help="Bring the tables to this version: those of an older one, or of version 3.4 to 3.10 of the other project.",
)
@click.option("--verify", "action", flag_value="verify", help="List how the tables differ from what is expected.")
@click.option("--read", "action", flag_value="read", help="Print the SQL that creates the tables.")
@click.option(
    "--migrations-path", "action", flag_value="migrations_path", help="Print the folder of the migrations' SQL."
)
@click.option(
    "--roles",
    "action",
    flag_value="roles",
    help="Print SQL that creates roles with no more rights than they need: producer, worker, reader, admin.",
)
@click.option(
    "--role",
    "role_names",
    multiple=True,
    metavar="ROLE=NAME",
    help="With --roles: call a role so, for instance producer=shop_web; may be given more than once.",
)
@click.option(
    "--sql", "print_sql", is_flag=True, show_default=False, help="With --upgrade: print its SQL, change nothing."
)
@click.option(
    "--pre",
    "only_pre",
    is_flag=True,
    show_default=False,
    help="With --upgrade: leave out what must wait until no worker of the old version runs.",
)
@click.option(
    "--force",
    is_flag=True,
    show_default=False,
    help="With --upgrade: go on although workers of the other project seem to be alive.",
)
@click.option(
    "--keep-events",
    is_flag=True,
    show_default=False,
    help="With --upgrade: keep the other project's table of events, as procrastinate_old_events.",
)
@click.pass_obj
def command(
    options: loading.GlobalOptions,
    *,
    action: _ACTIONS | None,
    print_sql: bool,
    only_pre: bool,
    force: bool,
    keep_events: bool,
    role_names: tuple[str, ...],
) -> None:
    """Create the tables, bring them up to date, check them, or show the SQL."""
    if action != "upgrade" and (print_sql or only_pre or force or keep_events):
        raise click.UsageError("--sql, --pre, --force and --keep-events go with --upgrade.")
    if action != "roles" and role_names:
        raise click.UsageError("--role goes with --roles.")
    upgrade_options = UpgradeOptions(force=force, keep_events=keep_events, only_pre=only_pre)
    if action in {"read", "migrations_path"}:
        asyncio.run(schema(None, action))
        return
    if action == "roles":
        names = _role_names(role_names)
        # Without an app, wherever the search_path finds the tables.
        app = options.load_app() if options.app or options.app_path else None
        click.echo(roles.get_grants(names, app.connector.schema if app else None), nl=False)
        return
    app = options.load_app()
    match action:
        case "verify":
            sys.exit(loading.run(app, _verify))
        case "upgrade" if print_sql:
            loading.run(app, lambda app: _print_upgrade(app, upgrade_options))
        case _:
            loading.run(app, lambda app: schema(app, action, upgrade_options))


def _role_names(words: tuple[str, ...]) -> roles.RoleNames:
    given = {role: name for role, _, name in (word.partition("=") for word in words)}
    known = [field.name for field in attrs.fields(roles.RoleNames)]
    for role in given:
        if role not in known:
            raise click.UsageError(
                f"There is no role {role!r}: write --role=ROLE=NAME, with one of {', '.join(known)}."
            )
    try:
        return roles.RoleNames(**given)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


async def schema(app: App | None, action: _ACTIONS | None = None, options: UpgradeOptions = _PLAIN) -> None:
    """Create or upgrade the tables of an open app, or print the SQL or its folder, which needs no app."""
    match action:
        case "read":
            click.echo(SchemaManager.get_schema().strip())
            return
        case "migrations_path":
            click.echo(SchemaManager.get_migrations_path())
            return
        case _:
            if app is None:
                raise exceptions.MissingApp
    match action:
        case "upgrade":
            has_changed = await app.schema_manager.upgrade_async(options, output.print_stderr)
            output.print_stderr("Done" if has_changed else "The schema is up to date; nothing was changed.")
        case "verify":
            await _verify(app)
        case _:
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


async def _print_upgrade(app: App, options: UpgradeOptions) -> None:
    script = await app.schema_manager.get_upgrade_async(options)
    click.echo(script or "-- The schema is up to date.", nl=not script)


async def _verify(app: App) -> int:
    """Print the differences; return the exit code."""
    differences = await app.schema_manager.verify_async()
    for difference in differences:
        click.echo(difference)
    output.print_stderr("The schema is not as expected." if differences else "The schema is as expected.")
    return int(bool(differences))
