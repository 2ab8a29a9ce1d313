"""The judge: what the database says at the end, and what the tasks wrote, against what is promised."""

from __future__ import annotations

import collections
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs

FINAL = frozenset({"succeeded", "failed", "cancelled", "aborted"})


@attrs.frozen(kw_only=True)
class Entry:
    """A line of the journal: a run starts or ends. `at` is in seconds, on the machine's monotonic clock."""

    event: str
    job: int
    lock: str | None
    attempt: int
    pid: int
    at: float


@attrs.frozen(kw_only=True)
class JobRow:
    """A job as the database has it at the end."""

    id: int
    status: str
    lock: str | None = None
    queueing_lock: str | None = None
    priority: int = 0
    attempts: int = 0
    rescues: int = 0


@attrs.frozen(kw_only=True)
class Run:
    """One execution: `end` is None if nobody knows when it ended."""

    job: int
    lock: str | None
    pid: int
    start: float
    end: float | None


@attrs.frozen(kw_only=True)
class Rules:
    """What a scenario may do to the jobs.

    Attributes:
        statuses: those in which jobs may end.
        may_rescue: whether a worker is silent so long that its jobs may be taken from it.
        is_ordered: whether all jobs of a lock were there before the first ran, so that their order is known.
        may_lose: whether a commit may be undone, as when an asynchronous standby takes over.
        frozen: processes that were stopped for so long that their code may run next to a rescued job's.
    """

    statuses: frozenset[str] = frozenset({"succeeded"})
    may_rescue: bool = False
    is_ordered: bool = False
    may_lose: bool = False
    frozen: frozenset[int] = frozenset()


@attrs.frozen(kw_only=True)
class Judgement:
    """What came out.

    Attributes:
        lost: the jobs that reached no final status.
        twice: those that were started more often than their attempts say.
        broken: the promises that were broken, in words.
    """

    lost: list[int]
    twice: list[int]
    broken: list[str]


def read_journal(path: Path) -> list[Entry]:
    """Read what the tasks wrote."""
    if not path.exists():
        return []
    return [Entry(**json.loads(line)) for line in path.read_text().splitlines()]


def judge(
    offered: Iterable[int],
    rows: Sequence[JobRow],
    entries: Iterable[Entry],
    deaths: Mapping[int, float],
    rules: Rules,
) -> Judgement:
    """Compare.

    Args:
        offered: the ids of the jobs whose defer was acknowledged.
        rows: the jobs in the database.
        entries: the journal.
        deaths: when processes were dead for certain, by process id; a run without an end ended then.
        rules: what may happen.
    """
    runs = runs_of(entries, deaths)
    missing = sorted(set(offered) - {row.id for row in rows})
    waiting = [row.id for row in rows if row.status not in FINAL]
    starts = collections.Counter(run.job for run in runs)
    twice = sorted(row.id for row in rows if starts[row.id] > max(row.attempts, 1))
    broken = [] if rules.may_lose else [f"job {job} is lost" for job in missing]
    broken += [line for row in rows for line in _broken_by(row, starts[row.id], rules)]
    broken += _doubled_queueing_locks(rows)
    broken += _overlaps(run for run in runs if run.pid not in rules.frozen)
    if rules.is_ordered:
        broken += _disorder(rows, runs)
    return Judgement(lost=missing + waiting, twice=twice, broken=broken)


def runs_of(entries: Iterable[Entry], deaths: Mapping[int, float]) -> list[Run]:
    """Pair starts and ends."""
    runs: list[Run] = []
    open_runs: dict[tuple[int, int, int], Entry] = {}
    for entry in sorted(entries, key=lambda entry: entry.at):
        key = (entry.pid, entry.job, entry.attempt)
        if entry.event == "start":
            assert key not in open_runs, f"{entry} starts twice in one process"
            open_runs[key] = entry
        else:
            start = open_runs.pop(key)
            runs.append(Run(job=start.job, lock=start.lock, pid=start.pid, start=start.at, end=entry.at))
    runs += [
        Run(job=start.job, lock=start.lock, pid=start.pid, start=start.at, end=deaths.get(start.pid))
        for start in open_runs.values()
    ]
    return sorted(runs, key=lambda run: run.start)


def _broken_by(row: JobRow, starts: int, rules: Rules) -> list[str]:
    broken = []
    if row.status not in FINAL:
        broken.append(f"job {row.id} is still {row.status}")
    elif row.status not in rules.statuses:
        broken.append(f"job {row.id} ended {row.status}")
    if row.status == "succeeded" and not starts and not rules.may_lose:
        broken.append(f"job {row.id} succeeded without a run")
    if row.rescues and not rules.may_rescue:
        broken.append(f"job {row.id} was taken from a worker that was alive")
    # Each run ends in an attempt or in a rescue.
    if starts > row.attempts + row.rescues and row.status in FINAL:
        broken.append(f"job {row.id} ran {starts} times, in {row.attempts} attempts and {row.rescues} rescues")
    return broken


def _doubled_queueing_locks(rows: Iterable[JobRow]) -> list[str]:
    waiting = collections.Counter(row.queueing_lock for row in rows if row.status == "todo" and row.queueing_lock)
    return [f"{count} jobs wait with the queueing lock {lock}" for lock, count in waiting.items() if count > 1]


def _overlaps(runs: Iterable[Run]) -> list[str]:
    by_lock = collections.defaultdict(list)
    for run in runs:
        if run.lock is not None:
            by_lock[run.lock].append(run)
    return [
        f"job {second.job} started while job {first.job} ran under the lock {lock}"
        for lock, line in by_lock.items()
        for first, second in itertools.pairwise(line)
        if first.end is None or second.start < first.end
    ]


def _disorder(rows: Iterable[JobRow], runs: Iterable[Run]) -> list[str]:
    lines: dict[str, list[int]] = collections.defaultdict(list)
    for row in sorted(rows, key=lambda row: (-row.priority, row.id)):
        if row.lock is not None:
            lines[row.lock].append(row.id)
    starts: dict[str, list[int]] = collections.defaultdict(list)
    for run in runs:
        # A job that runs again stands in its place: its next start comes before anybody else's.
        if run.lock is not None and starts[run.lock][-1:] != [run.job]:
            starts[run.lock].append(run.job)
    return [
        f"jobs of the lock {lock} started in the order {starts[lock]}, not {line}"
        for lock, line in lines.items()
        if starts[lock] != line
    ]
