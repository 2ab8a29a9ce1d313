"""How commands print: results to standard output, everything else to standard error."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from procrastinate.cli import log_settings

STATUS_STYLES = {
    "todo": "cyan",
    "doing": "yellow",
    "succeeded": "green",
    "failed": "red",
    "aborted": "magenta",
    "cancelled": "bright_black",
    "alive": "green",
    "stalled": "red",
}


_WRAPPING = {"queue", "task", "lock", "arguments", "name"}
_NARROWEST = 8


def print_stderr(*values: Any) -> None:
    """Print what is no result, to standard error."""
    click.echo(" ".join(str(value) for value in values), err=True)


def print_json(value: Any) -> None:
    """Print a value as JSON; times in ISO format."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> str:
    return value.astimezone(datetime.UTC).isoformat() if isinstance(value, datetime.datetime) else str(value)


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows, all with the same keys.

    On a terminal, columns with nothing but zeros are left out, and long values wrap. Otherwise there is one line for
    each row, however long, and always the same columns. No rows, no output.
    """
    if not rows:
        return
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    if log_settings.is_rich(sys.stdout):
        _draw(columns)
        return
    aligned: list[list[str]] = []
    for name, values in columns.items():
        texts = [name.upper(), *map(cell, values)]
        width = max(map(len, texts))
        aligned.append([text.rjust(width) if _is_number(values) else text.ljust(width) for text in texts])
    for line in zip(*aligned, strict=True):
        click.echo("  ".join(line).rstrip())


def _is_number(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float | None) for value in values)


def _draw(columns: Mapping[str, Sequence[Any]]) -> None:
    from rich.console import Console  # noqa: PLC0415  an extra
    from rich.measure import Measurement  # noqa: PLC0415  an extra
    from rich.table import Table  # noqa: PLC0415  an extra
    from rich.text import Text  # noqa: PLC0415  an extra

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    drawn: list[list[Text]] = []
    for name, values in columns.items():
        if not any(values):
            continue
        texts = [_ago(value) if isinstance(value, datetime.datetime) else cell(value) for value in values]
        # Names and arguments may go on in the next line; the rest is short, and useless if it is cut.
        wraps = name in _WRAPPING
        width = _NARROWEST if wraps else max(map(len, [name, *texts]))
        justify = "right" if _is_number(values) else "left"
        table.add_column(name.upper(), justify=justify, no_wrap=not wraps, min_width=width, overflow="fold")
        drawn.append([Text(text, style=STATUS_STYLES.get(text, "")) for text in texts])
    for line in zip(*drawn, strict=True):
        table.add_row(*line)
    console = Console()
    # Nothing is cut off: where even the narrowest table is too wide, the terminal wraps it.
    anything = console.options.update(max_width=10_000)
    console.width = max(console.width, Measurement.get(console, anything, table).minimum)
    console.print(table)


def _ago(value: datetime.datetime) -> str:
    """Return how far away a time is, in its biggest unit."""
    seconds = (datetime.datetime.now(tz=datetime.UTC) - value).total_seconds()
    length = duration(abs(seconds), units=1)
    return f"{length} ago" if seconds >= 0 else f"in {length}"


def cell(value: Any) -> str:
    """Return a value for people, on one line."""
    if value is None:
        return ""
    if isinstance(value, datetime.datetime):
        return moment(value)
    return printable(str(value))


def moment(value: datetime.datetime) -> str:
    """Return a time for people, in UTC, to the second."""
    return f"{value.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S}Z"


def printable(text: str) -> str:
    """Return a text without what would move the cursor or command the terminal; it came from the database."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def duration(seconds: float, units: int = 2) -> str:
    """Return a length of time for people, in its biggest units."""
    rest = max(round(seconds), 0)
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:units])


def plural(count: int, word: str = "job") -> str:
    """Return a number of things, such as `1 job` and `2 jobs`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
