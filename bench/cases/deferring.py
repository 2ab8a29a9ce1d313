"""Deferring jobs one at a time: by one client, and by many at once."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Sequence

from bench import layers, runs
from bench.ceilings import answer, bare, python
from bench.clients import Clients
from bench.contenders import OURS
from bench.measurement import Arm, Measurement, Miscount, Options, Results, Row, number, row
from bench.processes import Load, cpu_seconds
from bench.stand import Stand

JOBS = 3_000
# Through each layer.
IN_TURNS = 6_000
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


def layered(stand: Stand, colour: str, jobs: int) -> Measurement:
    """Defer one by one through each of the layers, in turns."""
    with stand.new_database("bench_layers") as database:
        load = Load.now(stand.server_pid)
        took = answer(python(stand, database, "bench.layers", colour, str(jobs), stdout=subprocess.PIPE))
        foreign = Load.now(stand.server_pid).foreign_since(load)
        done = len(layers.turns(jobs)) * layers.TURN
        if (there := database.value("select count(*) from procrastinate_jobs where status = 'todo'")) != done:
            raise Miscount(f"{there} jobs of {done} are there")
        numbers = {layer: each["seconds"] * 1e6 for layer, each in took.items()}
        return Measurement(
            {
                **numbers,
                "rate": 1 / took[layers.WHOLE]["seconds"],
                "bare rate": 1 / took[layers.BARE]["seconds"],
                "ratio": took[layers.BARE]["seconds"] / took[layers.WHOLE]["seconds"],
                "worker": took[layers.WHOLE]["cpu"] * 1e6,
                "bare worker": took[layers.BARE]["cpu"] * 1e6,
                "foreign": foreign,
            }
        )


class Deferring:
    """One by one, by one client and by many."""

    name = "defer"

    def arms(self, options: Options) -> Sequence[Arm]:
        jobs = options.scaled(JOBS, 200)
        in_turns = options.scaled(IN_TURNS, layers.TURN)
        found = [
            Arm("in turns, async", functools.partial(layered, colour="async", jobs=in_turns)),
            Arm("in turns, sync", functools.partial(layered, colour="sync", jobs=in_turns)),
            Arm("bare, sync", functools.partial(bare, name="insert", jobs=jobs)),
            Arm("bare, sync, no trigger", functools.partial(bare, name="insert_without_trigger", jobs=jobs)),
        ]
        found += [
            Arm(peer.name, functools.partial(runs.defer, contender=peer, operation="one", jobs=max(jobs // 3, 200)))
            for peer in ([OURS, *options.peers.values()] if options.peers else [])
        ]
        found += [
            Arm(f"{step} connections", functools.partial(together, jobs=jobs, connections=step)) for step in STEPS
        ]
        most = functools.partial(together, jobs=jobs, connections=STEPS[-1], notifies=False)
        return [*found, Arm(UNTOLD, most)]

    def rows(self, results: Results, options: Options) -> Sequence[Row]:
        def one(colour: str) -> Row:
            arm = f"in turns, {colour}"
            return row(
                results,
                [arm],
                f"defer one at a time, {colour}",
                lambda: (
                    f"{results.median(arm, 'ratio'):.2f} × INSERT and commit: {number(results.median(arm))} against "
                    f"{number(results.median(arm, 'bare rate'))} jobs/s; client {results.median(arm, 'worker'):.0f} "
                    f"against {results.median(arm, 'bare worker'):.0f} µs of processor time"
                ),
                "≥ 0.9 × INSERT and commit",
                lambda: results.median(arm, "ratio") >= 0.9,
                "in turns on one connection",
            )

        def layer_by_layer(colour: str) -> Row:
            arm = f"in turns, {colour}"

            def more(layer: str, than: str) -> str:
                return f"{results.median(arm, layer) - results.median(arm, than):.0f} µs"

            return row(
                results,
                [arm],
                f"where it goes, {colour}",
                lambda: (
                    f"{results.median(arm, layers.BARE):.0f} µs bare; {more(layers.STATEMENT, layers.BARE)} more for a "
                    f"statement that knows locks, times and priorities, {more(layers.OPERATION, layers.STATEMENT)} to "
                    f"write it and read the answer, {more(layers.POOL, layers.OPERATION)} for a connection of the "
                    f"pool, {more(layers.WHOLE, layers.POOL)} for the task's own settings and checks"
                ),
            )

        def others() -> str:
            names = [OURS.name, *options.peers]
            return ", ".join(f"{name} {number(results.median(name))}" for name in names if results.has(name))

        arms = [f"{step} connections" for step in STEPS]

        def rises() -> bool:
            # Not less than the best of those before, but for what measuring leaves open.
            rates = [results.median(arm) for arm in arms]
            return all(rate >= 0.9 * max(rates[:index], default=0) for index, rate in enumerate(rates))

        return [
            one("async"),
            layer_by_layer("async"),
            one("sync"),
            layer_by_layer("sync"),
            row(
                results,
                ["bare, sync", "bare, sync, no trigger"],
                "what the notification costs a bare INSERT and commit",
                lambda: (
                    f"{results.ratio('bare, sync', 'bare, sync, no trigger'):.2f} × without the trigger "
                    f"({number(results.median('bare, sync, no trigger'))} jobs/s)"
                ),
            ),
            *([Row("defer one at a time, a process each", f"{others()} jobs/s")] if options.peers else []),
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
