"""Several worker processes under one command, with the same number of slots in all."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import runs
from bench.contenders import OURS
from bench.measurement import Arm, Measurement, Options, Results, Row, number, row
from bench.processes import Program
from bench.stand import ROOT, Database, Stand, insert_jobs, with_root
from bench.tally import Tally

SPLITS = ((1, 64), (2, 32), (4, 16))
START = 30.0


@contextlib.contextmanager
def command_line_worker(
    stand: Stand, database: Database, tally: Tally, *options: str, processes: int = 1
) -> Iterator[Program]:
    """Start `procrastinate worker`, and wait until all its processes have registered."""
    command: list[str | Path] = [Path(sys.executable).parent / "procrastinate", "--app=bench.app.app"]
    command += ["--log-level=warning", "worker", f"--processes={processes}", *options]
    environment = {"BENCH_DATABASE_URL": database.url, **with_root(), **tally.environment()}
    worker = Program(command, environment, stand.logs / "procrastinate.log", cwd=ROOT)
    try:
        deadline = time.monotonic() + START
        while database.value("select count(*) from procrastinate_workers") < processes:
            if worker.has_ended or time.monotonic() > deadline:
                raise RuntimeError(f"the workers do not start\n{worker.tail()}")
            time.sleep(0.02)
        time.sleep(0.5)  # until they listen
        yield worker
    finally:
        worker.stop()


def released(stand: Stand, jobs: int, processes: int, concurrency: int) -> Measurement:
    """Let all processes wait, commit all jobs at once, and watch the drain."""
    with stand.new_database("bench_processes") as database, runs.tally_for(stand, jobs) as tally:
        with command_line_worker(stand, database, tally, f"--concurrency={concurrency}", processes=processes) as worker:
            counters, statements = database.counters(), database.statements
            insert_jobs(database, jobs)
            measurement = runs.Drain(
                stand, database, tally, worker, lambda: not database.value(OURS.unfinished or "")
            ).watch()
            connections = database.value("select count(*) from pg_stat_activity where datname = current_database()")
            time.sleep(runs.AFTERMATH)
        runs.check(tally, f"{processes} processes")
        runs.check_rows(database, keep=True, jobs=jobs)
        costs = database.counters().per_job(counters, jobs, database.statements - statements)
        return Measurement({**measurement.numbers, **costs, "connections": connections - 1})


class ProcessCounts:
    """64 slots in one, two and four processes."""

    name = "processes"

    def arms(self, options: Options) -> Sequence[Arm]:
        jobs = options.scaled(100_000, 5_000)
        return [
            Arm(
                f"{processes}×{concurrency}",
                functools.partial(released, jobs=jobs, processes=processes, concurrency=concurrency),
            )
            for processes, concurrency in SPLITS
        ]

    def rows(self, results: Results, options: Options) -> Sequence[Row]:
        def against(arm: str, least: float) -> Row:
            return row(
                results,
                [arm, "1×64"],
                f"worker processes × concurrency: {arm}",
                lambda: (
                    f"{results.ratio(arm, '1×64'):.2f} × 1×64: {number(results.median(arm))} against "
                    f"{number(results.median('1×64'))} jobs/s; worker {results.median(arm, 'worker'):.1f} + server "
                    f"{results.median(arm, 'server'):.1f} µs of processor time per job"
                ),
                f"≥ {least:g} × 1×64",
                lambda: results.ratio(arm, "1×64") >= least,
            )

        return [against("2×32", 1.3), against("4×16", 1.0)]
