"""Least privilege: database roles that can do what their work needs, and no more."""

from __future__ import annotations

import importlib.resources
import re

import attrs

from procrastinate.store import postgres


def _check_name(_instance: object, attribute: attrs.Attribute[str], name: str) -> None:
    postgres.check_identifier(name, f"{attribute.name}=")


@attrs.frozen(kw_only=True)
class RoleNames:
    """What the four roles are called. Two may have one name, and then have the rights of both.

    Attributes:
        producer: defers jobs, and looks up their status.
        worker: runs jobs.
        reader: reads everything.
        admin: also cancels, retries, changes and deletes jobs.
    """

    producer: str = attrs.field(default="procrastinate_producer", validator=_check_name)
    worker: str = attrs.field(default="procrastinate_worker", validator=_check_name)
    reader: str = attrs.field(default="procrastinate_reader", validator=_check_name)
    admin: str = attrs.field(default="procrastinate_admin", validator=_check_name)


def get_grants(names: RoleNames | None = None, schema: str | None = None) -> str:
    """Return SQL that creates the roles that are missing and grants each what it needs.

    Run it as the owner of the tables, again after each upgrade.

    Args:
        names: what the roles are called.
        schema: where the tables are; None for the search_path.

    Raises ValueError if that cannot be a schema's name.
    """
    file = importlib.resources.files("procrastinate.store") / "sql" / "roles" / "grants.sql"
    text = postgres.qualified(file.read_text(encoding="utf-8"), postgres.check_schema(schema))
    given = attrs.asdict(names or RoleNames())

    def fill_in(match: re.Match[str]) -> str:
        name: str = given[match[2]]
        return postgres.identifier(name) if match[1] == '"' else "'" + name.replace("'", "''") + "'"

    return re.sub(r""":(["'])(\w+)\1""", fill_in, text)
