"""A file in memory in which the bodies of jobs count themselves: how often each ran, and when it began.

Only the standard library is needed, for the adapters of other queues import this too, each in its own environment.
"""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

PATH_VARIABLE = "BENCH_TALLY"
JOBS_VARIABLE = "BENCH_JOBS"
# Where a timed worker writes how long its claims took.
CALLS_VARIABLE = "BENCH_CALLS"
# Which of our tricks a worker is to do without.
SWITCH_VARIABLE = "BENCH_SWITCH"


class Tally:
    """One byte for each job, and behind them, aligned, eight for the time of its latest start.

    Attributes:
        path: the file.
        jobs: how many jobs there are, numbered from 0.
    """

    def __init__(self, path: str | os.PathLike[str], jobs: int) -> None:
        """Map the file, which must be there."""
        self.path, self.jobs = Path(path), jobs
        padded = _padded(jobs)
        with self.path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), padded + 8 * jobs)
        self._counts = memoryview(self._map)[:jobs]
        self._stamps = memoryview(self._map)[padded:].cast("Q")

    @classmethod
    def create(cls, folder: Path, jobs: int) -> Tally:
        """Make a new file, in which no job has run."""
        path = folder / f"tally-{time.monotonic_ns()}"
        with path.open("wb") as file:
            file.truncate(_padded(jobs) + 8 * jobs)
        return cls(path, jobs)

    def close(self) -> None:
        """Remove the file."""
        self._counts.release()
        self._stamps.release()
        self._map.close()
        self.path.unlink()

    def environment(self) -> dict[str, str]:
        """Return what a process needs to find the file."""
        return {PATH_VARIABLE: str(self.path), JOBS_VARIABLE: str(self.jobs)}

    def hit(self, number: int) -> None:
        """Count a run of this job, which begins now."""
        now = time.monotonic_ns()
        self._counts[number] += 1
        self._stamps[number] = now

    @property
    def waiting(self) -> int:
        """How many jobs have not run."""
        return self._map[: self.jobs].count(0)

    @property
    def repeated(self) -> int:
        """How many jobs ran more than once."""
        return self.jobs - self.waiting - self._map[: self.jobs].count(1)

    def stamp(self, number: int) -> int:
        """Return when this job began, in nanoseconds of the monotonic clock; 0 if it did not."""
        return self._stamps[number]

    def first_stamp(self) -> int:
        """Return when the first job began."""
        return min(stamp for stamp in self._stamps if stamp)


def _padded(jobs: int) -> int:
    return (jobs + 7) // 8 * 8


_tally: Tally | None = None


def hit(number: int) -> None:
    """Count a run in the file that the environment names: the whole body of a job that does nothing."""
    global _tally  # noqa: PLW0603  one file for each process, found at the first job
    if _tally is None:
        _tally = Tally(os.environ[PATH_VARIABLE], int(os.environ[JOBS_VARIABLE]))
    _tally.hit(number)
