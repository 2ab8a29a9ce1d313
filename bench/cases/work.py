"""Jobs that wait for a millisecond: the more at a time, the faster, until the machine is full."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from bench import runs
from bench.ceilings import naps
from bench.contenders import OURS
from bench.measurement import Arm, Options, Results, Row, number, row

STEPS = {4: 10_000, 16: 30_000, 64: 50_000, 128: 50_000, 256: 50_000}
NO_WORK = "jobs that do nothing"
# The loop's timers are late by up to a millisecond whenever something else wakes it: it sleeps whole milliseconds.
WAKE_EVERY = 0.002


class Work:
    """Waiting jobs, against waiting without jobs."""

    name = "work"

    def arms(self, options: Options) -> Sequence[Arm]:
        noop = functools.partial(
            runs.drain, contender=OURS, jobs=options.scaled(OURS.jobs, 500), keep=True, setting="64"
        )
        found = [Arm(NO_WORK, noop)]
        for step, count in STEPS.items():
            jobs = options.scaled(count, 500)
            drain = functools.partial(runs.drain, contender=OURS, jobs=jobs, keep=True, setting=str(step), task="nap")
            found += [
                Arm(f"ours, {step}", drain),
                Arm(f"bare, {step}", functools.partial(naps, jobs=jobs, concurrency=step)),
                Arm(f"woken, {step}", functools.partial(naps, jobs=jobs, concurrency=step, wake_every=WAKE_EVERY)),
            ]
        return found

    def rows(self, results: Results, options: Options) -> Sequence[Row]:
        return [self._row(results, step) for step in STEPS]

    def _row(self, results: Results, step: int) -> Row:
        ours, bare, woken = f"ours, {step}", f"bare, {step}", f"woken, {step}"

        def share() -> float:
            # Either the waiting limits, or the machine: what a job that does nothing costs, and the waiting itself.
            full = 1 / (1 / results.median(NO_WORK) + self._timer(results))
            return results.median(ours) / min(results.median(bare), full)

        return row(
            results,
            [ours, bare, woken, NO_WORK],
            f"1 ms of work per job, concurrency {step}",
            lambda: (
                f"{number(results.median(ours))} jobs/s; {share():.2f} of what is possible; waiting alone "
                f"{number(results.median(bare))}, and {number(results.median(woken))} on a loop that is woken every "
                f"{WAKE_EVERY * 1e3:g} ms"
            ),
            "near-linear until the machine is full: ≥ 0.8",
            lambda: share() >= 0.8,
        )

    def _timer(self, results: Results) -> float:
        """Return the processor time that a sleeping coroutine costs by itself, in seconds."""
        largest = f"bare, {max(STEPS)}"
        return results.median(largest, "cpu") / results.median(largest, "jobs")
