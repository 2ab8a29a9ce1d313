"""System checks: what would fail later, said early and with the way out."""

# Django has no types.
# pyright: basic

from __future__ import annotations

from typing import Any

from django.core import checks
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from procrastinate.contrib.django.migrations_utils import is_wanted
from procrastinate.contrib.django.settings import settings

# How many migrations of Django lead to the schema that can be taken over.
REPLACED = 41


@checks.register(checks.Tags.compatibility)
def check_settings(_app_configs: Any = None, **_: Any) -> list[checks.CheckMessage]:
    """Check the settings against each other."""
    alias = settings.DATABASE_ALIAS
    databases: Any = connections.settings
    if alias not in databases:
        return [
            checks.Error(
                f"PROCRASTINATE_DATABASE_ALIAS is {alias!r}, and DATABASES has no such database.",
                hint=f"It has: {', '.join(databases)}.",
                id="procrastinate.E001",
            )
        ]
    return []


@checks.register(checks.Tags.database)
def check_former_migrations(
    _app_configs: Any = None, databases: list[str] | None = None, **_: Any
) -> list[checks.CheckMessage]:
    """Check that a database of version 3 of the other project is one that can be taken over."""
    messages: list[checks.CheckMessage] = []
    for alias in databases or ():
        if connections[alias].vendor != "postgresql" or not is_wanted(alias, "procrastinate"):
            continue
        names = [
            name for app, name in MigrationRecorder(connections[alias]).applied_migrations() if app == "procrastinate"
        ]
        former = [
            name for name in names if name[:4].isdecimal() and int(name[:4]) <= REPLACED and "squashed" not in name
        ]
        if 0 < len(former) < REPLACED:
            messages.append(
                checks.Error(
                    f"The database {alias!r} has {len(former)} of the {REPLACED} migrations of procrastinate 3: its "
                    "schema is older than 3.4, from where this version can take over.",
                    hint="Install procrastinate 3.10, run `manage.py migrate procrastinate`, and come back.",
                    id="procrastinate.E002",
                )
            )
    return messages
