"""How the drain of jobs that do nothing depends on the concurrency: for the chart."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from bench import runs
from bench.contenders import OURS
from bench.measurement import Arm, Options, Results, Row, number, row

STEPS = (1, 10, 30, 100, 300)


class Concurrency:
    """The same drain with more and more slots."""

    name = "concurrency"

    def arms(self, options: Options) -> Sequence[Arm]:
        found: list[Arm] = []
        for contender in (OURS, *(options.peers[name] for name in ("incumbent",) if name in options.peers)):
            jobs = options.scaled(contender.jobs, 500)
            found += [
                Arm(
                    f"{contender.name}, {step}",
                    functools.partial(runs.drain, contender=contender, jobs=jobs, keep=True, setting=str(step)),
                )
                for step in STEPS
            ]
        return found

    def rows(self, results: Results, options: Options) -> Sequence[Row]:
        found: list[Row] = []
        for name in (OURS.name, "incumbent"):
            arms = [f"{name}, {step}" for step in STEPS]
            if arms[0] in results.runs:
                found.append(
                    row(
                        results,
                        arms,
                        f"drain by concurrency {', '.join(map(str, STEPS))}: {name}",
                        lambda arms=arms: " · ".join(number(results.median(arm)) for arm in arms) + " jobs/s",
                    )
                )
        return found
