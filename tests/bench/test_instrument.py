"""The benchmark counts what it measures: a lost or doubled job makes it fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

import bench.__main__ as command
from bench import charts, runs
from bench.cases import CASES, drains, flatness
from bench.contenders import OURS
from bench.measurement import Arm, Measurement, Miscount, Options, Results, Row
from bench.report import BEGIN, END, Report
from bench.stand import Stand, insert_jobs
from bench.tally import Tally

JOBS = 300


def test_tally_counts_runs(tmp_path: Path) -> None:
    tally = Tally.create(tmp_path, 3)
    again = Tally(tally.path, 3)
    again.hit(0)
    again.hit(2)
    again.hit(2)
    assert (tally.waiting, tally.repeated) == (1, 1)
    assert 0 < tally.first_stamp() == tally.stamp(0) <= tally.stamp(2)
    assert tally.stamp(1) == 0


def plant_double(stand: Stand, jobs: int) -> Measurement:
    with stand.new_database("bench_test") as database, runs.tally_for(stand, jobs) as tally:
        insert_jobs(database, jobs)
        insert_jobs(database, 1)  # number 0 once more
        return runs.drain_filled(stand, OURS, database, tally, keep=True)


def plant_loss(stand: Stand, jobs: int) -> Measurement:
    with stand.new_database("bench_test") as database, runs.tally_for(stand, jobs) as tally:
        insert_jobs(database, jobs - 1)
        return runs.drain_filled(stand, OURS, database, tally, keep=True)


def plant_unfinished(stand: Stand, jobs: int) -> Measurement:
    with stand.new_database("bench_test") as database, runs.tally_for(stand, jobs) as tally:
        insert_jobs(database, jobs)
        # Nobody serves it, so no body counts it; the table knows.
        insert_jobs(database, 1, columns=[("waits_for", "'time'"), ("scheduled_at", "now() + interval '1 day'")])
        return runs.drain_filled(stand, OURS, database, tally, keep=True)


@pytest.mark.parametrize(
    ("plant", "message"),
    [(plant_double, "1 ran repeatedly"), (plant_loss, "1 jobs have not run"), (plant_unfinished, "not \\(")],
)
def test_miscount_fails(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, plant: Callable[[Stand, int], Measurement], message: str
) -> None:
    if plant is plant_loss:
        monkeypatch.setattr(runs, "STALL", 2.0)
    with pytest.raises(Miscount, match=message):
        plant(stand, JOBS)


class Lossy:
    """A case that loses jobs, next to one that does not."""

    name = "lossy"

    def arms(self, options: Options) -> list[Arm]:
        def lose(stand: Stand) -> Measurement:
            raise Miscount("one is missing")

        return [Arm("bad", lose), Arm("good", lambda stand: Measurement({"rate": 2.0}))]

    def rows(self, results: Results, options: Options) -> list[Row]:
        return [Row("good", f"{results.median('good'):g}", met=results.has("good"))]


def test_miscount_is_reported_and_fails_the_command(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stand, "wait_for_quiet", lambda: None)
    report = Report(Options(rounds=2), [])
    case = Lossy()
    results = command.run_case(stand, case, report.options, report)
    assert results.runs["bad"] == [None, None]
    assert results.median("good") == 2
    assert report.miscounts == ["lossy: bad: one is missing"] * 2
    assert "**Miscount**: lossy: bad: one is missing" in report.markdown()


class Endless(Lossy):
    """A case that somebody interrupts."""

    name = "endless"

    def arms(self, options: Options) -> list[Arm]:
        def interrupt(stand: Stand) -> Measurement:
            raise KeyboardInterrupt

        return [Arm("good", interrupt)]


def test_what_was_measured_before_an_interrupt_is_kept(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand, "wait_for_quiet", lambda: None)
    arguments = command.parse(["drain", "latency", "memory", "--rounds=1", "--peers=none"])
    cases = [Lossy(), Endless(), Lossy()]
    for case, name in zip(cases, arguments.cases, strict=True):
        case.name = name
    monkeypatch.setattr(command, "CASES", cases)
    report = command.measure(stand, arguments)
    assert list(report.rows) == ["drain"]
    assert "| good | 2 |" in report.markdown()
    assert "Interrupted: latency, and what follows it, was not measured" in report.markdown()


def test_medians_and_ratios_are_of_rounds() -> None:
    def run(rate: float, foreign: float = 0.0) -> Measurement:
        return Measurement({"rate": rate, "foreign": foreign})

    results = Results({"a": [run(10), run(100), run(30)], "b": [run(10), run(50), run(10)], "c": [None, None, None]})
    assert results.median("a") == 30
    assert results.ratio("a", "b") == 2
    assert not results.has("a", "c")
    assert not results.is_noisy("a", "b")
    # With three quiet rounds the noisy ones do not count; with fewer, all do.
    noisy = Results({"a": [run(1, 0.5), run(5), run(6), run(7)]})
    assert (noisy.median("a"), noisy.is_noisy("a")) == (6, False)
    noisy = Results({"a": [run(1, 0.5), run(5), run(6)]})
    assert (noisy.median("a"), noisy.is_noisy("a")) == (5, True)


def test_report_says_what_is_missing(tmp_path: Path) -> None:
    options = Options()
    costs = dict.fromkeys(("worker", "server", "wal", "commits", "buffers", "dead"), 1.0)
    results = Results({drains.KEPT: [Measurement({"rate": 1.0, **costs})]})
    rows = drains.Drains().rows(results, options)
    assert any(row.value.startswith("not measured") and row.met is None for row in rows)
    report = Report(options, ["here"], {"drain": results}, {"drain": rows}, {"celery": "no server"})
    paths = report.write(tmp_path, "report")
    assert "Not measured: celery: no server" in paths[0].read_text()
    assert json.loads(paths[1].read_text())["runs"]["drain"][drains.KEPT] == [{"rate": 1.0, **costs}]
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nstale\n{END}\nafter\n")
    report.fill(page)
    assert page.read_text().startswith(f"before\n{BEGIN}\n\n| measure")
    assert "stale" not in page.read_text()
    assert page.read_text().endswith(f"{END}\nafter\n")


def test_a_case_that_is_measured_again_takes_the_place_of_the_earlier_one(tmp_path: Path) -> None:
    def report(where: str, **rates: float) -> Report:
        return Report(
            Options(),
            [where, "one round"],
            {case: Results({"ours": [Measurement({"rate": rate}, {"waits": [rate]})]}) for case, rate in rates.items()},
            {case: [Row(f"rate of {case}", f"{rate:g}")] for case, rate in rates.items()},
        )

    earlier = report("here", drain=1.0, idle=2.0)
    earlier.write(tmp_path, "earlier")
    again = report("there", idle=3.0).put_into(Report.read(tmp_path / "earlier.json", Options()))
    assert again.rows == {"drain": [Row("rate of drain", "1")], "idle": [Row("rate of idle", "3")]}
    assert again.results["drain"] == earlier.results["drain"]
    assert again.results["idle"].median("ours") == 3
    assert again.conditions == ["here", "one round", "measured again (idle): there; one round"]


def test_charts_are_svg() -> None:
    flat = Results({pile.name: [Measurement({"rate": 10.0})] for pile in flatness.PILES})
    lines = Results({f"procrastinate, {step}": [Measurement({"rate": 10.0 * step})] for step in (1, 10, 30)})
    pictures = charts.draw({"flatness": flat, "concurrency": lines})
    assert set(pictures) == {"flatness", "concurrency"}
    for picture in pictures.values():
        assert ElementTree.fromstring(picture).tag.endswith("svg")


def test_command_line() -> None:
    quick = command.parse(["quick"])
    assert (quick.cases, quick.rounds, quick.peers) == (list(command.QUICK_CASES), 1, [])
    assert command.parse(["drain", "--peers=incumbent,pgqueuer"]).peers == ["incumbent", "pgqueuer"]
    names = [case.name for case in CASES]
    assert command.parse([]).cases == names
    assert len(set(names)) == len(names)
    with pytest.raises(SystemExit):
        command.parse(["drian"])
    with pytest.raises(SystemExit):
        command.parse(["--peers=nobody"])
