"""Operations as PostgreSQL sees them: the SQL of each, in a schema, and errors by SQLSTATE. Knows no driver."""

from __future__ import annotations

import contextlib
import functools
import importlib.resources
import json
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from importlib.resources.abc import Traversable
from typing import Any

import attrs

from procrastinate import exceptions
from procrastinate.store.operation import Operation
from procrastinate.types import lean_frozen

JSONDumps = Callable[[Any], Any]
JSONLoads = Callable[[Any], Any]

# An odd number of backslashes before u0000: a NUL character, not a backslash followed by text.
NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


# What PostgreSQL cuts off silently.
LONGEST_NAME = 63


PART = re.compile(r"^( *)-- part: .*$", re.MULTILINE)


def statement(operation: Operation[Any], schema: str | None = None) -> str:
    """Return the SQL of an operation, with `%(name)s` placeholders; our names qualified with `schema`, if given."""
    return _statement(operation.name, operation.part, schema)


@functools.cache
def _statement(name: str, part: str | None, schema: str | None) -> str:
    text = _files().joinpath(f"{name}.sql").read_text(encoding="utf-8")
    if part is not None:
        text = completed(text, _files().joinpath("parts", f"{part}.sql").read_text(encoding="utf-8"))
    # Placeholders are filled in later: a percent sign in the schema's name must survive that.
    return qualified(text, schema and schema.replace("%", "%%"))


def completed(text: str, part: str) -> str:
    """Return SQL with a part in place of the line that says where it belongs, as far to the right."""
    return PART.sub(lambda gap: textwrap.indent(part.rstrip("\n"), gap[1]), text)


def _files() -> Traversable:
    return importlib.resources.files("procrastinate.store") / "sql"


def check_schema(schema: str | None) -> str | None:
    """Return `schema`. Raises ValueError if it cannot be a schema's name."""
    return None if schema is None else check_identifier(schema, "schema=")


def check_identifier(name: str, what: str) -> str:
    """Return `name`. Raises ValueError, which says `what` was given, if it cannot be a name in our scripts."""
    if not isinstance(name, str) or not name or "\0" in name or "$$" in name:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"{what}{name!r} is no name: it must be a text, not empty, without NUL and without $$")
    if len(name.encode()) > LONGEST_NAME:
        raise ValueError(f"{what}{name!r} is too long: PostgreSQL allows {LONGEST_NAME} bytes")
    return name


def identifier(name: str) -> str:
    """Return `name` as an identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'


def qualified(text: str, schema: str | None) -> str:
    """Return SQL with the names of our tables, types, functions, sequences and views qualified with `schema`.

    Indexes, constraints and triggers live where their table does, and channels belong to the whole database.
    """
    if schema is None:
        return text
    names, prefix = _own_names(), f"{identifier(schema)}."

    def qualify(match: re.Match[str]) -> str:
        token = match[0]
        if token.startswith("'"):  # a name as text, for nextval and to_regclass
            literal_prefix = prefix.replace("'", "''")
            return names.sub(lambda name: literal_prefix + name[0], token)
        return token if token.startswith("--") else prefix + token

    return re.sub(rf"--[^\n]*|'(?:[^']|'')*'|{names.pattern}", qualify, text)


@functools.cache
def _own_names() -> re.Pattern[str]:
    """Return the pattern of everything that the migrations create and that has a schema of its own."""
    names: set[str] = set()
    for path in _files().joinpath("migrations").iterdir():
        text = path.read_text(encoding="utf-8")
        names.update(
            re.findall(r"^create (?:or replace )?(?:type|table|view|function|sequence) (\w+)", text, re.MULTILINE)
        )
        for table, columns in re.findall(r"^create table (\w+) \((.*?)^\)", text, re.MULTILINE | re.DOTALL):
            # The sequences behind columns get their names from PostgreSQL.
            serial = re.findall(r"^  (\w+) (?:big)?serial\b", columns, re.MULTILINE)
            names.update(f"{table}_{column}_seq" for column in serial)
    # In the middle of a qualified name, or as the beginning of an index's or a channel's name, it is not ours.
    return re.compile(rf"(?<![\w.\"])(?:{'|'.join(sorted(names))})(?![\w#])")


PLACEHOLDER = re.compile(r"%\((\w+)\)s|%%")


@functools.lru_cache(maxsize=1024)
def numbered(text: str) -> tuple[str, tuple[str, ...]]:
    """Return SQL with `$1`, `$2` … in place of `%(name)s`, and the names in that order."""
    names: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        return f"${names.setdefault(match[1], len(names) + 1)}" if match[1] else "%"

    return PLACEHOLDER.sub(number, text), tuple(names)


def with_lone_percents(text: str) -> str:
    """Return the user's SQL with percent signs that begin no placeholder doubled, as drivers want it."""
    return re.sub(r"%%|%\(\w+\)[sbt]|%", lambda match: "%%" if match[0] == "%" else match[0], text)


@lean_frozen
class Statement:
    """What is sent in one round trip.

    Attributes:
        text: SQL with `%(name)s` placeholders.
        parameters: their values, plain scalars and lists.
        is_planned_anew: whether PostgreSQL is to make a plan for these values alone, where the driver can choose.
    """

    text: str
    parameters: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    is_planned_anew: bool = False

    def numbered(self) -> tuple[str, tuple[Any, ...]]:
        """Return the text with `$n` placeholders, and their values in order."""
        text, names = numbered(self.text)
        return text, tuple(self.parameters[name] for name in names)


# `json.dumps` makes an encoder for each call that asks for more than the default.
_strict_dumps = json.JSONEncoder(allow_nan=False).encode


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

    def dumps_all(self, values: Sequence[Any]) -> str:
        """Return the values as the text of one JSON array. Raises what `dumps` raises."""
        if self.custom_dumps is None:
            return self.dumps(values)
        # The user's function was written for the arguments of one job.
        return f"[{','.join(map(self.dumps, values))}]"

    def loads(self, text: str) -> Any:
        """Read JSON text."""
        return (self.custom_loads or json.loads)(text)

    def loads_all(self, texts: Sequence[str]) -> list[Any]:
        """Read JSON texts. One that cannot be read stays text: no task takes that, and only its own job fails."""
        if self.custom_loads is None:
            # As one array: for the arguments of 500 jobs that takes a third of the time of 500 calls.
            with contextlib.suppress(ValueError, RecursionError):
                return json.loads(f"[{','.join(texts)}]")
        return [self._loads_or_text(text) for text in texts]

    def _loads_or_text(self, text: str) -> Any:
        try:
            return self.loads(text)
        except Exception:  # noqa: BLE001  the user's own function, or nesting too deep for Python's
            return text


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
