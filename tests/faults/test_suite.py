"""The suite's own parts: scenarios that break a promise are seen, and the table says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.stage import Stage
from faults.suite import Ground, Outcome, Scenario, table, write_table


@pytest.fixture(scope="module")
def ground():
    with Ground.ready() as ground:
        yield ground


def scenario(act) -> Scenario:
    return Scenario(name="planted", title="A planted violation", act=act, trials=1, in_short=False)


def lose_a_job(stage: Stage) -> None:
    stage.defer("work", 2)
    stage.query("delete from procrastinate_jobs where id = (select min(id) from procrastinate_jobs)")
    stage.worker()
    stage.settle()


def leave_a_job(stage: Stage) -> None:
    stage.defer("work", 2)


def orphan_a_job(stage: Stage) -> None:
    stage.defer("work")
    stage.query("update procrastinate_jobs set status = 'doing', worker_id = 99")


def succeed_without_a_run(stage: Stage) -> None:
    stage.defer("work")
    stage.query("update procrastinate_jobs set status = 'succeeded', attempts = 1")


def rescue_from_the_living(stage: Stage) -> None:
    stage.defer("work", seconds=2)
    worker = stage.worker()
    stage.until(lambda: stage.runs(worker), "it runs")
    stage.query("update procrastinate_jobs set status = 'todo', rescues = rescues + 1, worker_id = null")
    stage.settle()


def never_happens(stage: Stage) -> None:
    stage.until(lambda: False, "the impossible", 0.1)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("act", "verdict"),
    [
        (lose_a_job, "is lost"),
        (leave_a_job, "is still todo"),
        (orphan_a_job, "1 jobs run under no worker"),
        (succeed_without_a_run, "succeeded without a run"),
        (rescue_from_the_living, "was taken from a worker that was alive"),
        (never_happens, "not: the impossible"),
    ],
)
def test_a_planted_violation_is_seen(ground: Ground, act, verdict: str) -> None:
    outcome = ground.trial(scenario(act), seed=0, is_long=False)
    assert any(verdict in line for line in outcome.broken), outcome.broken


def test_the_table() -> None:
    planted = scenario(leave_a_job)
    fine = Outcome(offered=1_000, lost=0, twice=1, recovery=1.25, broken=[])
    broken = Outcome(offered=1, lost=1, twice=0, recovery=None, broken=["job 1 is lost"])
    lines = table([(planted, [fine, fine]), (planted, [fine, broken])], [(planted, "no pooler here")]).splitlines()
    assert lines[2:] == [
        "| A planted violation | 2 | 2,000 | 0 | 2 | 1.2 s |",
        "| A planted violation **(broken in 1 trials)** | 2 | 1,001 | 1 | 1 | 1.2 s |",
        "| A planted violation | not tried: no pooler here | | | | |",
    ]


def test_the_table_goes_between_its_marks(tmp_path: Path) -> None:
    document = tmp_path / "guarantees.md"
    document.write_text("before\n<!-- faults: begin -->\nold\n<!-- faults: end -->\nafter\n")
    for _ in range(2):
        write_table(document, "new")
    assert document.read_text() == "before\n<!-- faults: begin -->\n\nnew\n\n<!-- faults: end -->\nafter\n"
    document.write_text("no marks")
    with pytest.raises(ValueError, match="no place for the table"):
        write_table(document, "new")
