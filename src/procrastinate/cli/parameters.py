"""Types of option values that click does not bring along."""

from __future__ import annotations

import datetime
import importlib
import math
import warnings
from typing import Any

import click
from typing_extensions import override


class Switch(click.types.BoolParamType):
    """Yes or no; in an environment variable the first letter decides: 0, n, f or 1, y, t."""

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        if isinstance(value, str):
            first = value.strip()[:1].lower()
            if first and first in "0nf":
                return False
            if first and first in "1yt":
                return True
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


class Queues(click.ParamType):  # pyright: ignore[reportMissingTypeArgument]  click < 8.3 has none
    """Names of queues, separated by commas."""

    name = "queues"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if not isinstance(value, str):
            return value
        names = (name.strip() for name in value.split(","))
        return tuple(name for name in names if name)


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


def parse_datetime(text: str) -> datetime.datetime:
    """Read an ISO 8601 date and time, or a looser form such as `Jan 5 2023 3pm`; without a time zone it is UTC.

    Raises ValueError if it cannot be read.
    """
    text = text.strip()
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        moment = _parse_loosely(text)
    return moment if moment.utcoffset() is not None else moment.replace(tzinfo=datetime.UTC)


def _parse_loosely(text: str) -> datetime.datetime:
    try:
        parser: Any = importlib.import_module("dateutil.parser")
    except ImportError:
        raise ValueError("it must be in ISO format, such as 2030-01-31T12:00:00+00:00") from None
    midnight = datetime.datetime.now(tz=datetime.UTC).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    try:
        with warnings.catch_warnings():
            # A time zone that is not understood must not silently become UTC.
            warnings.simplefilter("error", parser.UnknownTimezoneWarning)
            return parser.parse(text, default=midnight)
    except parser.UnknownTimezoneWarning:
        raise ValueError("its time zone is not known; write it as an offset, such as +01:00") from None
    except OverflowError as error:
        raise ValueError(str(error)) from error
