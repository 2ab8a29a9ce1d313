"""The suite: scenarios, trials of them, and the table at the end."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import attrs

from faults import scenarios
from faults.stage import Stage, TrialFailed
from procrastinate.embedded import FAST_SETTINGS, PostgresServer
from procrastinate.fresh_databases import new_database, template_with_schema

MARKS = ("<!-- faults: begin -->", "<!-- faults: end -->")


class Impossible(Exception):  # noqa: N818  as TrialFailed
    """The scenario needs what this machine does not have; says what."""


@attrs.frozen(kw_only=True)
class Scenario:
    """A fault, and how often it is tried.

    Attributes:
        name: for the command line.
        title: for the table.
        act: does it to a stage.
        trials: how often in the long form.
        in_short: whether the short form has it, once.
    """

    name: str
    title: str
    act: Callable[[Stage], None]
    trials: int
    in_short: bool


@attrs.frozen(kw_only=True)
class Outcome:
    """What came of one trial. `recovery` is the worst, in seconds, None if nothing had to recover."""

    offered: int
    lost: int
    twice: int
    recovery: float | None
    broken: Sequence[str]


_scenarios: dict[str, Scenario] = {}


Act: TypeAlias = Callable[[Stage], None]


def scenario(title: str, *, trials: int = 3, in_short: bool = False) -> Callable[[Act], Act]:
    """Register a function as the scenario of its name."""

    def register(act: Act) -> Act:
        name = act.__name__
        assert name not in _scenarios, name
        _scenarios[name] = Scenario(name=name, title=title, act=act, trials=trials, in_short=in_short)
        return act

    return register


def all_scenarios() -> dict[str, Scenario]:
    """Import and return all scenarios, by name."""
    for module in pkgutil.iter_modules(scenarios.__path__):
        importlib.import_module(f"{scenarios.__name__}.{module.name}")
    return _scenarios


@attrs.define
class Ground:
    """A server of the suite's own, which scenarios may restart, and a database to copy."""

    server: PostgresServer
    template: str

    @classmethod
    @contextlib.contextmanager
    def ready(cls, version: int | None = None) -> Iterator[Ground]:
        memory = Path("/dev/shm")
        roomy = memory.is_dir() and shutil.disk_usage(memory).free >= 2 * 2**30
        # What was acknowledged must survive a crash of the server, if not of the machine.
        settings = {**FAST_SETTINGS, "synchronous_commit": "on", "max_wal_size": "512MB"}
        with (
            PostgresServer(version=version, settings=settings, temporary_root=memory if roomy else None) as server,
            template_with_schema(server) as template,
        ):
            yield cls(server, template)

    def trial(self, scenario: Scenario, seed: int, *, is_long: bool) -> Outcome:
        """Try a scenario once. Raises Impossible."""
        with new_database(self.server, self.template) as conninfo, tempfile.TemporaryDirectory() as folder:
            stage = Stage(
                conninfo=conninfo, server=self.server, folder=Path(folder), dice=random.Random(seed), is_long=is_long
            )
            try:
                try:
                    scenario.act(stage)
                    stage.stop_workers()
                except TrialFailed as failure:
                    stage.broken.append(str(failure))
                judgement = stage.judge()
            finally:
                stage.close()
        return Outcome(
            offered=len(stage.offered),
            lost=len(judgement.lost),
            twice=len(judgement.twice),
            recovery=max(stage.recoveries, default=None),
            broken=_shortened(judgement.broken),
        )


def _shortened(lines: Sequence[str], most: int = 12) -> list[str]:
    rest = len(lines) - most
    return [*lines[:most], *([f"and {rest} more"] if rest > 0 else [])]


def table(results: Sequence[tuple[Scenario, Sequence[Outcome]]], impossible: Sequence[tuple[Scenario, str]]) -> str:
    """Return the results in Markdown."""
    lines = [
        "| Fault | Trials | Jobs offered | Lost | Run twice | Worst time to recover |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for scenario, outcomes in results:
        recovery = max((outcome.recovery for outcome in outcomes if outcome.recovery is not None), default=None)
        numbers = [
            len(outcomes),
            *(sum(getattr(outcome, name) for outcome in outcomes) for name in ("offered", "lost", "twice")),
        ]
        shown = "-" if recovery is None else f"{recovery:.1f} s"
        broken = sum(bool(outcome.broken) for outcome in outcomes)
        title = scenario.title + (f" **(broken in {broken} trials)**" if broken else "")
        lines.append(f"| {title} | {' | '.join(f'{number:,}' for number in numbers)} | {shown} |")
    lines += [f"| {scenario.title} | not tried: {why} | | | | |" for scenario, why in impossible]
    return "\n".join(lines)


def write_table(path: Path, text: str) -> None:
    """Put the table between its marks in a document. Raises ValueError if they are missing."""
    begin, end = MARKS
    before, found, rest = path.read_text().partition(begin)
    _, found_too, after = rest.partition(end)
    if not found or not found_too:
        raise ValueError(f"{path} has no place for the table: two lines, {begin} and {end}")
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
