"""What other modules need to know of Django and of the installed packages."""

# Django has no types.
# pyright: basic

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections


def connector_params(alias: str = "default") -> dict[str, Any]:
    """Return the arguments with which Django connects to a database, for a connector of one's own.

    They fit psycopg's and psycopg2's `connect`; what only Django's own cursors need is left out.
    """
    parameters = postgres_connection(alias).get_connection_params()
    return {name: value for name, value in parameters.items() if name not in ("cursor_factory", "context")}


def postgres_connection(alias: str) -> Any:
    """Return Django's connection of this alias. Raises ImproperlyConfigured if its database is not PostgreSQL."""
    connection = connections[alias]
    if connection.vendor != "postgresql":
        raise ImproperlyConfigured(
            f"Procrastinate needs PostgreSQL, and the database {alias!r} is {connection.display_name}. Name another "
            "one in PROCRASTINATE_DATABASE_ALIAS; in tests without PostgreSQL, replace the app's connector by a "
            "procrastinate.testing.InMemoryConnector and set MIGRATION_MODULES = {'procrastinate': None}."
        )
    return connection


def package_is_installed(name: str) -> bool:
    """Tell whether a package can be imported."""
    with contextlib.suppress(ModuleNotFoundError, ValueError):
        return importlib.util.find_spec(name) is not None
    return False


def package_is_version(name: str, major: int) -> bool:
    """Tell whether a distribution is installed in this major version."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name).partition(".")[0] == str(major)
    return False
