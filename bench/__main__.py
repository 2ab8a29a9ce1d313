"""Measure how fast one worker process drains a queue of jobs that do nothing.

The ceiling is what the database itself does: claiming and finishing the same jobs, 500 at a time, from one connection,
with nothing around it. Once with the worker's own statements, once with the shortest ones that could do the job.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import pstats
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import psycopg

from bench.settings import DATABASE_VARIABLE
from procrastinate.embedded import PostgresServer
from procrastinate.exceptions import EmbeddedPostgresError
from procrastinate.schema import SchemaManager
from procrastinate.store import jobs as job_operations
from procrastinate.store import postgres

ROOT = Path(__file__).parent.parent
BATCH = 500
CONCURRENCIES = (1, 10, 100)
WORKER_PATIENCE = 120.0
SHOWN_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size")
# The worker's aim: half of what its own statements reach without a worker around them.
AIM = 0.5

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

BARE_CLAIM = """
update procrastinate_jobs
set status = 'doing', attempted_at = now()
where id in (
  select id from procrastinate_jobs
  where status = 'todo' and waits_for is null
  order by priority desc, id
  limit %(limit)s
  for update skip locked
)
returning id, task_name, args::text
"""
BARE_FINISH = {
    "kept": "update procrastinate_jobs set status = 'succeeded', finalized_at = now() where id = any (%(ids)s)",
    "deleted": "delete from procrastinate_jobs where id = any (%(ids)s)",
}


@attrs.frozen
class Measurement:
    """How long a number of jobs took, and what else is known of it."""

    seconds: float
    details: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class Case:
    """One thing to measure."""

    name: str
    kind: str
    outcome: str
    run: Callable[[str], Measurement]


def main() -> int:
    """Measure, and print the table."""
    arguments = parse()
    try:
        with PostgresServer() as server:
            prepare(server.conninfo)
            print_conditions(server.conninfo, arguments)
            if arguments.profile:
                profile(server.conninfo, arguments)
            else:
                measure(server.conninfo, arguments)
    except EmbeddedPostgresError as error:
        print(f"The benchmark cannot start: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs for each measurement (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a single round of 5,000 jobs")
    parser.add_argument("--profile", metavar="FILE", help="profile one worker instead, into FILE and as a list")
    parser.add_argument(
        "--concurrency", type=int, default=100, help="of the worker that --profile looks at (default: %(default)s)"
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.jobs, arguments.rounds = 5_000, 1
    if arguments.jobs < 1 or arguments.rounds < 1:
        parser.error("--jobs and --rounds must be at least 1")
    return arguments


def prepare(conninfo: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(SchemaManager.get_schema())  # type: ignore[arg-type]


def print_conditions(conninfo: str, arguments: argparse.Namespace) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        version = fetch_value(connection, "show server_version")
        settings = [f"{name} {fetch_value(connection, f'show {name}')}" for name in SHOWN_SETTINGS]
    print(
        f"PostgreSQL {version} on the same machine, by a Unix socket: {', '.join(settings)}\n"
        f"{platform.python_implementation()} {platform.python_version()}, psycopg {psycopg.__version__} "
        f"({psycopg.pq.__impl__}), {os.cpu_count()} cores, {platform.system()} {platform.machine()}\n"
        f"{arguments.jobs:,} jobs that do nothing, {arguments.rounds} interleaved round(s), medians; "
        "from the first claim to the last end recorded\n",
        flush=True,
    )


def fetch_value(connection: Connection, query: str) -> Any:
    row = connection.execute(query).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return row[0]


def fill(connection: Connection, jobs: int) -> None:
    """Start over with an empty table, then insert jobs; what that left for the server to do is done before we go on."""
    connection.execute("truncate procrastinate_jobs, procrastinate_workers")
    connection.execute(
        "insert into procrastinate_jobs (queue_name, task_name, args) "
        "select 'default', 'noop', jsonb_build_object('number', n) from generate_series(1, %s::integer) as n",
        (jobs,),
    )
    connection.execute("vacuum analyze procrastinate_jobs")
    connection.execute("checkpoint")


def cases(profile_file: str | None = None) -> list[Case]:
    found = [
        Case(f"{title} {BATCH}, {outcome}", kind, outcome, run)
        for outcome in BARE_FINISH
        for title, kind, run in (
            ("bare statements, batches of", "bare", lambda conninfo, outcome=outcome: run_bare(conninfo, outcome)),
            ("our statements, batches of", "ours", lambda conninfo, outcome=outcome: run_ours(conninfo, outcome)),
        )
    ]
    for outcome in BARE_FINISH:
        for concurrency in CONCURRENCIES:
            found.append(  # noqa: PERF401  a comprehension of that size is no easier to read
                Case(
                    f"one worker, concurrency {concurrency}, {outcome}",
                    "worker",
                    outcome,
                    lambda conninfo, c=concurrency, o=outcome: run_worker(conninfo, c, o, profile_file),
                )
            )
    return found


def measure(conninfo: str, arguments: argparse.Namespace) -> None:
    """Measure every case once in each round, so that a slow moment of the machine meets them all, and print a table."""
    found = cases()
    results: dict[str, list[Measurement]] = {case.name: [] for case in found}
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for number in range(arguments.rounds):
            for case in found if number % 2 == 0 else reversed(found):
                fill(connection, arguments.jobs)
                results[case.name].append(case.run(conninfo))
                check(connection, case, arguments.jobs)
    rates = {name: [arguments.jobs / result.seconds for result in measured] for name, measured in results.items()}
    print_table(found, rates)
    print_verdict(found, rates)


def check(connection: Connection, case: Case, jobs: int) -> None:
    """See that all jobs were really done: a number for half of the work is worth nothing."""
    left = fetch_value(connection, "select count(*) from procrastinate_jobs where status <> 'succeeded'")
    done = fetch_value(connection, "select count(*) from procrastinate_jobs where status = 'succeeded'")
    if left or done != (jobs if case.outcome == "kept" else 0):
        raise SystemExit(f"{case.name}: {left} jobs are not done and {done} are, of {jobs}")


def print_table(found: Sequence[Case], rates: dict[str, list[float]]) -> None:
    print(f"{'':44} {'jobs/s':>9} {'lowest':>9} {'highest':>9} {'to ours':>9} {'to bare':>9}")
    for case in found:
        rate = statistics.median(rates[case.name])
        ratios = [ratio_to(case, kind, found, rates) for kind in ("ours", "bare")]
        print(
            f"{case.name:44} {rate:9,.0f} {min(rates[case.name]):9,.0f} {max(rates[case.name]):9,.0f} "
            + " ".join(f"{ratio:9.2f}" for ratio in ratios)
        )


def ratio_to(case: Case, kind: str, found: Sequence[Case], rates: dict[str, list[float]]) -> float:
    """Return the median of the case's ratios to a ceiling, each taken within one round."""
    ceiling = next(other for other in found if other.kind == kind and other.outcome == case.outcome)
    return statistics.median(rate / top for rate, top in zip(rates[case.name], rates[ceiling.name], strict=True))


