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
