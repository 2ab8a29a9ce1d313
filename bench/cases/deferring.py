"""Deferring jobs one at a time: by one client, and by many at once."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from bench import runs
from bench.ceilings import bare
from bench.clients import Clients
from bench.contenders import OURS
from bench.measurement import Arm, Measurement, Miscount, Options, Results, Row, number, row
from bench.processes import Load, cpu_seconds
from bench.stand import Stand

JOBS = 3_000
STEPS = (1, 2, 4, 8, 16, 32, 64)
# More processes than this would measure how the system shares the cores among them.
PROCESSES = 4
UNTOLD = "without the notification"


def together(stand: Stand, jobs: int, connections: int, *, notifies: bool = True) -> Measurement:
    """Defer over so many connections at once, with or without telling the workers."""
    processes = min(PROCESSES, connections)
    command = ["lanes", f"--jobs={jobs // processes}", f"--count={connections // processes}"]
    with stand.new_database("bench_deferrers") as database:
        if not notifies:
            database.execute("alter table procrastinate_jobs disable trigger user")
        clients = Clients(stand, database, *([command] * processes))
        load, server = Load.now(stand.server_pid), cpu_seconds(stand.server_pid)
        clients.start()
        results = clients.results()
        foreign = Load.now(stand.server_pid).foreign_since(load)
        seconds = max(each["ended"] for each in results) - min(each["started"] for each in results)
        done = jobs // processes * processes
        if (there := database.value("select count(*) from procrastinate_jobs where args <> '{\"i\": -1}'")) != done:
            raise Miscount(f"{there} jobs of {done} are there")
        return Measurement(
            {
                "rate": done / seconds,
                "server": (cpu_seconds(stand.server_pid) - server) / done * 1e6,
                "foreign": foreign,
            }
        )


class Deferring:
    """One by one, by one client and by many."""

    name = "defer"

    def arms(self, options: Options) -> Sequence[Arm]:
        jobs = options.scaled(JOBS, 200)
        found = [
            Arm("bare, async", functools.partial(bare, name="insert_async", jobs=jobs)),
            Arm("ours, async", functools.partial(runs.defer, contender=OURS, operation="one", jobs=jobs)),
            Arm("bare, sync", functools.partial(bare, name="insert", jobs=jobs)),
            Arm(
                "ours, sync", functools.partial(runs.defer, contender=OURS, operation="one", jobs=jobs, variant="sync")
            ),
            Arm("bare, sync, no trigger", functools.partial(bare, name="insert_without_trigger", jobs=jobs)),
        ]
        found += [
            Arm(peer.name, functools.partial(runs.defer, contender=peer, operation="one", jobs=max(jobs // 3, 200)))
            for peer in options.peers.values()
        ]
        found += [
            Arm(f"{step} connections", functools.partial(together, jobs=jobs, connections=step)) for step in STEPS
        ]
        most = functools.partial(together, jobs=jobs, connections=STEPS[-1], notifies=False)
        return [*found, Arm(UNTOLD, most)]

    def rows(self, results: Results, options: Options) -> Sequence[Row]:
        def one(colour: str) -> Row:
            ours, bare = f"ours, {colour}", f"bare, {colour}"
            return row(
                results,
                [ours, bare],
                f"defer one at a time, {colour}",
                lambda: (
                    f"{results.ratio(ours, bare):.2f} × INSERT and commit: {number(results.median(ours))} against "
                    f"{number(results.median(bare))} jobs/s; client {results.median(ours, 'worker'):.0f} against "
                    f"{results.median(bare, 'worker'):.0f} µs of processor time"
                ),
                "≥ 0.9 × INSERT and commit",
                lambda: results.ratio(ours, bare) >= 0.9,
            )

        def others() -> str:
            return ", ".join(f"{peer} {number(results.median(peer))}" for peer in options.peers if results.has(peer))

        arms = [f"{step} connections" for step in STEPS]

        def rises() -> bool:
            # Not less than the best of those before, but for what measuring leaves open.
            rates = [results.median(arm) for arm in arms]
            return all(rate >= 0.9 * max(rates[:index], default=0) for index, rate in enumerate(rates))

        return [
            one("async"),
            one("sync"),
            row(
                results,
                ["bare, sync", "bare, sync, no trigger"],
                "what the notification costs a bare INSERT and commit",
                lambda: (
                    f"{results.ratio('bare, sync', 'bare, sync, no trigger'):.2f} × without the trigger "
                    f"({number(results.median('bare, sync, no trigger'))} jobs/s)"
                ),
            ),
            *([Row("defer one at a time, peers", f"{others()} jobs/s")] if options.peers else []),
            row(
                results,
                arms,
                f"deferrers at once, {', '.join(map(str, STEPS))} connections",
                lambda: " · ".join(number(results.median(arm)) for arm in arms) + " jobs/s",
                "rises, does not fall",
                rises,
                f"in up to {PROCESSES} processes, with notifications",
            ),
            row(
                results,
                [arms[-1], UNTOLD],
                f"the same, {STEPS[-1]} connections, without notifications",
                lambda: (
                    f"{number(results.median(UNTOLD))} jobs/s; server {results.median(UNTOLD, 'server'):.0f} µs per "
                    f"job, against {results.median(arms[-1], 'server'):.0f}"
                ),
            ),
        ]
