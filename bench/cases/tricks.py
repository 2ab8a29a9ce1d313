"""What each trick buys: the same run with the trick, and without."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import attrs

from bench import runs
from bench.cases.bulk import many
from bench.contenders import OURS
from bench.measurement import Arm, Measurement, Options, Results, Row, number, row
from bench.stand import Stand

DEFAULT = "as it is"
# Switches of adapters/switches.py, and how many jobs a drain needs to be long enough: the slow ones fewer.
SWITCHES = {
    "claim_what_is_free": ("claims no more than are free", 20_000),
    "finish_one_by_one": ("records each outcome by itself", 5_000),
    "small_batches": ("claims ahead and records 50 at most", 30_000),
    "arrays_by_the_driver": ("leaves lists to the driver", 50_000),
    "check_connections": ("asks each connection first whether it works", 50_000),
    "log_every_job": ("logs every job, to /dev/null", 20_000),
    "parse_with_orjson": ("reads arguments with orjson", 50_000),
    "use_asyncpg": ("runs on asyncpg", 50_000),
}
BULK = 50_000
ALIKE, ANY = "defer_many", "jobs one by one in a batch"


def switched(stand: Stand, switch: str, jobs: int) -> Measurement:
    return runs.drain(stand, attrs.evolve(OURS, switch=switch), jobs, keep=True)


class Tricks:
    """Switches in the worker, and the two forms of a batch."""

    name = "tricks"

    def arms(self, options: Options) -> Sequence[Arm]:
        def arm(title: str, switch: str, jobs: int) -> Arm:
            return Arm(title, functools.partial(switched, switch=switch, jobs=options.scaled(jobs, 1_000)))

        bulk = options.scaled(BULK, 5_000)
        return [
            arm(DEFAULT, "", OURS.jobs),
            *(arm(title, switch, jobs) for switch, (title, jobs) in SWITCHES.items()),
            Arm(ALIKE, functools.partial(many, jobs=bulk)),
            Arm(ANY, functools.partial(many, jobs=bulk, way="any")),
        ]

    def rows(self, results: Results, options: Options) -> Sequence[Row]:
        def against(arm: str, base: str, measure: str) -> Row:
            return row(
                results,
                [arm, base],
                measure,
                lambda: (
                    f"{results.ratio(arm, base):.2f} × {base}: {number(results.median(arm))} jobs/s; "
                    f"{results.median(arm, 'worker'):.1f} + server {results.median(arm, 'server'):.1f} µs per job, "
                    f"against {results.median(base, 'worker'):.1f} + {results.median(base, 'server'):.1f}"
                ),
            )

        return [
            *(against(title, DEFAULT, f"a worker that {title}") for title, _ in SWITCHES.values()),
            against(ANY, ALIKE, "a batch of jobs that may differ in everything"),
        ]
