"""`python -m faults`: the fault suite in its long form, with a table at the end.

Exits with 1 when a promise was broken, and with 2 when it was called wrongly.
"""

# ruff: noqa: T201  a command

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from faults.suite import Ground, Impossible, Outcome, Scenario, all_scenarios, table, write_table


def main() -> int:
    """Run what was asked for."""
    scenarios = all_scenarios()
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__.splitlines()[0])
    parser.add_argument("scenario", nargs="*", help="which to run; all if none is named")
    parser.add_argument("--list", action="store_true", help="list the scenarios and end")
    parser.add_argument("--trials", type=int, help="how often each is tried, in place of its own number")
    parser.add_argument("--short", action="store_true", help="the small sizes that the tests use, once each")
    parser.add_argument("--seed", type=int, default=0, help="where the random choices start")
    parser.add_argument("--postgres", type=int, metavar="MAJOR", help="the embedded server's version")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between its marks in this document")
    options = parser.parse_args()
    if options.list:
        for each in scenarios.values():
            print(f"{each.name:32} {'short ' if each.in_short else '      '} {each.title}")
        return 0
    unknown = sorted(set(options.scenario) - scenarios.keys())
    if unknown:
        parser.error(f"there is no scenario {', '.join(unknown)}: see --list")
    chosen = [scenarios[name] for name in options.scenario] or list(scenarios.values())
    results: list[tuple[Scenario, list[Outcome]]] = []
    impossible: list[tuple[Scenario, str]] = []
    with Ground.ready(options.postgres) as ground:
        for each in chosen:
            trials = options.trials or (1 if options.short else each.trials)
            seeds = range(options.seed, options.seed + trials)
            try:
                outcomes = [_trial(ground, each, seed, is_long=not options.short) for seed in seeds]
            except Impossible as reason:
                print(f"{each.name}: not tried: {reason}", file=sys.stderr, flush=True)
                impossible.append((each, str(reason)))
            else:
                results.append((each, outcomes))
    text = table(results, impossible)
    print(text)
    if options.write:
        write_table(options.write, text)
    return int(any(outcome.broken for _, outcomes in results for outcome in outcomes))


def _trial(ground: Ground, scenario: Scenario, seed: int, *, is_long: bool) -> Outcome:
    start = time.monotonic()
    outcome = ground.trial(scenario, seed, is_long=is_long)
    seconds = time.monotonic() - start
    print(
        f"{scenario.name} [{seed}] {seconds:.1f} s: {outcome.offered} offered, {outcome.lost} lost, "
        f"{outcome.twice} run twice, {'BROKEN' if outcome.broken else 'kept'}",
        *outcome.broken,
        sep="\n    ",
        file=sys.stderr,
        flush=True,
    )
    return outcome


if __name__ == "__main__":
    sys.exit(main())
