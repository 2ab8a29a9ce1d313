"""How long a job waits from being deferred to its first line, while the worker is idle and while it is busy."""

from __future__ import annotations

import functools
import itertools
import select
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence

import attrs

from bench import layers, runs
from bench.ceilings import answer, python
from bench.clients import Clients
from bench.contenders import OURS
from bench.measurement import Arm, Measurement, Options, Results, Row, row
from bench.processes import Load, cpu_seconds
from bench.stand import Stand
from procrastinate.connections import Rendering
from procrastinate.store.postgres import Statement

JOBS = 310
WARM_UP = 10
BUSY_SECONDS = 10
STEADY_SECONDS = 6
RATES = (1_000, 5_000, 10_000, 20_000)
EVERY = 0.02
BARE, IDLE, BUSY, STAGED = "bare round trip", "ours, idle", "ours, half busy", "ours, stage by stage"
OUR_STATEMENTS = "bare round trip, our statements"
# Switches of adapters/switches.py: at how many jobs a second, and what the worker does then.
SWITCHES = {
    "look_after_each_job": (1_000, "looks for more after each job"),
    "keep_plans": (5_000, "never forgets plans"),
}
# Between the moments that `bench.stages` notes.
STAGES = (
    "before the INSERT",
    "INSERT, commit and notification",
    "before the claim",
    "claim and commit",
    "before the first line",
)


def plain_insert(number: int) -> Statement:
    """Return an INSERT of a job that has nothing but its arguments."""
    text = (
        "insert into procrastinate_jobs (queue_name, task_name, args) "
        "values ('default', 'noop', jsonb_build_object('i', %(number)s::integer))"
    )
    return Statement(text, {"number": number})


def our_insert(number: int) -> Statement:
    """Return the statement by which we defer a job."""
    return Rendering().statement(layers.operation(number), is_alone=True)


def bare(
    stand: Stand, count: int, insert: Callable[[int], Statement] = plain_insert, claim: str = "plain"
) -> Measurement:
    """Measure the round trip: INSERT, notification, claim; two processes with nothing around their statements."""
    with stand.new_database("bench_round_trip") as database:
        claimer = python(stand, database, "bench.bare", "claimer", "0", claim, stdout=subprocess.PIPE, text=True)
        try:
            assert claimer.process.stdout is not None
            claimer.process.stdout.readline()
            load = Load.now(stand.server_pid)
            start, waits = time.monotonic(), []
            for number in range(count):
                statement = insert(number)
                time.sleep(max(0.0, start + number * EVERY - time.monotonic()))
                sent = time.monotonic_ns()
                database.connection.execute(statement.text.encode(), statement.parameters)
                ready, _, _ = select.select([claimer.process.stdout], [], [], 10)
                if not ready:
                    raise RuntimeError(f"the claimer hears nothing\n{claimer.tail()}")
                got, at = claimer.process.stdout.readline().split()
                assert int(got) == number
                waits.append((int(at) - sent) / 1e6)
            foreign = Load.now(stand.server_pid).foreign_since(load)
        finally:
            claimer.stop()
        return Measurement({**runs.percentiles(waits[WARM_UP:]), "foreign": foreign})


def stages(stand: Stand, jobs: int) -> Measurement:
    """Follow single jobs through both processes."""
    with stand.new_database("bench_stages") as database:
        worker = python(stand, database, "bench.stages", "worker", stdout=subprocess.PIPE)
        try:
            time.sleep(2.5)
            load = Load.now(stand.server_pid)
            deferrer = python(
                stand, database, "bench.stages", "deferrer", str(jobs), str(EVERY), stdout=subprocess.PIPE
            )
            notes = answer(deferrer)
            foreign = Load.now(stand.server_pid).foreign_since(load)
            time.sleep(runs.AFTERMATH)
            worker.process.terminate()
            notes |= answer(worker)
        finally:
            worker.stop()
        passed: dict[str, list[float]] = {stage: [] for stage in STAGES}
        for sent, asked, started in list(zip(notes["sent"], notes["asked"], notes["started"], strict=True))[WARM_UP:]:
            # The claim that found it was the last one to be answered.
            answered = max(at for at in notes["answered"] if at <= started)
            claimed = max(at for at in notes["claimed"] if at <= answered)
            heard = min((at for at in notes["heard"] if sent <= at <= claimed), default=claimed)
            moments = (sent, asked, heard, claimed, answered, started)
            for stage, (begin, end) in zip(STAGES, itertools.pairwise(moments), strict=True):
                passed[stage].append((end - begin) / 1e6)
        return Measurement(
            {**{stage: statistics.median(values) for stage, values in passed.items()}, "foreign": foreign}
        )


def half_busy(stand: Stand, seconds: float) -> Measurement:
    """Find out what a worker can do, offer it half of that steadily, and look at how long the jobs wait."""
    full = runs.drain(stand, OURS, 20_000, keep=True)["rate"]
    return steady(stand, full / 2, seconds)


