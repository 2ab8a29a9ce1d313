"""Types of option values that click does not bring along."""

from __future__ import annotations

import datetime
import math
from typing import Any, Final

import click
from typing_extensions import override

from procrastinate.types import parse_datetime

# Within PostgreSQL's bigint, also after adding a few.
LARGEST: Final = 2**62


def env_bool(text: str) -> bool:
    """Read a yes (1, y, t) or no (0, n, f) by its first letter. Raises ValueError if it is neither."""
    match text.strip()[:1].lower():
        case "0" | "n" | "f":
            return False
        case "1" | "y" | "t":
            return True
        case _:
            raise ValueError(f"{text!r} is neither yes nor no")


def cast_queues(text: str) -> list[str] | None:
    """Read names of queues that are separated by commas, None for all if there is no name."""
    return [name for name in map(str.strip, text.split(",")) if name] or None


class Switch(click.types.BoolParamType):
    """Yes or no; in an environment variable the first letter decides."""

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        if isinstance(value, str):
            try:
                return env_bool(value)
            except ValueError as error:
                self.fail(f"{error}; write 1 or 0.", param, ctx)
        return super().convert(value, param, ctx)


class Seconds(click.ParamType):  # pyright: ignore[reportMissingTypeArgument]  click < 8.3 has none
    """A finite number of seconds."""

    name = "seconds"

    def __init__(self, minimum: float | None = None, *, is_open: bool = False) -> None:
        """Accept numbers from `minimum` on, or only those above it if `is_open`."""
        self.minimum = minimum
        self.is_open = is_open

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        if self.minimum is not None and (number < self.minimum or (self.is_open and number == self.minimum)):
            self.fail(f"{value} must be {'more than' if self.is_open else 'at least'} {self.minimum:g}.", param, ctx)
        return number


class WholeNumber(click.ParamType):  # pyright: ignore[reportMissingTypeArgument]  click < 8.3 has none
    """A whole number that may be an id or a limit; unlike click's range, it keeps quiet about that in the help."""

    name = "number"

    def __init__(self, minimum: int = 0) -> None:
        """Accept numbers from `minimum` on."""
        self.minimum = minimum

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is not a whole number.", param, ctx)
        if not self.minimum <= number <= LARGEST:
            self.fail(f"{value} must be between {self.minimum} and {LARGEST}.", param, ctx)
        return number


class Queues(click.ParamType):  # pyright: ignore[reportMissingTypeArgument]  click < 8.3 has none
    """Names of queues, separated by commas."""

    name = "queues"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        return tuple(cast_queues(value) or ()) if isinstance(value, str) else value


class Moment(click.ParamType):  # pyright: ignore[reportMissingTypeArgument]  click < 8.3 has none
    """A date and time; without a time zone it is UTC."""

    name = "datetime"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime.datetime:
        if isinstance(value, datetime.datetime):
            return value
        try:
            return parse_datetime(str(value))
        except ValueError as error:
            self.fail(f"{value!r} is not a date and time: {error}", param, ctx)
