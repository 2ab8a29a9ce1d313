"""Deferring many jobs at once, and from an iterator that does not fit into memory."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from bench import runs
from bench.ceilings import bare
from bench.clients import Clients
from bench.measurement import Arm, Measurement, Miscount, Options, Results, Row, number, row
from bench.processes import Load, cpu_seconds
from bench.stand import Stand

JOBS = 100_000
ENDLESS = 10_000_000


def many(stand: Stand, jobs: int, way: str = "many") -> Measurement:
    """Defer so many jobs by `defer_many`."""
    with stand.new_database("bench_bulk") as database:
        clients = Clients(stand, database, [way, f"--jobs={jobs}"])
        load, server = Load.now(stand.server_pid), cpu_seconds(stand.server_pid)
        clients.start()
        (result,) = clients.results()
        foreign = Load.now(stand.server_pid).foreign_since(load)
        server = cpu_seconds(stand.server_pid) - server
        if (there := database.value("select count(*) from procrastinate_jobs")) != jobs:
            raise Miscount(f"{there} jobs of {jobs} are there")
        seconds = result["ended"] - result["started"]
        numbers = {
            "rate": jobs / seconds,
            "worker": result["cpu"] / jobs * 1e6,
            "server": server / jobs * 1e6,
            "foreign": foreign,
        }
        if samples := result.get("memory"):
            # The first batches make the heap what it will be.
            early = max(samples[: max(1, len(samples) // 10)])
            numbers |= {"early": early, "peak": max(samples)}
        return Measurement(numbers, {"memory": result.get("memory", [])[::10]})


class Bulk:
    """`defer_many` against COPY, and the memory of a client."""

    name = "bulk"

    def arms(self, options: Options) -> Sequence[Arm]:
        jobs = options.scaled(JOBS, 5_000)
        found = [
            Arm("copy", functools.partial(bare, name="copy", jobs=jobs)),
            Arm("ours", functools.partial(many, jobs=jobs)),
            Arm("ours, sync", functools.partial(many, jobs=jobs, way="many-sync")),
        ]
        for peer in options.peers.values():
            count = min(jobs, 4_000) if peer.name in {"saq", "chancy"} else jobs
            count = min(count, 20_000) if peer.name == "incumbent" else count
            found.append(Arm(peer.name, functools.partial(runs.defer, contender=peer, operation="bulk", jobs=count)))
        if not options.quick:
            endless = options.scaled(ENDLESS, 200_000)
            found.append(Arm("endless", functools.partial(many, jobs=endless), rounds=1))
        return found

    def rows(self, results: Results, options: Options) -> Sequence[Row]:
        jobs = f"{options.scaled(JOBS, 5_000):,}"

        def against(base: str, least: float, what: str) -> Row:
            return row(
                results,
                ["ours", base],
                f"defer in bulk, {jobs} jobs",
                lambda: (
                    f"{results.ratio('ours', base):.2f} × {what}: {number(results.median('ours'))} against "
                    f"{number(results.median(base))} jobs/s"
                ),
                f"≥ {least:g} × {what}",
                lambda: results.ratio("ours", base) >= least,
            )

        def processor(arm: str) -> str:
            return f"client {results.median(arm, 'worker'):.1f} and server {results.median(arm, 'server'):.1f} µs"

        found = [
            against("copy", 0.6, "COPY"),
            row(
                results,
                ["ours", "copy"],
                "where it goes, per job",
                lambda: f"{processor('ours')}, one after the other; of COPY {processor('copy')}, at the same time",
            ),
        ]
        if "incumbent" in options.peers:
            found.append(against("incumbent", 5, "incumbent"))
        others = [peer for peer in options.peers if peer != "incumbent" and results.has(peer)]
        if others:
            rates = ", ".join(f"{peer} {number(results.median(peer))}" for peer in others)
            found.append(Row("defer in bulk, peers", f"{rates} jobs/s"))
        if not options.quick:
            endless = f"{options.scaled(ENDLESS, 200_000):,}"
            found.append(
                row(
                    results,
                    ["endless"],
                    f"memory of a client that defers {endless} jobs from an iterator",
                    lambda: (
                        f"{results.median('endless', 'peak'):.0f} MB at most, "
                        f"{results.median('endless', 'early'):.0f} MB in the first tenth; "
                        f"{number(results.median('endless'))} jobs/s"
                    ),
                    "flat",
                    lambda: results.median("endless", "peak") <= 1.1 * results.median("endless", "early"),
                )
            )
        return found
