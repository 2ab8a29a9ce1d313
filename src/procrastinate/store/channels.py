"""The names of the channels on which workers listen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

ANY_QUEUE = "procrastinate_any_queue_v1"

# PostgreSQL allows 63 bytes for a channel's name, of which the prefix takes 23.
LONGEST_QUEUE_NAME = 40


def channels_for(queues: Iterable[str] | None = None) -> list[str]:
    """Return the channels of these queues, or the one of all queues for None.

    The SQL function `procrastinate_queue_channel_v1` computes the same names.
    """
    if queues is None:
        return [ANY_QUEUE]
    return [f"procrastinate_queue_v1#{_short(queue)}" for queue in queues]


def _short(queue: str) -> str:
    encoded = queue.encode()
    return queue if len(encoded) <= LONGEST_QUEUE_NAME else hashlib.md5(encoded, usedforsecurity=False).hexdigest()
