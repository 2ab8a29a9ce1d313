"""Removing old jobs while a worker drains new ones."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from bench import runs
from bench.contenders import OURS
from bench.measurement import Arm, Measurement, Options, Results, Row, number, row
from bench.processes import Program
from bench.stand import ROOT, Stand, insert_jobs

PILE = 1_000_000
JOBS = 300_000
ALONE, BESIDE = "alone", "beside remove_old_jobs"
REMOVE = """
import asyncio, os, procrastinate
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["BENCH_DATABASE_URL"]))
async def main():
    async with app.open_async():
        await app.job_manager.delete_old_jobs(nb_hours=72)
asyncio.run(main())
"""


def finished(ended: str) -> Sequence[tuple[str, str]]:
    return (
        ("status", "'succeeded'::procrastinate_job_status"),
        ("attempts", "1"),
        ("attempted_at", ended),
        ("finalized_at", ended),
    )


def drain_while_removing(stand: Stand, jobs: int, pile: int, *, removes: bool) -> Measurement:
    """Drain beside old and recent jobs that ended, while the old ones are removed from when the first job runs."""
    with stand.new_database("bench_retention") as database, runs.tally_for(stand, jobs) as tally:
        insert_jobs(database, pile, task="old", columns=finished("now() - interval '10 days'"))
        insert_jobs(database, pile, task="recent", columns=finished("now()"))
        insert_jobs(database, jobs)
        database.settle()

        @contextlib.contextmanager
        def removal(_: Program) -> Iterator[None]:
            if not removes:
                yield
                return
            # Not before the drain has begun.
            deadline = time.monotonic() + 30
            while tally.waiting == jobs and time.monotonic() < deadline:
                time.sleep(0.002)
            remover = Program(
                [sys.executable, "-c", REMOVE],
                {"BENCH_DATABASE_URL": database.url},
                stand.logs / "retention.log",
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
            )
            try:
                yield
            finally:
                remover.stop()

        measurement = runs.drain_filled(stand, OURS, database, tally, keep=True, during=removal)
        left = database.value("select count(*) from procrastinate_jobs where task_name = 'old'")
        recent = database.value("select count(*) from procrastinate_jobs where task_name = 'recent'")
        if recent != pile:
            raise runs.Miscount(f"{pile - recent} recent jobs were removed")
        return Measurement({**measurement.numbers, "removed": pile - left})


class Retention:
    """A drain alone, and one beside the removal."""

    name = "retention"

    def arms(self, options: Options) -> Sequence[Arm]:
        run = functools.partial(
            drain_while_removing, jobs=options.scaled(JOBS, 5_000), pile=options.scaled(PILE, 10_000)
        )
        return [Arm(ALONE, functools.partial(run, removes=False)), Arm(BESIDE, functools.partial(run, removes=True))]

    def rows(self, results: Results, options: Options) -> Sequence[Row]:
        pile = options.scaled(PILE, 10_000)
        return [
            row(
                results,
                [ALONE, BESIDE],
                f"drain of {options.scaled(JOBS, 5_000):,} while {pile:,} of {2 * pile:,} old jobs are removed",
                lambda: (
                    f"{results.ratio(BESIDE, ALONE):.2f} × without: {number(results.median(BESIDE))} against "
                    f"{number(results.median(ALONE))} jobs/s; {results.median(BESIDE, 'removed'):,.0f} went meanwhile"
                ),
                "≥ 0.8 × without",
                lambda: results.ratio(BESIDE, ALONE) >= 0.8,
            )
        ]
