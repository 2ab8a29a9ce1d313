"""Types shared by all layers."""

from __future__ import annotations

import datetime
from typing import TypeAlias

from typing_extensions import TypedDict

JSONValue: TypeAlias = "dict[str, JSONValue] | list[JSONValue] | str | int | float | bool | None"
JSONDict: TypeAlias = dict[str, JSONValue]


class TimeDeltaParams(TypedDict, total=False):
    """The keyword arguments of `datetime.timedelta`: what `schedule_in` and `retry_in` take."""

    weeks: float
    days: float
    hours: float
    minutes: float
    seconds: float
    milliseconds: float
    microseconds: float


def utcnow() -> datetime.datetime:
    """Return the current time, aware, in UTC."""
    return datetime.datetime.now(tz=datetime.UTC)


def time_from_now(params: TimeDeltaParams) -> datetime.datetime:
    """Return the aware UTC time that is `timedelta(**params)` from now.

    A result past the year 9999 is clamped to the latest time there is, so that an exponential back-off never fails;
    likewise at the other end. Raises TypeError for a name that `timedelta` does not know.
    """
    now = utcnow()
    try:
        return now + datetime.timedelta(**params)
    except OverflowError:
        # PostgreSQL's timestamptz reaches further than Python's datetime: no clamping is needed there.
        if _is_positive(params):
            return datetime.datetime.max.replace(tzinfo=datetime.UTC)
        return datetime.datetime.min.replace(tzinfo=datetime.UTC)


def _is_positive(params: TimeDeltaParams) -> bool:
    values = [value for value in params.values() if isinstance(value, int | float)]
    return max(values, key=abs, default=0) >= 0


def from_timestamp(seconds: float) -> datetime.datetime:
    """Return the aware UTC time of a number of seconds since the epoch."""
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC)
