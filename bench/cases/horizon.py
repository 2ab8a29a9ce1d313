"""A transaction that stays open keeps VACUUM from cleaning up: the queue must not notice."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence

import psycopg

from bench import runs
from bench.cases.process_counts import command_line_worker
from bench.clients import Clients
from bench.measurement import Arm, Measurement, Options, Results, Row, row
from bench.processes import Load
from bench.stand import Database, Stand
from bench.tally import CALLS_VARIABLE, SWITCH_VARIABLE

RATE = 800
SECONDS = 180
FREE, HELD, NO_FLOORS = "nobody holds it", "held", "held, without floors"


@contextlib.contextmanager
def held_horizon(database: Database, *, is_held: bool) -> Iterator[None]:
    """Keep a snapshot, as a long report does."""
    if not is_held:
        yield
        return
    with psycopg.connect(database.conninfo) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("select count(*) from procrastinate_jobs")
        yield
        connection.rollback()


def offered(stand: Stand, seconds: float, *, is_held: bool, switch: str = "") -> Measurement:
    """Offer 800 jobs a second; look at the waits and the claims in the last fifth, and at what is left to clean up."""
    jobs = int(RATE * seconds)
    calls = stand.shared / "calls"
    os.environ |= {CALLS_VARIABLE: str(calls), SWITCH_VARIABLE: switch}
    try:
        with stand.new_database("bench_horizon") as database, runs.tally_for(stand, jobs) as tally:
            # Autovacuum would come once a minute at best.
            with (
                command_line_worker(stand, database, tally, "--concurrency=10"),
                held_horizon(database, is_held=is_held),
            ):
                clients = Clients(stand, database, ["steadily", f"--jobs={jobs}", f"--rate={RATE}"])
                load = Load.now(stand.server_pid)
                clients.start()
                (result,) = clients.results()
                lag = tally.waiting
                foreign = Load.now(stand.server_pid).foreign_since(load)
                deadline = time.monotonic() + 60
                while tally.waiting and time.monotonic() < deadline:
                    time.sleep(0.05)
                time.sleep(runs.AFTERMATH)
                # While it is held: how much lies before the ready jobs.
                dead = database.value("select coalesce(sum(n_dead_tup), 0)::bigint from pg_stat_user_tables")
            runs.check(tally, "horizon")
            waits = [(tally.stamp(i) - at) / 1e6 for i, at in enumerate(result["sent"])]
            started, ended = result["started"], result["ended"]
            claims = [claim for claim in json.loads(calls.read_text()) if started < claim[0]]
            late = [took * 1e3 for at, took, _ in claims if at > ended - (ended - started) / 5]
            early = [took * 1e3 for at, took, _ in claims if at < started + (ended - started) / 5]
            fifth = len(waits) // 5
            return Measurement(
                {
                    "rate": (jobs - lag) / (ended - started),
                    "lag": lag,
                    "dead": dead,
                    "foreign": foreign,
                    "claim p50": statistics.median(late),
                    "claim p99": runs.percentiles(late)["p99"],
                    "claim max": max(late),
                    "early claim p99": runs.percentiles(early)["p99"],
                    **runs.percentiles(waits[-fifth:]),
                }
            )
    finally:
        del os.environ[CALLS_VARIABLE], os.environ[SWITCH_VARIABLE]
        calls.unlink(missing_ok=True)


class Horizon:
    """The same load with the horizon free, and held."""

    name = "horizon"

    def arms(self, options: Options) -> Sequence[Arm]:
        seconds = options.scaled(SECONDS, 5)
        return [
            Arm(FREE, functools.partial(offered, seconds=seconds, is_held=False), rounds=1),
            Arm(HELD, functools.partial(offered, seconds=seconds, is_held=True), rounds=1),
            Arm(NO_FLOORS, functools.partial(offered, seconds=seconds, is_held=True, switch="no_floors"), rounds=1),
        ]

    def rows(self, results: Results, options: Options) -> Sequence[Row]:
        def of(arm: str, name: str) -> float:
            return results.median(arm, name)

        def both(name: str) -> str:
            return f"{of(HELD, name):.1f} ms against {of(FREE, name):.1f}"

        title = f"a transaction holds the horizon for {options.scaled(SECONDS, 5)} s at {RATE} jobs/s"
        return [
            row(
                results,
                [FREE, HELD],
                title,
                lambda: f"{of(HELD, 'rate'):.0f} jobs/s, {of(HELD, 'lag'):.0f} jobs behind at the end",
                "no loss of rate",
                lambda: of(HELD, "rate") >= 0.99 * RATE,
            ),
            row(
                results,
                [FREE, HELD],
                "the same: claims in the last fifth, with and without",
                lambda: (
                    f"p50 {both('claim p50')}, p99 {both('claim p99')}; in the first fifth p99 "
                    f"{of(HELD, 'early claim p99'):.1f} ms"
                ),
                "p99 bounded: ≤ 50 ms",
                lambda: of(HELD, "claim p99") <= 50,
            ),
            row(
                results,
                [FREE, HELD],
                "the same: from deferring to start, last fifth",
                lambda: f"p50 {both('p50')}, p99 {both('p99')}",
            ),
            row(
                results,
                [HELD, NO_FLOORS],
                "the same, held: claims that always begin at the beginning",
                lambda: (
                    f"p50 {of(NO_FLOORS, 'claim p50'):.1f} ms, p99 {of(NO_FLOORS, 'claim p99'):.1f} ms; "
                    f"{of(NO_FLOORS, 'lag'):.0f} jobs behind at the end"
                ),
            ),
        ]
