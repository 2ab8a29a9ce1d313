"""The operations on the tables themselves."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from typing_extensions import override

from procrastinate.store.operation import Json, Operation, Row


@attrs.frozen(kw_only=True)
class CheckConnection(Operation[bool]):
    """Answer whether the table of jobs is there."""

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> bool:
        return rows[0][0]


@attrs.frozen(kw_only=True)
class ReadMigrations(Operation[dict[str, str]]):
    """Answer the migrations that were applied: their checksums by name.

    Raises SchemaNotApplied where there is no record of any.
    """

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> dict[str, str]:
        return {row[0]: row[1] for row in rows}


@attrs.frozen
class Tables:
    """What a database has under our name.

    Attributes:
        schema: the schema of the table of jobs, None if there is no such table.
        names: relations as `name:kind`, columns as `table.column`, values of enums as `type.value`.
    """

    schema: str | None
    names: frozenset[str]

    @property
    def are_missing(self) -> bool:
        """Whether there is no table of jobs."""
        return self.schema is None

    @property
    def are_ours(self) -> bool:
        """Whether some version of ours made the tables, or took them over, be it halfway."""
        return "procrastinate_migrations:r" in self.names

    @property
    def are_being_taken_over(self) -> bool:
        """Whether a takeover began and has not come to its end."""
        return "procrastinate_takeover:r" in self.names


@attrs.frozen(kw_only=True)
class InspectTables(Operation[Tables]):
    """Answer whose tables are there."""

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> Tables:
        return Tables(rows[0][0], frozenset(rows[0][1]))


@attrs.frozen(kw_only=True)
class ReadCatalog(Operation[dict[tuple[str, str], str]]):
    """Answer the definition of everything under our name, by kind and name."""

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> dict[tuple[str, str], str]:
        return {(row[0], row[1]): row[2] for row in rows}
