"""What a worker costs that has nothing to do."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence

from bench import runs
from bench.cases.process_counts import command_line_worker
from bench.ceilings import ticks
from bench.measurement import Arm, Measurement, Options, Results, Row, row
from bench.processes import Load, cpu_seconds
from bench.stand import Stand

SECONDS = 60


def life(stand: Stand, seconds: float) -> tuple[int, float, float]:
    """Return the commits of a worker's life, and the processor time while it was idle: its own and the server's."""
    with stand.new_database("bench_idle") as database, runs.tally_for(stand, 1) as tally:
        counters, statements = database.counters(), database.statements
        with command_line_worker(stand, database, tally) as worker:
            time.sleep(1)
            cpu, server = cpu_seconds(worker.pid), cpu_seconds(stand.server_pid)
            time.sleep(seconds)
            cpu, server = cpu_seconds(worker.pid) - cpu, cpu_seconds(stand.server_pid) - server
        own = database.statements - statements
        return database.counters().commits - counters.commits - own, cpu, server


def idle(stand: Stand, seconds: float) -> Measurement:
    """Compare a long life with a short one: the difference is what being idle costs."""
    load = Load.now(stand.server_pid)
    short, _, _ = life(stand, 0)
    long, cpu, server = life(stand, seconds)
    return Measurement(
        {
            "statements": (long - short) / seconds,
            "cpu": cpu / seconds,
            "server cpu": server / seconds,
            "foreign": Load.now(stand.server_pid).foreign_since(load),
        }
    )


class Idle:
    """A worker without jobs."""

    name = "idle"

    def arms(self, options: Options) -> Sequence[Arm]:
        seconds = options.scaled(SECONDS, 10)
        return [
            Arm("ours", functools.partial(idle, seconds=seconds)),
            Arm("bare", functools.partial(ticks, seconds=seconds)),
        ]

    def rows(self, results: Results, options: Options) -> Sequence[Row]:
        return [
            row(
                results,
                ["ours", "bare"],
                "idle worker",
                lambda: (
                    f"{results.median('ours', 'statements'):.2f} statements/s, processor "
                    f"{results.median('ours', 'cpu'):.2%}, the server's {results.median('ours', 'server cpu'):.2%}; a "
                    f"client that sends one bare statement a second {results.median('bare', 'cpu'):.2%}"
                ),
                "≤ 1 statement/s, processor ≤ 0.5 %",
                lambda: results.median("ours", "statements") <= 1 and results.median("ours", "cpu") <= 0.005,
            )
        ]
