"""One, eight and thirty-two worker processes on one server: what each costs, idle and at work."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence

from bench import runs
from bench.cases.process_counts import command_line_worker, released
from bench.clients import Clients
from bench.measurement import Arm, Measurement, Options, Results, Row, number, row
from bench.processes import Load, cpu_seconds
from bench.stand import Stand

STEPS = (1, 8, 32)
RATE = 200
SECONDS = 20
WARM_UP = 0.3


def steady(stand: Stand, processes: int, seconds: float) -> Measurement:
    """Defer 200 jobs a second, one by one, to so many idle workers, each of which hears of every one."""
    jobs = int(RATE * seconds)
    with stand.new_database("bench_scaling") as database, runs.tally_for(stand, jobs) as tally:
        with command_line_worker(stand, database, tally, "--concurrency=10", processes=processes) as worker:
            connections = database.value("select count(*) from pg_stat_activity where datname = current_database()") - 1
            idle = cpu_seconds(stand.server_pid), cpu_seconds(worker.pid), time.monotonic()
            time.sleep(seconds / 2)
            idle_seconds = time.monotonic() - idle[2]
            idle_server = (cpu_seconds(stand.server_pid) - idle[0]) / idle_seconds
            idle_workers = (cpu_seconds(worker.pid) - idle[1]) / idle_seconds
            clients = Clients(stand, database, ["steadily", f"--jobs={jobs}", f"--rate={RATE}", f"--every={1 / RATE}"])
            clients.start()
            # Every connection plans its first statements anew.
            time.sleep(seconds * WARM_UP)
            ran = jobs - tally.waiting
            load = Load.now(stand.server_pid)
            server, workers = cpu_seconds(stand.server_pid), cpu_seconds(worker.pid)
            (result,) = clients.results()
            deadline = time.monotonic() + 10
            while tally.waiting and time.monotonic() < deadline:
                time.sleep(0.02)
            server, workers = cpu_seconds(stand.server_pid) - server, cpu_seconds(worker.pid) - workers
            foreign = Load.now(stand.server_pid).foreign_since(load)
            time.sleep(runs.AFTERMATH)
        runs.check(tally, f"{processes} worker processes")
        waits = [(tally.stamp(i) - at) / 1e6 for i, at in enumerate(result["sent"])]
        return Measurement(
            {
                "connections": connections,
                "idle server": idle_server,
                "idle workers": idle_workers,
                "server": server / (jobs - ran) * 1e6,
                "worker": workers / (jobs - ran) * 1e6,
                "foreign": foreign,
                **runs.percentiles(waits[int(jobs * WARM_UP) :]),
            }
        )


class Scaling:
    """More processes than the machine has cores."""

    name = "scaling"

    def arms(self, options: Options) -> Sequence[Arm]:
        jobs = options.scaled(100_000, 5_000)
        seconds = options.scaled(SECONDS, 3)
        found: list[Arm] = []
        for step in STEPS:
            found += [
                Arm(f"drain, {step}", functools.partial(released, jobs=jobs, processes=step, concurrency=10)),
                Arm(f"steady, {step}", functools.partial(steady, processes=step, seconds=seconds)),
            ]
        return found

    def rows(self, results: Results, options: Options) -> Sequence[Row]:
        found: list[Row] = []
        for step in STEPS:
            drain, steady_arm = f"drain, {step}", f"steady, {step}"
            found += [
                row(
                    results,
                    [drain],
                    f"{step} worker processes × 10, drain",
                    lambda drain=drain: (
                        f"{number(results.median(drain))} jobs/s; workers {results.median(drain, 'worker'):.0f} + "
                        f"server {results.median(drain, 'server'):.0f} µs per job; 1 commit per "
                        f"{1 / results.median(drain, 'commits'):,.0f} jobs, {results.median(drain, 'wal'):.0f} B of WAL"
                    ),
                ),
                row(
                    results,
                    [steady_arm],
                    f"{step} worker processes × 10, {RATE} jobs/s deferred one by one",
                    lambda arm=steady_arm: (
                        f"p50 {results.median(arm, 'p50'):.2f} ms, p99 "
                        f"{results.median(arm, 'p99'):.2f} ms; workers {results.median(arm, 'worker'):,.0f} + server "
                        f"{results.median(arm, 'server'):,.0f} µs per job; {results.median(arm, 'connections'):.0f} "
                        f"connections; idle: workers {results.median(arm, 'idle workers'):.2%}, server "
                        f"{results.median(arm, 'idle server'):.2%} of a core"
                    ),
                ),
            ]
        return found
