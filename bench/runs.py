"""The runs that several cases have in common: drain a queue, watch the latency of single jobs, defer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from bench.contenders import Contender
from bench.measurement import Measurement, Miscount
from bench.processes import Load, Program, cpu_seconds, memory
from bench.redis_server import RedisStore, redis_url
from bench.stand import Database, Stand
from bench.tally import Tally

# A drain in which no job starts for so long has stalled.
STALL = 20.0
# Time for a worker to run its first job.
START = 60.0
# Time in which a second run of a job would show.
AFTERMATH = 0.2


@contextlib.contextmanager
def tally_for(stand: Stand, jobs: int) -> Iterator[Tally]:
    tally = Tally.create(stand.shared, jobs)
    try:
        yield tally
    finally:
        tally.close()


def check(tally: Tally, what: str) -> None:
    """Raise Miscount unless each job ran exactly once."""
    if tally.waiting or tally.repeated:
        raise Miscount(f"{what}: of {tally.jobs} jobs, {tally.waiting} never ran and {tally.repeated} ran repeatedly")


@contextlib.contextmanager
def store_of(contender: Contender, stand: Stand) -> Iterator[Database | RedisStore]:
    """Give an empty store, set up for the contender."""
    if contender.unfinished is None:
        store = RedisStore(contender.name, redis_url())
        store.flush()
        contender.call(stand, store.url, "setup")
        yield store
        return
    name = f"bench_{contender.name.replace('-', '_')}"
    with stand.new_database(name, with_schema=contender.is_ours) as database:
        if not contender.is_ours:
            contender.call(stand, database.url, "setup", setting=contender.setting)
        yield database


@attrs.define
class Drain:
    """Watches jobs being run, from the first body to the moment when the store shows nothing unfinished.

    Attributes:
        stand: where.
        database: where our counters are read; None on Redis.
        tally: where the bodies count.
        worker: the process whose processor time is the worker's.
        is_done: asks the store, once every body has run.
        sample: called now and then while it lasts.
    """

    stand: Stand
    database: Database | None
    tally: Tally
    worker: Program
    is_done: Callable[[], bool]
    sample: Callable[[], None] | None = None

    def watch(self) -> Measurement:
        """Return `seconds`, `rate`, the processor time per job, and the share of others."""
        jobs = self.tally.jobs
        self._wait_for(lambda: self.tally.waiting < jobs, 0.001, START)
        load, worker, server = Load.now(self.stand.server_pid), self._worker_cpu(), self._server_cpu()
        self._wait_for(lambda: not self.tally.waiting, 0.01, STALL)
        self._wait_for(self.is_done, 0.003, STALL)
        end = time.monotonic_ns()
        foreign = Load.now(self.stand.server_pid).foreign_since(load)
        seconds = (end - self.tally.first_stamp()) / 1e9
        return Measurement(
            {
                "jobs": jobs,
                "seconds": seconds,
                "rate": jobs / seconds,
                "worker": (self._worker_cpu() - worker) / jobs * 1e6,
                "server": (self._server_cpu() - server) / jobs * 1e6,
                "foreign": foreign,
            }
        )

    def _worker_cpu(self) -> float:
        return cpu_seconds(self.worker.pid)

    def _server_cpu(self) -> float:
        # Our own connection's looks are not the queue's cost.
        own = cpu_seconds(self.database.backend_pid) if self.database else 0.0
        return cpu_seconds(self.stand.server_pid) - own

    def _wait_for(self, condition: Callable[[], bool], pause: float, limit: float) -> None:
        left, moved = -1, time.monotonic()
        while not condition():
            if self.sample is not None:
                self.sample()
            time.sleep(pause)
            if self.worker.has_ended:
                raise RuntimeError(f"the worker ended with {self.worker.process.returncode}\n{self.worker.tail()}")
            if (now := self.tally.waiting) != left:
                left, moved = now, time.monotonic()
            elif time.monotonic() - moved > limit:
                if left and left < self.tally.jobs:
                    raise Miscount(f"nothing happened for {limit:.0f} s, and {left} jobs have not run")
                raise RuntimeError(f"nothing happened for {limit:.0f} s\n{self.worker.tail()}")


def drain(
    stand: Stand,
    contender: Contender,
    jobs: int,
    *,
    keep: bool,
    setting: str | None = None,
    task: str = "noop",
) -> Measurement:
    """Have one worker run jobs that were deferred before, in a fresh database, and count what it costs."""
    with store_of(contender, stand) as store, tally_for(stand, jobs) as tally:
        if isinstance(store, RedisStore):
            contender.call(stand, store.url, "bulk", jobs=jobs, keep=int(keep), task=task)
            return _drain_redis(stand, contender, store, tally, keep=keep, setting=setting)
        contender.fill(stand, store, jobs, keep=keep, task=task)
        store.settle()
        return drain_filled(stand, contender, store, tally, keep=keep, setting=setting)


def drain_filled(
    stand: Stand,
    contender: Contender,
    database: Database,
    tally: Tally,
    *,
    keep: bool,
    setting: str | None = None,
    during: Callable[[Program], contextlib.AbstractContextManager[Any]] | None = None,
) -> Measurement:
    """Have one worker run what is there."""
    counters, statements = database.counters(), database.statements
    worker = contender.worker(stand, database.url, tally, setting=setting or contender.setting, keep=keep)
    peak = 0.0

    def sample() -> None:
        nonlocal peak
        peak = max(peak, memory(worker.pid))

    try:
        with during(worker) if during else contextlib.nullcontext():
            watched = Drain(
                stand, database, tally, worker, lambda: not database.value(contender.unfinished or ""), sample
            ).watch()
        time.sleep(AFTERMATH)
    finally:
        worker.stop()
    check(tally, f"{contender.name}, drain")
    if contender.is_ours:
        check_rows(database, keep=keep, jobs=tally.jobs)
    costs = database.counters().per_job(counters, tally.jobs, database.statements - statements)
    return Measurement({**watched.numbers, **costs, "memory": peak}, watched.series)


def check_rows(database: Database, *, keep: bool, jobs: int) -> None:
    """See that the table agrees with what the bodies counted."""
    row = database.execute(
        "select count(*) filter (where status = 'succeeded'), count(*) filter (where status <> 'succeeded') "
        "from procrastinate_jobs where task_name like 'noop%' or task_name = 'nap'"
    ).fetchone()
    if row != (expected := (jobs if keep else 0, 0)):
        raise Miscount(f"jobs that succeeded, and others, in the table: {row}, not {expected}")


def _drain_redis(
    stand: Stand, contender: Contender, store: RedisStore, tally: Tally, *, keep: bool, setting: str | None
) -> Measurement:
    worker = contender.worker(stand, store.url, tally, setting=setting or contender.setting, keep=keep)
    try:
        watched = Drain(stand, None, tally, worker, lambda: store.unfinished(tally.jobs, keep=keep) <= 0).watch()
        time.sleep(AFTERMATH)
    finally:
        worker.stop()
    check(tally, f"{contender.name}, drain")
    return watched


def defer(stand: Stand, contender: Contender, operation: str, jobs: int, *, variant: str | None = None) -> Measurement:
    """Have a client defer jobs, one by one or in bulk."""
    chosen = contender if variant is None else attrs.evolve(contender, variant=variant)
    with store_of(contender, stand) as store:
        load, server = Load.now(stand.server_pid), cpu_seconds(stand.server_pid)
        result = chosen.call(stand, store.url, operation, jobs=jobs)
        return Measurement(
            {
                "jobs": jobs,
                "seconds": result["seconds"],
                "rate": jobs / result["seconds"],
                "worker": result["cpu"] / jobs * 1e6,
                "server": (cpu_seconds(stand.server_pid) - server) / jobs * 1e6,
                "foreign": Load.now(stand.server_pid).foreign_since(load),
            }
        )


def latency(stand: Stand, contender: Contender, jobs: int = 310, warm_up: int = 10) -> Measurement:
    """Defer a job every 20 ms to an idle worker: from before the call to the first line of the body."""
    with store_of(contender, stand) as store, tally_for(stand, jobs) as tally:
        worker = contender.worker(stand, store.url, tally, setting=contender.latency_setting, keep=contender.keeps[0])
        try:
            time.sleep(2.5)
            load = Load.now(stand.server_pid)
            sent = contender.call(stand, store.url, "latency", jobs=jobs, keep=int(contender.keeps[0]))["sent"]
            deadline = time.monotonic() + 10
            while tally.waiting and time.monotonic() < deadline:
                time.sleep(0.02)
            foreign = Load.now(stand.server_pid).foreign_since(load)
            time.sleep(AFTERMATH)
        finally:
            worker.stop()
        check(tally, f"{contender.name}, latency")
        waits = [(tally.stamp(i) - int(at)) / 1e6 for i, at in enumerate(sent)][warm_up:]
        return Measurement({**percentiles(waits), "foreign": foreign}, {"waits": sorted(round(w, 3) for w in waits)})


def percentiles(values: list[float]) -> dict[str, float]:
    """Return the median, the 95th and 99th percentile and the maximum."""
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    return {"p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": ordered[-1]}