def print_verdict(found: Sequence[Case], rates: dict[str, list[float]]) -> None:
    print()
    for outcome in BARE_FINISH:
        workers = [case for case in found if case.kind == "worker" and case.outcome == outcome]
        best = max(workers, key=lambda case: statistics.median(rates[case.name]))
        ratio = ratio_to(best, "ours", found, rates)
        bare = ratio_to(best, "bare", found, rates)
        verdict = "reaches" if ratio >= AIM else "misses"
        print(
            f"Best: {best.name}: {ratio:.2f} of the ceiling of our statements ({bare:.2f} of the bare ones); "
            f"{verdict} the aim of {AIM:g}."
        )


def run_bare(conninfo: str, outcome: str) -> Measurement:
    """Claim and finish with the shortest statements that could do it."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        start = time.perf_counter()
        while rows := connection.execute(BARE_CLAIM, {"limit": BATCH}).fetchall():
            connection.execute(BARE_FINISH[outcome], {"ids": [row[0] for row in rows]})
        return Measurement(time.perf_counter() - start)


def run_ours(conninfo: str, outcome: str) -> Measurement:
    """Claim and finish with the statements of the worker, parameters and answers as they are sent."""
    claim = read_statement(job_operations.FetchJobs)
    finish = read_statement(job_operations.FinishJobs if outcome == "kept" else job_operations.DeleteJobs)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        worker_id = fetch_value(connection, "insert into procrastinate_workers default values returning id")
        start = time.perf_counter()
        fetch: dict[str, Any] = {"queues": None, "worker_id": worker_id, "limit": BATCH}
        while rows := connection.execute(claim, fetch).fetchall():
            ended: dict[str, Any] = {
                "worker_id": worker_id,
                "ids": [row[0] for row in rows],
                "tokens": [row[12] for row in rows],
                "statuses": ["succeeded"] * len(rows),
                "reports": [None] * len(rows),
            }
            connection.execute(finish, ended).fetchall()
        return Measurement(time.perf_counter() - start)


def read_statement(operation: type[Any]) -> Any:
    return postgres.statement(operation.__new__(operation))


def run_worker(conninfo: str, concurrency: int, outcome: str, profile_file: str | None) -> Measurement:
    """Drain the queue with a worker in a process of its own."""
    command = [sys.executable, "-m", "bench.worker", "--concurrency", str(concurrency)]
    command += ["--delete-jobs", "never" if outcome == "kept" else "always"]
    command += ["--profile", profile_file] if profile_file else []
    result = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, DATABASE_VARIABLE: conninfo},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=WORKER_PATIENCE,
    )
    if result.returncode != 0:
        raise SystemExit(f"The worker failed with code {result.returncode}; its messages are above.")
    details = json.loads(result.stdout)
    return Measurement(details["seconds"], details)


def profile(conninfo: str, arguments: argparse.Namespace) -> None:
    """Show where the time of a worker goes: without a profile first, which slows everything down, then with one."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for file in (None, arguments.profile):
            fill(connection, arguments.jobs)
            measured = run_worker(conninfo, arguments.concurrency, "kept", file)
            print(
                f"{'with' if file else 'without'} the profile: {arguments.jobs / measured.seconds:,.0f} jobs/s, "
                f"{measured.seconds:.2f} s; processor time with start and end {measured.details['cpu_seconds']:.2f} s"
            )
            for name, calls in sorted(measured.details["calls"].items(), key=lambda item: -item[1]["seconds"]):
                print(
                    f"  {name:24} {calls['count']:6,} calls {calls['seconds']:8.3f} s {calls['items']:8,} jobs, "
                    f"{calls['items'] / calls['count']:6.0f} a call"
                )
    for order in ("tottime", "cumulative"):
        pstats.Stats(arguments.profile).sort_stats(order).print_stats(30)


if __name__ == "__main__":
    sys.exit(main())
