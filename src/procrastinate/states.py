"""The states of a job, and every way from one to another.

Nothing here is executed by a worker: the statements in `store/sql` move the jobs. The model tests ask for random
operations and compare what they see with this table, in both directions, and the diagram in the documentation is drawn
from it, so that neither can say what is not so.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

from procrastinate.jobs import Status


class State(enum.Enum):
    """What a job's row says of it in `status` and, while it waits, `waits_for`."""

    READY = (Status.TODO, None)
    SCHEDULED = (Status.TODO, "time")
    BLOCKED = (Status.TODO, "lock")
    DOING = (Status.DOING, None)
    SUCCEEDED = (Status.SUCCEEDED, None)
    FAILED = (Status.FAILED, None)
    CANCELLED = (Status.CANCELLED, None)
    ABORTED = (Status.ABORTED, None)
    ABSENT = (None, None)  # no row: not deferred yet, or deleted

    @property
    def status(self) -> Status | None:
        """The status that users see; None if there is no row."""
        return self.value[0]

    @classmethod
    def of(cls, row: Mapping[str, Any] | None) -> State:
        """Return the state of a row of `procrastinate_jobs`, None for no row."""
        return cls.ABSENT if row is None else cls((Status(row["status"]), row["waits_for"]))


# Waiting; and all that a job can be in, until it has ended.
WAITING: Final = (State.READY, State.SCHEDULED, State.BLOCKED)
ENDED: Final = (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.ABORTED)


def _ways(*groups: tuple[State | tuple[State, ...], State | tuple[State, ...]]) -> frozenset[tuple[State, State]]:
    """Return each way from a state on the left to one on the right."""

    def several(states: State | tuple[State, ...]) -> tuple[State, ...]:
        return states if isinstance(states, tuple) else (states,)

    return frozenset((before, after) for left, right in groups for before in several(left) for after in several(right))


# By the name of the operation that does it. A job that an operation leaves in its state is not mentioned.
TRANSITIONS: Final[Mapping[str, frozenset[tuple[State, State]]]] = {
    "defer_job": _ways((State.ABSENT, (State.READY, State.SCHEDULED))),
    "defer_alike": _ways((State.ABSENT, (State.READY, State.SCHEDULED))),
    "defer_jobs": _ways((State.ABSENT, (State.READY, State.SCHEDULED))),
    "defer_periodic_job": _ways((State.ABSENT, State.READY)),
    # A claim parks what it may not start; rows that SQL wrote may say that they are ready when they are not due.
    "fetch_jobs": _ways((State.READY, (State.DOING, State.BLOCKED, State.SCHEDULED))),
    "stage_jobs": _ways((State.SCHEDULED, State.READY)),
    "open_locks": _ways((State.BLOCKED, State.READY)),
    "finish_jobs": _ways((State.DOING, (State.SUCCEEDED, State.FAILED, State.ABORTED))),
    "delete_jobs": _ways((State.DOING, State.ABSENT)),
    # Refused, and failed, if an abort was requested or a job with the queueing lock waits.
    "retry_jobs": _ways((State.DOING, (State.READY, State.SCHEDULED, State.FAILED))),
    # As above, but the run had not begun: it was aborted, or is left to the other job.
    "release_jobs": _ways((State.DOING, (State.READY, State.CANCELLED, State.ABORTED))),
    "rescue_jobs": _ways((State.DOING, (State.READY, State.FAILED, State.ABORTED))),
    "cancel_job": _ways((WAITING, (State.CANCELLED, State.ABSENT))),
    "run_job_now": _ways((State.SCHEDULED, State.READY)),
    "retry_job": _ways(((State.DOING, State.FAILED), (State.READY, State.SCHEDULED)), (State.DOING, State.FAILED)),
    "finish_job": _ways(((*WAITING, State.DOING), (State.SUCCEEDED, State.FAILED, State.ABORTED, State.ABSENT))),
    "delete_old_jobs": _ways((ENDED, State.ABSENT)),
}
