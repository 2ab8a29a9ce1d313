"""The command `manage.py procrastinate healthchecks`."""

# Django has no types.
# pyright: basic

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError
from django.db.migrations.executor import MigrationExecutor

from procrastinate import exceptions
from procrastinate.cli import loading
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.contrib.django.settings import settings
from procrastinate.contrib.django.utils import postgres_connection

if TYPE_CHECKING:
    from procrastinate.app import App


@click.command("healthchecks")
@click.pass_obj
def command(options: loading.GlobalOptions) -> None:
    """Check the database, the migrations, the app, and the app as a worker has it."""
    check_database()
    click.echo("Database connection: OK")
    check_migrations()
    click.echo("Migrations: OK")
    app = options.load_app()
    # On Django's connection it is another check than on the worker's.
    if isinstance(app.connector.get_sync_connector(), DjangoConnector):
        _require_tables(app.check_connection())
    click.echo("Default Django Procrastinate App: OK")
    loading.run(app, _check_as_worker)
    click.echo("Worker App: OK")


def check_database() -> None:
    """Connect. Raises ConnectorException if that fails, ImproperlyConfigured if it is no PostgreSQL."""
    connection = postgres_connection(settings.DATABASE_ALIAS)
    try:
        connection.ensure_connection()
    except DatabaseError as error:
        raise exceptions.ConnectorException(f"The database cannot be reached: {error}") from error


def check_migrations() -> None:
    """Raise ConnectorException if the migrations cannot be read, click.ClickException if some are missing."""
    connection = postgres_connection(settings.DATABASE_ALIAS)
    try:
        executor = MigrationExecutor(connection)
        nodes = [node for node in executor.loader.graph.leaf_nodes() if node[0] == "procrastinate"]
        missing = executor.migration_plan(nodes)
    except (ImproperlyConfigured, DatabaseError) as error:
        raise exceptions.ConnectorException(f"The migrations cannot be read: {error}") from error
    if any(migration.app_label == "procrastinate" for migration, _ in missing):
        raise Missing("Missing procrastinate migrations. Run `python manage.py migrate procrastinate`.")


class Missing(click.ClickException):
    """Something is not there. The message says it all."""

    def show(self, file: object = None) -> None:
        """Print the message alone, to standard error."""
        click.echo(self.message, err=True)


def _require_tables(found: bool) -> None:
    if not found:
        raise Missing("The table procrastinate_jobs was not found. Run `python manage.py migrate procrastinate`.")


async def _check_as_worker(app: App) -> None:
    _require_tables(await app.check_connection_async())
