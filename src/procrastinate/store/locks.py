"""The operations that open the line behind a lock."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from typing_extensions import override

from procrastinate.store.operation import Json, Operation, Row


@attrs.frozen(kw_only=True)
class Opened:
    """The answer to OpenLocks.

    Attributes:
        queues: the queues in which a job became ready.
        still_parked: locks whose head could not be opened because somebody else held its row just then. They must be
            tried again, or the job sleeps until the sweep.
    """

    queues: list[str]
    still_parked: list[str]


@attrs.frozen(kw_only=True)
class OpenLocks(Operation[Opened]):
    """Wake the first job in line behind each of these locks that nobody holds."""

    locks: Sequence[str]

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> Opened:
        return Opened(
            queues=sorted({row[1] for row in rows if row[2]}),
            still_parked=[row[0] for row in rows if not row[2]],
        )


@attrs.frozen(kw_only=True)
class FindSleepingLocks(Operation[list[str]]):
    """Answer locks that nobody holds although jobs sleep behind them: what workers that died left unopened."""

    limit: int

    @override
    def decode(self, rows: Sequence[Row], json: Json) -> list[str]:
        return [row[0] for row in rows]
