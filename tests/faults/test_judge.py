"""The judge sees each violation that is planted, and none where there is none."""

from __future__ import annotations

import attrs
import pytest

from faults.judge import Entry, JobRow, Rules, judge, read_journal

ROWS = [
    JobRow(id=1, status="succeeded", lock="L", attempts=1),
    JobRow(id=2, status="succeeded", lock="L", attempts=1, rescues=1),
    JobRow(id=3, status="succeeded", attempts=1),
]
DEATHS = {99: 13.0}
RULES = Rules(may_rescue=True, is_ordered=True)


def run(job: int, start: float, end: float | None, lock: str | None = "L", pid: int = 7) -> list[Entry]:
    entry = Entry(event="start", job=job, lock=lock, attempt=0, pid=pid, at=start)
    return [entry, *([attrs.evolve(entry, event="end", at=end)] if end is not None else [])]


def journal(*, without: int | None = None) -> list[Entry]:
    runs = [*run(1, 10, 11), *run(2, 12, None, pid=99), *run(2, 14, 15), *run(3, 10, 16, lock=None)]
    return [entry for entry in runs if entry.job != without]


def changed(job_id: int, **changes) -> list[JobRow]:
    return [attrs.evolve(row, **changes) if row.id == job_id else row for row in ROWS]


def test_all_is_well():
    judgement = judge([1, 2, 3], ROWS, journal(), DEATHS, RULES)
    assert judgement.broken == []
    assert judgement.lost == []
    assert judgement.twice == [2]


@pytest.mark.parametrize(
    ("offered", "rows", "entries", "rules", "verdict"),
    [
        ([1, 2, 3, 4], ROWS, journal(), RULES, "job 4 is lost"),
        ([], changed(3, status="doing"), journal(), RULES, "job 3 is still doing"),
        ([], changed(3, status="todo"), journal(), RULES, "job 3 is still todo"),
        ([], changed(3, status="failed"), journal(), RULES, "job 3 ended failed"),
        ([], ROWS, journal(without=3), RULES, "job 3 succeeded without a run"),
        ([], ROWS, journal(), attrs.evolve(RULES, may_rescue=False), "job 2 was taken from a worker that was alive"),
        ([], ROWS, journal() + run(3, 17, 18, lock=None), RULES, "job 3 ran 2 times, in 1 attempts and 0 rescues"),
        ([], ROWS, journal() + run(9, 10.5, 10.6), attrs.evolve(RULES, is_ordered=False), "job 9 started while job 1"),
        ([], ROWS, journal() + run(9, 12.5, 13.5), attrs.evolve(RULES, is_ordered=False), "job 9 started while job 2"),
        ([], changed(2, priority=1), journal(), RULES, "in the order [1, 2], not [2, 1]"),
        ([], ROWS, journal(without=1) + run(1, 16, 17), RULES, "in the order [2, 1], not [1, 2]"),
        (
            [],
            [*ROWS, *(JobRow(id=n, status="todo", queueing_lock="Q") for n in (5, 6))],
            journal(),
            RULES,
            "2 jobs wait with the queueing lock Q",
        ),
    ],
)
def test_violations_are_seen(offered, rows, entries, rules, verdict):
    broken = judge(offered, rows, entries, DEATHS, rules).broken
    assert any(verdict in line for line in broken), broken
    assert len(broken) <= 3, "only what follows from it is blamed too"


def test_jobs_without_an_end_are_lost():
    assert judge([1, 2, 3, 4], changed(2, status="doing"), journal(), DEATHS, RULES).lost == [4, 2]


def test_a_run_whose_end_is_unknown_lasts():
    broken = judge([], ROWS, journal(), {}, RULES).broken
    assert broken == ["job 2 started while job 2 ran under the lock L"]


def test_a_frozen_process_may_overlap():
    entries = journal() + run(9, 10.5, 20, pid=66)
    assert judge([], ROWS, entries, DEATHS, attrs.evolve(RULES, is_ordered=False, frozen=frozenset({66}))).broken == []


def test_an_accepted_loss_is_counted_but_not_blamed():
    judgement = judge([1, 2, 3, 4], ROWS, journal(), DEATHS, attrs.evolve(RULES, may_lose=True))
    assert judgement.lost == [4]
    assert judgement.broken == []


def test_the_journal_of_nobody_is_empty(tmp_path):
    assert read_journal(tmp_path / "journal") == []
