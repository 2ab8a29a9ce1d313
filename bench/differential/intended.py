"""Where the two implementations are meant to differ, each with its reason."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable
from typing import Any

Explains = Callable[[Any, Any], bool]


@dataclasses.dataclass(frozen=True)
class Intended:
    """A difference at the paths that fit `pattern`, if `explains(theirs, ours)`."""

    pattern: str
    explains: Explains
    reason: str

    def covers(self, path: str, theirs: Any, ours: Any) -> bool:
        return fnmatch.fnmatchcase(path, self.pattern) and self.explains(theirs, ours)


def values(theirs: Any, ours: Any) -> Explains:
    """Exactly these two."""
    return lambda their, our: (their, our) == (theirs, ours)


def only_about(*labels: str) -> Explains:
    """Lists that are equal but for these labels."""
    return lambda their, our: {*their} ^ {*our} <= {*labels}


def one_schedule(theirs: list[str], ours: list[str]) -> bool:
    """Events that are equal but for schedules that came later: theirs repeats them, ours knows the last."""
    first = theirs.index("scheduled") + 1 if "scheduled" in theirs else 0
    return ours == [*theirs[:first], *(kind for kind in theirs[first:] if kind != "scheduled")]


LATE_TICK = "a worker that lags behind does not defer a tick again that is older than the latest one"
USER_ABORT = "who is aborted at a user's request ends aborted, strategy or not, and the run counts"
STALE_FLAG = "a job that does not run any more keeps no request to abort it, or it could never be retried"
INTENDED = [
    Intended("rows/*/no_worker", values(True, False), "who ran a job is kept as a record when that worker is gone"),
    Intended(
        "events/*",
        one_schedule,
        "the events of a job are read off its row: it says when the job is scheduled for, once, even if the row was "
        "changed since",
    ),
    Intended(
        "seen/bad_jobs/3",
        values(*(["error", "name too long", kind] for kind in ("ConnectorException", "ValueError"))),
        "what cannot fit is refused before anything is sent",
    ),
    Intended("rows/abort_self_retrying/status", values("failed", "aborted"), USER_ABORT),
    Intended("rows/abort_self_retrying/attempts", values(0, 1), USER_ABORT),
    Intended("rows/abort_self_retrying/abort_requested", values(True, False), STALE_FLAG),
    Intended(
        "events/abort_self_retrying",
        values(*(["deferred", "started", "abort_requested", kind] for kind in ("failed", "aborted"))),
        USER_ABORT,
    ),
    Intended("rows/abort_then_fail/attempts", values(0, 1), "every run that ended counts"),
    Intended("rows/abort_then_fail/abort_requested", values(True, False), STALE_FLAG),
    Intended("rows/cancelled with abort/abort_requested", values(True, False), STALE_FLAG),
    Intended("rows/fetched, abort requested, retried/abort_requested", values(True, False), STALE_FLAG),
    Intended(
        "kept/*",
        only_about("abort_self_retrying", "cancelled before its time"),
        "a schedule in the future keeps no cancelled job from being deleted; and who ends aborted is deleted as such",
    ),
    Intended("seen/periodic/7", values(["late tick", True], ["late tick", False]), LATE_TICK),
    Intended("runs/tick 100", values([[], []], [[]]), LATE_TICK),
    Intended(
        "events/tick 100",
        values(["deferred", "started", "succeeded"] * 2, ["deferred", "started", "succeeded"]),
        LATE_TICK,
    ),
    Intended(
        "periodic_defers",
        values(
            [["tick", "", 100], ["tick", "", 160], ["tick", "other", 220]], [["tick", "", 160], ["tick", "other", 220]]
        ),
        LATE_TICK,
    ),
    Intended("seen/counts/1", lambda their, our: "cron" in their and "cron" in our, LATE_TICK),
    Intended("seen/counts/2", lambda their, our: "default" in their and their[1] + 1 == our[1], USER_ABORT),
    Intended("seen/counts/11", lambda their, our: {"abort_self_retrying"} <= {*their} & {*our}, USER_ABORT),
    Intended("seen/counts/23", lambda their, our: "tick" in their and "tick" in our, LATE_TICK),
]
