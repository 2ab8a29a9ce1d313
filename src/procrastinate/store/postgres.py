"""Operations as PostgreSQL sees them: the SQL of each, and errors by SQLSTATE. Knows no driver."""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from collections.abc import Callable
from typing import Any

import attrs

from procrastinate import exceptions
from procrastinate.store.operation import Operation

JSONDumps = Callable[[Any], Any]
JSONLoads = Callable[[Any], Any]

# An odd number of backslashes before u0000: a NUL character, not a backslash followed by text.
NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def statement(operation: Operation[Any]) -> str:
    """Return the SQL of an operation, with `%(name)s` placeholders."""
    return _read(f"{operation.name}.sql")


@functools.cache
def _read(name: str) -> str:
    return (importlib.resources.files("procrastinate.store") / "sql" / name).read_text(encoding="utf-8")


def _strict_dumps(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


@attrs.frozen
class JsonText:
    """JSON functions of the user's choice, with the checks that PostgreSQL would make, made before anything is sent.

    Attributes:
        custom_dumps: writes a value as JSON, as text or bytes; None for the standard library's.
        custom_loads: reads JSON text; None for the standard library's.
    """

    custom_dumps: JSONDumps | None = None
    custom_loads: JSONLoads | None = None

    def dumps(self, value: Any) -> str:
        """Return `value` as JSON text.

        Raises TypeError for a value that is no JSON, InvalidData for one that PostgreSQL cannot store: NaN and
        infinity, NUL characters.
        """
        try:
            text = (self.custom_dumps or _strict_dumps)(value)
        except ValueError as error:
            raise exceptions.InvalidData(
                f"These arguments cannot be stored as JSON: {error}. NaN and infinity are not JSON numbers."
            ) from error
        if isinstance(text, bytes):
            text = text.decode()
        if "\\u0000" in text and NUL.search(text):
            raise exceptions.InvalidData(
                "These arguments cannot be stored: PostgreSQL does not allow the NUL character (\\u0000) in JSON text."
            )
        return text

    def loads(self, text: str) -> Any:
        """Read JSON text."""
        return (self.custom_loads or json.loads)(text)


def translate_error(
    sqlstate: str | None, message: str, *, constraint: str | None = None
) -> exceptions.ConnectorException:
    """Return the exception for a server's or driver's error.

    `sqlstate` is None where the driver itself failed, which means that the connection did.
    See https://www.postgresql.org/docs/current/errcodes-appendix.html.
    """
    match sqlstate:
        case "23505":
            return exceptions.UniqueViolation(message, constraint_name=constraint, queueing_lock=None)
        case "55P03":
            return exceptions.LockNotAvailable(message)
        case "42P01" | "42883" | "42703" | "42704" if "procrastinate" in message:
            return exceptions.SchemaNotApplied(
                f"{message}\nThe tables of procrastinate are missing here, or do not fit this version: "
                "run `procrastinate schema --apply`, and check the database and the search_path."
            )
        case str() if sqlstate.startswith("22"):
            return exceptions.InvalidData(f"PostgreSQL cannot store this value: {message}")
        case None | "57P01" | "57P02" | "57P03" | "53300":
            return exceptions.ConnectionLost(message)
        case str() if sqlstate.startswith("08"):
            return exceptions.ConnectionLost(message)
        case _:
            return exceptions.ConnectorException(message)
