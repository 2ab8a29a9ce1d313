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

from django.db import router
from django.db.migrations.operations.base import Operation
from typing_extensions import override

from procrastinate.contrib.django import takeover
from procrastinate.contrib.django.settings import settings
from procrastinate.contrib.django.utils import postgres_connection
from procrastinate.schema import SchemaManager


@functools.cache
def list_migration_files() -> dict[str, str]:
    """Return the texts of procrastinate's SQL migrations by the names of their files, in order."""
    folder = pathlib.Path(SchemaManager.get_migrations_path())
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.sql"))}


class RunProcrastinateSQL(Operation):
    """Brings the database to where it has one of procrastinate's SQL migrations; nothing happens if it has it.

    It acts on the database that PROCRASTINATE_DATABASE_ALIAS names, and on others only if a router says so.
    """

    reversible = False
    reduces_to_sql = True

    def __init__(self, *, name: str) -> None:
        """Name the file of the SQL migration."""
        self.name = name

    @override
    def deconstruct(self) -> Any:
        return type(self).__name__, [], {"name": self.name}

    @override
    def state_forwards(self, app_label: str, state: Any) -> None:
        """Change nothing: the models have operations of their own."""

    @override
    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        alias = schema_editor.connection.alias
        if not is_wanted(alias, app_label):
            return
        postgres_connection(alias)
        if schema_editor.collect_sql:
            schema_editor.execute(takeover.script(self.name), params=None)
        else:
            takeover.bring_to(self.name, schema_editor)

    @override
    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Never called: the operation is not reversible."""

    @override
    def describe(self) -> str:
        return f"Apply procrastinate's {self.name}"


def is_wanted(alias: str, app_label: str) -> bool:
    """Tell whether the tables belong into a database."""
    for each in router.routers:
        allow_migrate = getattr(each, "allow_migrate", None)
        answer = allow_migrate(alias, app_label) if allow_migrate else None
        if answer is not None:
            return bool(answer)
    return alias == settings.DATABASE_ALIAS
