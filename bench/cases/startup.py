"""How long the command line takes to answer, and a worker to run its first job."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench import runs
from bench.measurement import Arm, Measurement, Options, Results, Row, row
from bench.processes import Load, Program
from bench.stand import CACHE, ROOT, Stand, insert_jobs, with_root

COMMAND = Path(sys.executable).parent / "procrastinate"
HELP, READY, PYTHON = "--help", "worker", "python"
TIMES = 5
# As after an installation, or after the first start at the latest, Python finds byte code of every module. Without it,
# as in containers that set PYTHONDONTWRITEBYTECODE, half of a start is Python's compiler.
BYTE_CODE = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(CACHE / "byte_code")}


def show_help(stand: Stand) -> Measurement:
    return _best_of([COMMAND, "--help"], stand)


def bare_python(stand: Stand) -> Measurement:
    return _best_of([sys.executable, "-c", ""], stand)


def _best_of(command: Sequence[str | Path], stand: Stand) -> Measurement:
    """Return the middle of some starts; the first one, which reads from the disk and compiles, is not counted."""
    load = Load.now(stand.server_pid)
    times: list[float] = []
    for _ in range(TIMES + 1):
        start = time.monotonic()
        subprocess.run(command, env={**os.environ, **BYTE_CODE}, stdout=subprocess.DEVNULL, check=True)
        times.append(time.monotonic() - start)
    foreign = Load.now(stand.server_pid).foreign_since(load)
    return Measurement({"seconds": sorted(times[1:])[TIMES // 2], "foreign": foreign})


def first_job(stand: Stand) -> Measurement:
    """Start a worker by its command: until the first line of a job that waits for it. A first start is not counted."""
    _first_job(stand)
    return _first_job(stand)


def _first_job(stand: Stand) -> Measurement:
    with stand.new_database("bench_start") as database, runs.tally_for(stand, 1) as tally:
        insert_jobs(database, 1)
        load = Load.now(stand.server_pid)
        environment = {"BENCH_DATABASE_URL": database.url, **with_root(), **BYTE_CODE, **tally.environment()}
        start = time.monotonic_ns()
        command = [COMMAND, "--app=bench.app.app", "--log-level=warning", "worker"]
        worker = Program(command, environment, stand.logs / "procrastinate.log", cwd=ROOT)
        try:
            deadline = time.monotonic() + 30
            while tally.waiting and time.monotonic() < deadline:
                time.sleep(0.005)
        finally:
            worker.stop()
        runs.check(tally, "first job")
        foreign = Load.now(stand.server_pid).foreign_since(load)
        return Measurement({"seconds": (tally.stamp(0) - start) / 1e9, "foreign": foreign})


class Startup:
    """The command line."""

    name = "start"

    def arms(self, options: Options) -> Sequence[Arm]:
        return [Arm(PYTHON, bare_python), Arm(HELP, show_help), Arm(READY, first_job)]

    def rows(self, results: Results, options: Options) -> Sequence[Row]:
        def one(arm: str, title: str, limit: float) -> Row:
            return row(
                results,
                [arm, PYTHON],
                title,
                lambda: (
                    f"{results.median(arm, 'seconds'):.3f} s; Python alone {results.median(PYTHON, 'seconds'):.3f} s"
                ),
                f"≤ {limit:g} s",
                lambda: results.median(arm, "seconds") <= limit,
            )

        return [
            one(HELP, "start: `procrastinate --help`", 0.15),
            one(READY, "start: from the command to the first job's first line", 0.5),
        ]
