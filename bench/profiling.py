"""Where the time of a worker goes."""

from __future__ import annotations

import pstats
import subprocess
from pathlib import Path

from bench import runs
from bench.ceilings import answer, python
from bench.stand import Stand, insert_jobs

JOBS = 20_000
SHOWN = 30


def profile(stand: Stand, file: Path, concurrency: int) -> None:
    """Run a worker without a profile first, which slows everything down, then with one; print both."""
    for path in ("", str(file.absolute())):
        with stand.new_database("bench_profile") as database, runs.tally_for(stand, JOBS) as tally:
            insert_jobs(database, JOBS)
            database.settle()
            worker = python(
                stand,
                database,
                "bench.worker",
                str(concurrency),
                path,
                environment=tally.environment(),
                stdout=subprocess.PIPE,
            )
            result = answer(worker)
            runs.check(tally, "profile")
        print(
            f"{'with' if path else 'without'} the profile: {JOBS / result['seconds']:,.0f} jobs/s; processor time with "
            f"start and end {result['cpu_seconds']:.2f} s"
        )
        for name, calls in sorted(result["calls"].items(), key=lambda item: -item[1]["seconds"]):
            print(f"  {name:24} {calls['count']:6,} calls {calls['seconds']:8.3f} s {calls['items']:8,} jobs")
    for order in ("tottime", "cumulative"):
        pstats.Stats(str(file)).sort_stats(order).print_stats(SHOWN)
