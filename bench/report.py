"""The report: what was measured under which conditions, as Markdown and JSON, and the charts."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import psycopg

from bench import charts
from bench.measurement import QUIET, Measurement, Options, Results, Row
from bench.stand import ROOT, Stand

BEGIN, END = "<!-- begin: measured by `python -m bench` -->", "<!-- end: measured -->"


@attrs.define
class Report:
    """What is known when all cases have run.

    Attributes:
        conditions: lines on versions, settings and load.
        results: of each case, by name.
        rows: of each case, by name.
        missing: peers that could not be measured, and why.
        failures: what went wrong, in sentences.
        miscounts: lost and doubled jobs, in sentences.
        interrupted_in: the case that somebody interrupted, with all that would have followed; None if nobody did.
    """

    options: Options
    conditions: Sequence[str]
    results: dict[str, Results] = attrs.field(factory=dict)
    rows: dict[str, Sequence[Row]] = attrs.field(factory=dict)
    missing: Mapping[str, str] = attrs.field(factory=dict)
    failures: list[str] = attrs.field(factory=list)
    miscounts: list[str] = attrs.field(factory=list)
    interrupted_in: str | None = None

    def markdown(self) -> str:
        """Return the table and what belongs to it."""
        interrupted: list[str] = []
        if self.interrupted_in is not None:
            interrupted = [f"- Interrupted: {self.interrupted_in}, and what follows it, was not measured"]
        lines = [
            "| measure | measured | bar | |",
            "|---|---|---|---|",
            *(self._line(row) for rows in self.rows.values() for row in rows),
            "",
            "`~`: others used more than a tenth of the machine in too many of the runs.",
            "",
            *(f"- {line}" for line in self.conditions),
            *(f"- Not measured: {peer}: {reason}" for peer, reason in self.missing.items()),
            *interrupted,
            *(f"- Failed: {failure.splitlines()[0]}" for failure in self.failures),
            *(f"- **Miscount**: {miscount}" for miscount in self.miscounts),
        ]
        return "\n".join(lines) + "\n"

    def _line(self, row: Row) -> str:
        verdict = {True: "met", False: "**missed**", None: ""}[row.met]
        note = f" ({row.note})" if row.note else ""
        return f"| {row.measure} | {'~ ' if row.noisy else ''}{row.value}{note} | {row.bar} | {verdict} |"

    def as_json(self) -> dict[str, Any]:
        """Return everything, down to the single runs."""
        return {
            "conditions": list(self.conditions),
            "missing": dict(self.missing),
            "interrupted_in": self.interrupted_in,
            "failures": self.failures,
            "miscounts": self.miscounts,
            "rows": {case: [attrs.asdict(row) for row in rows] for case, rows in self.rows.items()},
            "runs": {
                case: {
                    arm: [run and {**_rounded(run.numbers), **run.series} for run in found]
                    for arm, found in results.runs.items()
                }
                for case, results in self.results.items()
            },
        }

    @classmethod
    def read(cls, path: Path, options: Options) -> Report:
        """Read what `write` wrote as JSON."""
        found = json.loads(path.read_text())
        return cls(
            options,
            found["conditions"],
            results={
                case: Results({arm: [run and _measurement(run) for run in runs] for arm, runs in arms.items()})
                for case, arms in found["runs"].items()
            },
            rows={case: [Row(**row) for row in rows] for case, rows in found["rows"].items()},
            missing=found["missing"],
            failures=found["failures"],
            miscounts=found["miscounts"],
            interrupted_in=found["interrupted_in"],
        )

    def put_into(self, earlier: Report) -> Report:
        """Return an earlier report with the cases of this one in place of its own, and with the conditions of both."""
        cases = ", ".join(self.results)
        return attrs.evolve(
            earlier,
            conditions=[*earlier.conditions, f"measured again ({cases}): {self.conditions[0]}; {self.conditions[-1]}"],
            results=earlier.results | self.results,
            rows={**earlier.rows, **self.rows},
            failures=[*earlier.failures, *self.failures],
            miscounts=[*earlier.miscounts, *self.miscounts],
        )

    def write(self, folder: Path, name: str) -> list[Path]:
        """Write report and charts into a folder, and return the files."""
        folder.mkdir(parents=True, exist_ok=True)
        written = [folder / f"{name}.md", folder / f"{name}.json"]
        written[0].write_text(f"# Benchmark\n\n{self.markdown()}")
        written[1].write_text(json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n")
        for title, picture in charts.draw(self.results).items():
            written.append(folder / f"{name}-{title}.svg")
            written[-1].write_text(picture)
        return written

    def fill(self, page: Path) -> None:
        """Put the table between the marks of a page, and the charts beside it."""
        text = page.read_text()
        if BEGIN not in text or END not in text:
            raise SystemExit(f"{page} has no lines {BEGIN!r} and {END!r} to put the table between.")
        before, rest = text.split(BEGIN, 1)
        page.write_text(f"{before}{BEGIN}\n\n{self.markdown()}\n{END}{rest.split(END, 1)[1]}")
        for title, picture in charts.draw(self.results).items():
            (page.parent / f"performance-{title}.svg").write_text(picture)


def _rounded(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.6g}") for name, value in numbers.items()}


def _measurement(run: Mapping[str, Any]) -> Measurement:
    is_number = {name: isinstance(value, int | float) for name, value in run.items()}
    return Measurement(
        {name: value for name, value in run.items() if is_number[name]},
        {name: value for name, value in run.items() if not is_number[name]},
    )


def conditions(stand: Stand, options: Options) -> list[str]:
    """Say where and how it is measured."""
    settings = stand.settings()
    version = settings.pop("server_version")
    peers = ", ".join(peer.version for peer in options.peers.values())
    shown = ", ".join(f"{name} {value}" for name, value in settings.items())
    machine = f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return [
        f"{time.strftime('%Y-%m-%d')}, commit {_commit()}: {machine}; load at the beginning {os.getloadavg()[0]:.2f}",
        f"PostgreSQL {version} on the same machine, by a Unix socket: {shown}",
        f"{python}, psycopg {psycopg.__version__} ({psycopg.pq.__impl__}){peers and f'; peers: {peers}'}",
        (
            f"{options.rounds} interleaved rounds, scale {options.scale:g}; medians, ratios within a round; quiet is a "
            f"run in which others used less than {QUIET:.0%} of the machine"
        ),
    ]


def _commit() -> str:
    result = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return result.stdout.strip() or "unknown"


def _processor() -> str:
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.machine()


def progress(text: str) -> None:
    """Tell whoever waits."""
    print(text, file=sys.stderr, flush=True)
