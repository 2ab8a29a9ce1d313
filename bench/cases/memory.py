"""The memory of a worker that drains a million jobs."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence

from bench import processes, runs
from bench.contenders import OURS
from bench.measurement import Arm, Measurement, Options, Results, Row, row
from bench.stand import Stand, insert_jobs

JOBS = 1_000_000
INTERVAL = 0.2


def long_drain(stand: Stand, jobs: int) -> Measurement:
    """Look at the memory five times a second."""
    with stand.new_database("bench_memory") as database, runs.tally_for(stand, jobs) as tally:
        insert_jobs(database, jobs)
        database.settle()
        worker = OURS.worker(stand, database.url, tally, setting=OURS.setting, keep=True)
        samples: list[tuple[float, float]] = []

        def sample() -> None:
            now = time.monotonic()
            if not samples or now - samples[-1][0] >= INTERVAL:
                samples.append((now, processes.memory(worker.pid)))

        try:
            measurement = runs.Drain(
                stand, database, tally, worker, lambda: not database.value(OURS.unfinished or ""), sample
            ).watch()
            time.sleep(runs.AFTERMATH)
        finally:
            worker.stop()
        runs.check(tally, "memory")
        runs.check_rows(database, keep=True, jobs=jobs)
        sizes = [size for _, size in samples]
        early = sizes[len(sizes) // 10 : max(len(sizes) // 3, len(sizes) // 10 + 1)]
        numbers = {**measurement.numbers, "peak": max(sizes), "early": max(early)}
        return Measurement(numbers, {"memory": [round(size, 1) for size in sizes]})


class Memory:
    """A long drain."""

    name = "memory"

    def arms(self, options: Options) -> Sequence[Arm]:
        jobs = options.scaled(JOBS, 20_000)
        return [Arm("ours", functools.partial(long_drain, jobs=jobs), rounds=1)]

    def rows(self, results: Results, options: Options) -> Sequence[Row]:
        def peak() -> float:
            return results.median("ours", "peak")

        def early() -> float:
            return results.median("ours", "early")

        return [
            row(
                results,
                ["ours"],
                f"worker memory while draining {options.scaled(JOBS, 20_000):,} jobs",
                lambda: (
                    f"{peak():.0f} MB at most, {early():.0f} MB in the first third; "
                    f"{results.median('ours'):,.0f} jobs/s"
                ),
                "flat, ≤ 80 MB",
                lambda: peak() <= 80 and peak() <= 1.1 * early(),
            )
        ]
