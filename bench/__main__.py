"""Measure how fast jobs are deferred and run, beside what the database could do and beside other queues.

    python -m bench                 everything: an hour or so; `make bench`
    python -m bench quick           drain, flatness, latency, against the bare statements: under three minutes
    python -m bench drain latency   some cases
    python -m bench --peers all     beside the other queues too: each is installed when it is needed
    python -m bench idle --into reference   a case again, in place of what an earlier report has of it
    python -m bench profile FILE    profile one worker

Each run counts how often each job ran: one that was lost or ran twice makes the benchmark fail with code 1. The report
goes to bench/results, as Markdown, JSON and charts.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import profiling
from bench.cases import CASES
from bench.contenders import ON_REDIS, PEERS, Contender, available
from bench.measurement import Case, Measurement, Miscount, Options, Results
from bench.redis_server import program as redis_program
from bench.redis_server import running_redis
from bench.report import Report, conditions, progress
from bench.stand import ROOT, Stand, running_stand
from procrastinate.exceptions import EmbeddedPostgresError

RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "performance.md"
QUICK_CASES = ("drain", "flatness", "latency")
QUICK_SCALE = 0.3
# Not in a run of everything unless they are named: peers that need another server.
DEFAULT_PEERS = tuple(PEERS)


def main() -> int:
    """Measure, and write the report."""
    if not Path("/proc/self/stat").exists():
        print("The benchmark reads processor times from /proc, so it needs Linux.", file=sys.stderr)
        return 2
    arguments = parse()
    try:
        with running_redis(), running_stand(version=arguments.postgres) as stand:
            if arguments.profile is not None:
                profiling.profile(stand, arguments.profile, arguments.concurrency)
                return 0
            report = measure(stand, arguments)
    except EmbeddedPostgresError as error:
        print(f"The benchmark cannot start: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    print(report.markdown())
    for path in report.write(arguments.output, arguments.name):
        progress(f"wrote {path}")
    if arguments.fill_page:
        report.fill(PAGE)
        progress(f"filled {PAGE}")
    if report.interrupted_in is not None:
        return 130
    return 1 if report.miscounts else 0


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [case.name for case in CASES]
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"quick, or some of: {', '.join(names)}")
    parser.add_argument("--rounds", type=int, help="measurements of each arm (default: 3; quick: 1)")
    parser.add_argument("--scale", type=float, help="size of piles and long runs (default: 1; quick: 0.3)")
    parser.add_argument("--peers", metavar="A,B", help=f"all, none, or some of: {', '.join([*PEERS, *ON_REDIS])}")
    parser.add_argument("--postgres", type=int, metavar="VERSION", help="PostgreSQL's major version")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the report goes (default: bench/results)")
    parser.add_argument("--name", help="of the report's files (default: the date and time)")
    parser.add_argument("--into", metavar="NAME", help="put these cases into that earlier report, in place of its own")
    parser.add_argument("--fill-page", action="store_true", help="put the table and charts into docs/performance.md")
    parser.add_argument("--concurrency", type=int, default=10, help="of the worker that `profile` looks at")
    arguments = parser.parse_args(words)
    arguments.profile = None
    if arguments.cases[:1] == ["profile"]:
        if len(arguments.cases) != 2:
            parser.error("profile takes the file to write: python -m bench profile worker.prof")
        arguments.profile = Path(arguments.cases[1])
        return arguments
    arguments.quick = "quick" in arguments.cases
    chosen = [name for name in arguments.cases if name != "quick"]
    if unknown := set(chosen) - set(names):
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are quick, {', '.join(names)}")
    arguments.cases = chosen or (list(QUICK_CASES) if arguments.quick else names)
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 3)
    arguments.scale = arguments.scale or (QUICK_SCALE if arguments.quick else 1.0)
    if arguments.rounds < 1 or arguments.scale <= 0:
        parser.error("--rounds must be at least 1, and --scale more than 0")
    peers = arguments.peers or ("none" if arguments.quick else "all")
    arguments.peers = {"all": list(DEFAULT_PEERS), "none": []}.get(peers, peers.split(","))
    if unknown := set(arguments.peers) - {*PEERS, *ON_REDIS}:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join([*PEERS, *ON_REDIS])}")
    if arguments.into and not json_of(arguments).exists():
        parser.error(f"there is no report to put this into: {json_of(arguments)}")
    arguments.name = arguments.into or arguments.name or time.strftime("%Y-%m-%d-%H%M")
    return arguments


def measure(stand: Stand, arguments: argparse.Namespace) -> Report:
    """Run the chosen cases."""
    missing: dict[str, str] = {}
    peers: Mapping[str, Contender] = available(
        arguments.peers, missing.__setitem__, has_redis=redis_program() is not None
    )
    options = Options(scale=arguments.scale, rounds=arguments.rounds, peers=peers, quick=arguments.quick)
    report = Report(options, conditions(stand, options), missing=missing)
    for case in CASES:
        if case.name in arguments.cases:
            try:
                report.results[case.name] = run_case(stand, case, options, report)
            except KeyboardInterrupt:
                # An hour of measurements is worth keeping.
                report.interrupted_in = case.name
                break
            report.rows[case.name] = case.rows(report.results[case.name], options)
    return report.put_into(Report.read(json_of(arguments), options)) if arguments.into else report


def json_of(arguments: argparse.Namespace) -> Path:
    """Return the earlier report that this one is to be put into."""
    return arguments.output / f"{arguments.into}.json"


def run_case(stand: Stand, case: Case, options: Options, report: Report) -> Results:
    """Run each arm of a case once in each round, in turns, forward and back."""
    arms = case.arms(options)
    results = Results({arm.name: [] for arm in arms})
    for index in range(options.rounds):
        for arm in arms if index % 2 == 0 else reversed(arms):
            if arm.rounds is not None and index >= arm.rounds:
                continue
            stand.wait_for_quiet()
            what = f"{case.name}: {arm.name}"
            measurement: Measurement | None = None
            try:
                measurement = arm.run(stand)
            except Miscount as miscount:
                report.miscounts.append(f"{what}: {miscount}")
            except (RuntimeError, OSError, AssertionError, TimeoutError) as error:
                report.failures.append(f"{what}: {type(error).__name__}: {error}")
            results.runs[arm.name].append(measurement)
            problem = (report.miscounts + report.failures)[-1:]
            progress(f"{what}: {_summary(measurement) if measurement else f'FAILED: {problem[0]}'}")
    return results


def _summary(measurement: Measurement) -> str:
    return ", ".join(f"{name} {value:,.6g}" for name, value in measurement.numbers.items() if name != "jobs")


if __name__ == "__main__":
    sys.exit(main())
