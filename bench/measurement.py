"""What is measured, and how runs become rows of the report."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs

from bench.stand import Stand

# The share of the machine that others may use in a run that counts as quiet.
QUIET = 0.10


class Miscount(Exception):  # noqa: N818  what happened, in one word
    """Jobs were lost, or ran more than once."""


@attrs.frozen
class Measurement:
    """The numbers of one run, by name, and a series of them if it has one.

    Names that mean the same everywhere: `rate` per second; `seconds`; `worker` and `server`, in microseconds of
    processor time per job; `wal` in bytes, `commits`, `buffers` and `dead` per job; `p50` and `p99` in ms; `foreign`,
    the share of the machine that others used.
    """

    numbers: Mapping[str, float]
    series: Mapping[str, Any] = attrs.field(factory=dict)

    def __getitem__(self, name: str) -> float:
        return self.numbers[name]

    @property
    def is_quiet(self) -> bool:
        return self.numbers.get("foreign", 0.0) < QUIET


@attrs.frozen
class Arm:
    """One of the things that a case compares."""

    name: str
    run: Callable[[Stand], Measurement]
    # None for as many as there are rounds.
    rounds: int | None = None


@attrs.define
class Row:
    """A row of the report.

    Attributes:
        measure: what was measured.
        value: as it is shown.
        bar: what it should reach; empty if nothing was asked.
        met: whether it does; None if nothing was asked or it could not be measured.
        note: what a reader should know.
        noisy: others used the machine in too many runs.
    """

    measure: str
    value: str
    bar: str = ""
    met: bool | None = None
    note: str = ""
    noisy: bool = False


@attrs.define
class Results:
    """The runs of a case: for each arm one per round, None where it failed."""

    runs: dict[str, list[Measurement | None]] = attrs.field(factory=dict)

    def has(self, *arms: str) -> bool:
        """Tell whether each of these arms has been measured."""
        return all(any(self.runs.get(arm, [])) for arm in arms)

    def picked(self, *arms: str) -> tuple[list[tuple[Measurement, ...]], bool]:
        """Return the rounds in which all these arms were measured, and whether they are noisy.

        The quiet rounds if there are three, or if all are; otherwise all.
        """
        rounds = [
            combined
            for combined in zip(*(self.runs[arm] for arm in arms), strict=False)
            if all(each is not None for each in combined)
        ]
        complete: list[tuple[Measurement, ...]] = [tuple(each for each in row if each is not None) for row in rounds]
        quiet = [row for row in complete if all(each.is_quiet for each in row)]
        is_noisy = len(quiet) < min(3, len(complete))
        return (complete if is_noisy else quiet), is_noisy

    def median(self, arm: str, name: str = "rate") -> float:
        """Return the median of a number over the rounds."""
        rows, _ = self.picked(arm)
        return statistics.median(row[0][name] for row in rows)

    def ratio(self, arm: str, base: str, name: str = "rate") -> float:
        """Return the median of an arm's ratios to another one, each taken within one round."""
        rows, _ = self.picked(arm, base)
        return statistics.median(one[name] / other[name] for one, other in rows)

    def difference(self, arm: str, base: str, name: str) -> float:
        """Return the median of what an arm has more than another one, each taken within one round."""
        rows, _ = self.picked(arm, base)
        return statistics.median(one[name] - other[name] for one, other in rows)

    def is_noisy(self, *arms: str) -> bool:
        return self.picked(*arms)[1]


@attrs.frozen
class Options:
    """What the command line says.

    Attributes:
        scale: how large the piles and the long drains are, 1 for those of the report.
        rounds: how often each arm is measured.
        peers: whom to compare with.
        quick: leave out what takes long.
    """

    scale: float = 1.0
    rounds: int = 3
    peers: Mapping[str, Any] = attrs.field(factory=dict)
    quick: bool = False

    def scaled(self, number: float, least: int = 1) -> int:
        return max(least, round(number * self.scale))


class Case(Protocol):
    """Something to measure: its arms are run in turn, so that a slow moment of the machine meets them all."""

    @property
    def name(self) -> str: ...

    def arms(self, options: Options) -> Sequence[Arm]:
        """Return what to run."""
        ...

    def rows(self, results: Results, options: Options) -> Sequence[Row]:
        """Return what the runs say."""
        ...


def row(
    results: Results,
    arms: Sequence[str],
    measure: str,
    value: Callable[[], str],
    bar: str = "",
    met: Callable[[], bool] | None = None,
    note: str = "",
) -> Row:
    """Make a row, or one that says which arm is missing."""
    missing = [arm for arm in arms if not results.has(arm)]
    if missing:
        return Row(measure, f"not measured: {', '.join(missing)}", bar, None, note)
    return Row(measure, value(), bar, met() if met else None, note, results.is_noisy(*arms))


def number(value: float) -> str:
    """Write a number with as many digits as say something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
