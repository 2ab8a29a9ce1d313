"""What Django's migrations of procrastinate consist of: its SQL migrations, each applied where it is missing.

Django records which of its migrations ran, and the database itself (`procrastinate_migrations`) which SQL it has. So a
project may have its tables from `migrate`, from `procrastinate schema`, or from version 3 of the other project, and
go on with `migrate` in each case.
"""

# Django has no types.
# pyright: basic

from __future__ import annotations

import functools
import pathlib
from typing import Any

import click
from django.core.management.base import CommandError
from django.db import router
from django.db.migrations.operations.base import Operation
from typing_extensions import override

from procrastinate import exceptions
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.contrib.django.settings import settings
from procrastinate.contrib.django.utils import postgres_connection
from procrastinate.schema import ADVISORY_LOCK, SchemaManager


@functools.cache
def list_migration_files() -> dict[str, str]:
    """Return the texts of procrastinate's SQL migrations by the names of their files, in order."""
    folder = pathlib.Path(SchemaManager.get_migrations_path())
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.sql"))}


class _SchemaOperation(Operation):
    """Acts on the database that PROCRASTINATE_DATABASE_ALIAS names, and on others only if a router says so."""

    reversible = False
    reduces_to_sql = True

    @override
    def state_forwards(self, app_label: str, state: Any) -> None:
        """Change nothing: the models have operations of their own."""

    @override
    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        alias = schema_editor.connection.alias
        if not is_wanted(alias, app_label):
            return
        postgres_connection(alias)  # refuses other databases
        if schema_editor.collect_sql:
            schema_editor.execute(self.sql(), params=None)
        else:
            self.apply(schema_editor)

    @override
    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Never called: the operations are not reversible."""

    def sql(self) -> str:
        """Return what is done, for those who want to see it."""
        raise NotImplementedError

    def apply(self, schema_editor: Any) -> None:
        """Do it, where it is needed."""
        raise NotImplementedError


class RunProcrastinateSQL(_SchemaOperation):
    """Applies one of procrastinate's SQL migrations, unless the database has it.

    Tables of the other project are left to TakeOver.
    """

    def __init__(self, *, name: str) -> None:
        """Name the file of the SQL migration."""
        self.name = name

    @override
    def deconstruct(self) -> Any:
        return type(self).__name__, [], {"name": self.name}

    @override
    def describe(self) -> str:
        return f"Apply procrastinate's {self.name}"

    @override
    def sql(self) -> str:
        return SchemaManager.get_migration(self.name)

    @override
    def apply(self, schema_editor: Any) -> None:
        with schema_editor.connection.cursor() as cursor:
            cursor.execute("select pg_advisory_xact_lock(%s)", [ADVISORY_LOCK])
            cursor.execute(
                "select to_regclass('procrastinate_migrations') is not null,"
                " to_regclass('procrastinate_jobs') is not null"
            )
            is_ours, has_jobs = cursor.fetchone()
            if is_ours:
                name = self.name.removesuffix(".sql")
                cursor.execute("select exists (select from procrastinate_migrations where name = %s)", [name])
                has_jobs = cursor.fetchone()[0]
        if not has_jobs:
            schema_editor.execute(self.sql(), params=None)


class TakeOver(_SchemaOperation):
    """Brings the tables to this version's, whatever they are; in a migration that is not atomic.

    Each of its steps is a transaction of its own, so that no lock is held for long; when it was interrupted, `migrate`
    goes on where it stopped.
    """

    @override
    def describe(self) -> str:
        return "Take over the tables of version 3 of the other project, if they are"

    @override
    def sql(self) -> str:
        return SchemaManager.get_takeover()

    @override
    def apply(self, schema_editor: Any) -> None:
        manager = SchemaManager(DjangoConnector(schema_editor.connection.alias))
        try:
            manager.upgrade(tell=click.echo)
        except exceptions.ConnectorException as error:
            raise CommandError(str(error)) from error


def is_wanted(alias: str, app_label: str) -> bool:
    """Tell whether the tables belong into a database."""
    routers: Any = router.routers
    for each in routers:
        allow_migrate = getattr(each, "allow_migrate", None)
        answer = allow_migrate(alias, app_label) if allow_migrate else None
        if answer is not None:
            return bool(answer)
    return alias == settings.DATABASE_ALIAS
