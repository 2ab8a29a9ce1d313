"""How soon a worker reacts to a notification, so that not all of them claim the same job."""

from __future__ import annotations

import time
from collections.abc import Callable

from procrastinate.store.workers import Beat

# How much longer each worker hesitates than the one whose turn is before its own, in seconds, and how long at most.
# With 32 workers, 200 jobs a second and a quarter of this, five claimed for each job; with this, fewer than three.
STEP = 0.02
MOST = 0.3
# Claims in vain are no waste worth mentioning if so many seconds lie between them.
RARE = 0.05
# It begins with this part of the whole hesitation, and lets go of what is less than that.
FIRST = 0.02
GROWTH = 1.5
# Spreads ids, which may come in steps (Knuth, The Art of Computer Programming, volume 3, 6.4).
MULTIPLIER = 2_654_435_761


class Reaction:
    """Decides how long to hesitate: not at all if it is this worker's turn, or if no other one takes the job anyway.

    Every idle worker hears of every job, and all but one claim in vain. With 8 of them and 200 jobs a second that took
    two cores, and a job waited for 10 ms. So they take turns, which follow from the job's id and from the place of the
    worker among all that serve a queue of its own. The others look for the job later, one after another, in case that
    the one whose turn it is has no room, or is no more.

    How much later, each finds out by itself: by half as much after a claim that found something, and by more after one
    in vain that followed another one closely. So a worker that is alone hesitates no more, nor does the only one with
    room. And none of them gets all the jobs, for the one whose turn it is does not hesitate either.
    """

    def __init__(self, beat: Callable[[], Beat], clock: Callable[[], float] = time.monotonic) -> None:
        """Ask `beat` for the worker's place among the others, and `clock` for the seconds."""
        self._beat = beat
        self._clock = clock
        self._scale = 0.0
        self._last_in_vain = -RARE
        self._is_own_turn = False

    def hesitation(self, job_id: int | None) -> float:
        """Return how many seconds to wait before looking for this job; zero if it is not known which one."""
        beat = self._beat()
        if job_id is None:
            self._is_own_turn = True
            return 0.0
        workers = max(beat.workers, 1)
        turn = (job_id * MULTIPLIER % 2**32) * workers >> 32
        distance = (turn - beat.place) % workers
        if not distance:
            self._is_own_turn = True
        return self._scale * min(distance * STEP, MOST)

    def learn(self, *, in_vain: bool) -> None:
        """Take note of a claim that was made because of a notification."""
        if self._is_own_turn:
            self._is_own_turn = False
        elif in_vain:
            now = self._clock()
            if now - self._last_in_vain < RARE + self._scale * MOST:
                self._scale = min(max(self._scale, FIRST) * GROWTH, 1.0)
            self._last_in_vain = now
        else:
            self._scale = self._scale / 2 if self._scale > FIRST else 0.0