def steady(stand: Stand, rate: float, seconds: float, switch: str = "") -> Measurement:
    """Offer a worker so many jobs a second, and look at how long they wait; `switch` takes a trick from it."""
    jobs, contender = int(rate * seconds), attrs.evolve(OURS, switch=switch)
    with stand.new_database("bench_busy") as database, runs.tally_for(stand, jobs) as tally:
        worker = contender.worker(stand, database.url, tally, setting=contender.setting, keep=True)
        try:
            server = cpu_seconds(stand.server_pid)
            clients = Clients(stand, database, ["steadily", f"--jobs={jobs}", f"--rate={rate}", "--every=0.002"])
            time.sleep(1.5)
            load = Load.now(stand.server_pid)
            clients.start()
            (result,) = clients.results()
            foreign = Load.now(stand.server_pid).foreign_since(load)
            deadline = time.monotonic() + 30
            while tally.waiting and time.monotonic() < deadline:
                time.sleep(0.02)
            time.sleep(runs.AFTERMATH)
        finally:
            worker.stop()
        server = cpu_seconds(stand.server_pid) - server
        runs.check(tally, f"{rate:.0f} jobs a second")
        waits = [(tally.stamp(i) - at) / 1e6 for i, at in enumerate(result["sent"])]
        offered = jobs / (result["ended"] - result["started"])
        # The first second is the worker's warming up.
        numbers = {"foreign": foreign, "rate": offered, "server": server / jobs * 1e6}
        return Measurement({**runs.percentiles(waits[int(rate) :]), **numbers})


def at(rate: int) -> str:
    """Return the name of the arm that offers so many jobs a second."""
    return f"ours, {rate:,} jobs/s"


class Latencies:
    """Single jobs, from being deferred to their first line."""

    name = "latency"

    def arms(self, options: Options) -> Sequence[Arm]:
        found = [
            Arm(BARE, functools.partial(bare, count=JOBS)),
            Arm(IDLE, functools.partial(runs.latency, contender=OURS)),
        ]
        found += [Arm(peer.name, functools.partial(runs.latency, contender=peer)) for peer in options.peers.values()]
        if not options.quick:
            found += [
                Arm(OUR_STATEMENTS, functools.partial(bare, count=JOBS, insert=our_insert, claim="ours")),
                Arm(STAGED, functools.partial(stages, jobs=JOBS)),
                *(Arm(at(rate), functools.partial(steady, rate=rate, seconds=STEADY_SECONDS)) for rate in RATES),
                *(
                    Arm(switch, functools.partial(steady, rate=rate, seconds=STEADY_SECONDS, switch=switch))
                    for switch, (rate, _) in SWITCHES.items()
                ),
                Arm(BUSY, functools.partial(half_busy, seconds=BUSY_SECONDS)),
            ]
        return found

    def rows(self, results: Results, options: Options) -> Sequence[Row]:
        def both(arm: str) -> str:
            return f"p50 {results.median(arm, 'p50'):.2f} ms, p99 {results.median(arm, 'p99'):.2f} ms"

        def is_short(arm: str) -> bool:
            return results.median(arm, "p50") <= 2 and results.median(arm, "p99") <= 5

        found = [
            row(
                results,
                [IDLE],
                "latency, idle worker",
                lambda: both(IDLE),
                "p50 ≤ 2 ms, p99 ≤ 5 ms",
                lambda: is_short(IDLE),
            ),
            row(
                results,
                [IDLE, BARE],
                "latency against the bare round trip",
                lambda: f"p50 {results.ratio(IDLE, BARE, 'p50'):.2f} ×: {both(BARE)}",
                "≤ 3 ×",
                lambda: results.ratio(IDLE, BARE, "p50") <= 3,
            ),
        ]
        peers = [peer.name for peer in options.peers.values() if peer.unfinished and results.has(peer.name)]
        if peers and results.has(IDLE):
            found.append(
                Row(
                    "latency of peers on PostgreSQL",
                    "; ".join(f"{peer} {both(peer)}" for peer in peers),
                    "ours is below each",
                    all(results.ratio(IDLE, peer, "p50") < 1 for peer in peers),
                    noisy=results.is_noisy(IDLE, *peers),
                )
            )
        on_redis = [peer.name for peer in options.peers.values() if not peer.unfinished and results.has(peer.name)]
        if on_redis:
            found.append(Row("latency of peers on Redis", "; ".join(f"{peer} {both(peer)}" for peer in on_redis)))
        if not options.quick:
            found.append(
                row(
                    results,
                    [BARE, OUR_STATEMENTS, IDLE],
                    "what it consists of",
                    lambda: (
                        f"{results.median(BARE, 'p50'):.2f} ms the bare round trip, of which two durable commits; "
                        f"{results.difference(OUR_STATEMENTS, BARE, 'p50'):.2f} ms more for statements that know "
                        "locks, times, priorities, dead workers and suspects; "
                        f"{results.difference(IDLE, OUR_STATEMENTS, 'p50'):.2f} ms for two Python programs around them"
                    ),
                )
            )
            found.append(
                row(
                    results,
                    [STAGED],
                    "where it goes",
                    lambda: ", ".join(f"{results.median(STAGED, stage):.2f} ms {stage}" for stage in STAGES),
                )
            )
            found.append(
                row(
                    results,
                    [at(rate) for rate in RATES],
                    "latency at " + ", ".join(f"{rate:,}" for rate in RATES) + " jobs/s",
                    lambda: " · ".join(both(at(rate)) for rate in RATES),
                    note="in a table that is empty at first; otherwise as at half load",
                )
            )
            found += [
                row(
                    results,
                    [switch, at(rate)],
                    f"the same at {rate:,} jobs/s, by a worker that {what}",
                    lambda switch=switch, rate=rate: (
                        f"{both(switch)}; server {results.median(switch, 'server'):.0f} µs of processor time per job, "
                        f"against {results.median(at(rate), 'server'):.0f}"
                    ),
                )
                for switch, (rate, what) in SWITCHES.items()
            ]
            found.append(
                row(
                    results,
                    [BUSY],
                    "latency at half load",
                    lambda: f"{both(BUSY)}, at {results.median(BUSY):,.0f} jobs/s",
                    "p50 ≤ 2 ms, p99 ≤ 5 ms",
                    lambda: is_short(BUSY),
                    "all jobs, deferred every 2 ms in batches: each waits for its batch to be committed, and for those "
                    "before it",
                )
            )
        return found
