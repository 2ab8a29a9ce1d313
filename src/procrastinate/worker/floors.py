"""Where the ready jobs of each priority begin, for claims that would walk over too many dead index entries."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Mapping, Sequence

from procrastinate import jobs

# A claim that takes longer, in seconds, is worth a floor. Measured: 2 ms for a claim of ten, 30 ms with 140,000 dead
# entries before them.
SLOW = 0.01
# A floor is only a hint: after so many seconds a claim looks everywhere again.
FULL_SCAN_INTERVAL = 1.0
# Ids are drawn before their transactions commit: a floor stays so many seconds behind what was claimed.
MARGIN = 2.0
# Each floor costs a probe more; those of the busiest priorities are enough.
MOST_FLOORS = 8


class Floors:
    """Decides from which id on a claim looks, by priority. Nothing is lost by a floor that is wrong, only late.

    While somebody's old transaction keeps VACUUM from cleaning up, a claim from the beginning walks over every job that
    was claimed since. So when claims become slow, they begin where earlier ones ended, with a look at everything now
    and then, and at once when a job is known to have become ready below.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without floors; `clock` counts seconds."""
        self._clock = clock
        self._is_needed = False
        self._next_full_scan = 0.0
        # By priority, the highest id claimed: so far; before the last turn; before the turn before.
        self._reached: dict[int, int] = {}
        self._earlier: dict[int, int] = {}
        self._settled: dict[int, int] = {}
        self._turns_at = 0.0
        self._counts: collections.Counter[int] = collections.Counter()

    def for_claim(self) -> Mapping[int, int]:
        """Return the floors of the next claim by priority; none to look everywhere."""
        if not self._is_needed or self._clock() >= self._next_full_scan:
            return {}
        busiest = [priority for priority, _ in self._counts.most_common(MOST_FLOORS)]
        return {priority: self._settled[priority] for priority in busiest if priority in self._settled}

    def claimed(self, claims: Sequence[jobs.Claim], *, looked_everywhere: bool, seconds: float) -> None:
        """Take note of what a claim found, by id within each priority, and of how long it took."""
        now = self._clock()
        if now >= self._turns_at:
            self._settled, self._earlier = self._earlier, dict(self._reached)
            self._turns_at = now + MARGIN
        self._counts.update(claim.job.priority for claim in claims)
        for priority, job_id in {claim.job.priority: claim.job.id or 0 for claim in claims}.items():
            self._reached[priority] = max(job_id, self._reached.get(priority, 0))
        if looked_everywhere:
            self._is_needed = seconds > SLOW
            self._next_full_scan = now + FULL_SCAN_INTERVAL

    def look_everywhere(self, job_id: int | None = None) -> None:
        """Begin the next claim at the beginning, if a job of this id, or any, could be below a floor."""
        if job_id is None or any(job_id <= floor for floor in self._settled.values()):
            self._next_full_scan = 0.0
