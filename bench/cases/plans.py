"""Statements after the table has become another one than PostgreSQL made its plans for."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from bench.measurement import Arm, Measurement, Options, Results, Row, row
from bench.processes import Load
from bench.stand import Database, Stand, insert_jobs
from procrastinate.connections import Rendering
from procrastinate.connections.psycopg import PsycopgAdapter
from procrastinate.jobs import Claim, Status
from procrastinate.store.jobs import FetchJobs, FinishJobs, Verdict
from procrastinate.store.operation import Operation
from procrastinate.store.workers import RegisterWorker

T = TypeVar("T")

SMALL, GROWN, BESIDE = 20, 500_000, 1_000_000
FEW, MANY = 10, 2_000
GREW, EMPTY = "a table that grew", "an empty queue"
# Of each kind, more than it takes until PostgreSQL keeps a plan.
TIMES = 12


class Asker:
    """A worker's statements, one after another on one connection, with the time that each takes."""

    def __init__(self, database: Database) -> None:
        self._adapter = PsycopgAdapter(database.connection)
        self._rendering = Rendering()
        self.worker_id = self._adapter.run(RegisterWorker(worker_name="bench"), self._rendering)

    def ask(self, operation: Operation[T]) -> tuple[T, float]:
        """Return the answer, and the milliseconds until it was there."""
        start = time.perf_counter()
        answer = self._adapter.run(operation, self._rendering)
        return answer, (time.perf_counter() - start) * 1e3

    def claim(self, count: int, queues: Sequence[str] | None = None) -> tuple[list[Claim], float]:
        result, milliseconds = self.ask(FetchJobs(queues=queues, worker_id=self.worker_id, limit=count))
        return result.claims, milliseconds

    def finish(self, claims: Sequence[Claim]) -> float:
        verdicts = [Verdict(claim=claim, status=Status.SUCCEEDED) for claim in claims]
        return self.ask(FinishJobs(verdicts=verdicts, worker_id=self.worker_id))[1]


def _measured(stand: Stand, run: Callable[[Database], dict[str, float]]) -> Measurement:
    load = Load.now(stand.server_pid)
    with stand.new_database("bench_plans") as database:
        # As in the minute before autovacuum comes round.
        database.execute("alter table procrastinate_jobs set (autovacuum_enabled = off)")
        numbers = run(database)
    return Measurement({**numbers, "foreign": Load.now(stand.server_pid).foreign_since(load)})


def grew(stand: Stand, grown: int) -> Measurement:
    """Have plans kept for a table of a few jobs, insert very many, and go on."""

    def run(database: Database) -> dict[str, float]:
        asker = Asker(database)
        insert_jobs(database, SMALL)
        database.settle()
        for _ in range(TIMES):
            asker.finish(asker.claim(1)[0])
        insert_jobs(database, grown)
        first, first_claim = asker.claim(FEW)
        second, second_claim = asker.claim(FEW)
        many, large_claim = asker.claim(MANY)
        return {
            "first claim": first_claim,
            "second claim": second_claim,
            "large claim": large_claim,
            "first finish": asker.finish(first),
            "second finish": asker.finish(second),
            "large finish": asker.finish(many),
        }

    return _measured(stand, run)


def empty(stand: Stand, beside: int) -> Measurement:
    """Claim from an empty queue, where statistics know one other queue."""

    def run(database: Database) -> dict[str, float]:
        asker = Asker(database)
        insert_jobs(database, beside)
        database.settle()
        times = sorted(asker.claim(FEW, ["empty"])[1] for _ in range(TIMES))
        return {"claim": times[TIMES // 2]}

    return _measured(stand, run)


class Plans:
    """Single statements, timed."""

    name = "plans"

    def arms(self, options: Options) -> Sequence[Arm]:
        return [
            Arm(GREW, functools.partial(grew, grown=options.scaled(GROWN, 10_000))),
            Arm(EMPTY, functools.partial(empty, beside=options.scaled(BESIDE, 10_000))),
        ]

    def rows(self, results: Results, options: Options) -> Sequence[Row]:
        def times(name: str) -> str:
            return ", ".join(
                f"{results.median(GREW, f'{which} {name}'):.1f} ms for {count:,}"
                for which, count in (("first", FEW), ("second", FEW), ("large", MANY))
            )

        return [
            row(
                results,
                [GREW],
                f"by plans made for {SMALL} jobs, beside {options.scaled(GROWN, 10_000):,} that came since",
                lambda: f"claims: {times('claim')}; outcomes: {times('finish')}",
            ),
            row(
                results,
                [EMPTY],
                f"a claim from an empty queue beside {options.scaled(BESIDE, 10_000):,} jobs of the only other one",
                lambda: f"{results.median(EMPTY, 'claim'):.2f} ms",
            ),
        ]
