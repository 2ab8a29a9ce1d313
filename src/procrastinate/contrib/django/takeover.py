"""The SQL side of Django's migrations: which of procrastinate's SQL a database lacks, and how it gets it."""

# Django has no types.
# pyright: basic

from __future__ import annotations

import hashlib
import pathlib
from typing import Any

from procrastinate.schema import ADVISORY_LOCK, SchemaManager


def script(file_name: str) -> str:
    """Return the SQL of a migration, and of the record that it was applied."""
    path = pathlib.Path(SchemaManager.get_migrations_path()) / file_name
    text = path.read_text(encoding="utf-8")
    checksum = hashlib.sha256(text.encode()).hexdigest()
    # The name and the checksum are the package's own.
    record = f"insert into procrastinate_migrations (name, checksum) values ('{path.stem}', '{checksum}');"  # noqa: S608
    return f"{text}\n{record}\n"


def bring_to(file_name: str, schema_editor: Any) -> None:
    """Apply a migration in the transaction of `schema_editor`, unless the database has it."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(%s)", [ADVISORY_LOCK])
        cursor.execute("select to_regclass('procrastinate_migrations') is not null")
        if cursor.fetchone()[0]:
            name = file_name.removesuffix(".sql")
            cursor.execute("select exists (select from procrastinate_migrations where name = %s)", [name])
            if cursor.fetchone()[0]:
                return
    schema_editor.execute(script(file_name), params=None)
