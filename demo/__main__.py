"""Run the demo: every file of Python's standard library is a job, and one of the two workers is killed halfway.

Ends with 0 only if every file was analysed and no job was lost, whatever was done to the workers.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import tokenize
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import attrs
import psycopg
import psycopg.rows

from demo import display as displays
from demo.settings import DATABASE_VARIABLE, FAIL_EVERY
from procrastinate.embedded import PostgresServer
from procrastinate.exceptions import EmbeddedPostgresError

ROOT = Path(__file__).parent.parent
WORKERS = ("anna", "bert")
VICTIM = "anna"
# All together stay under a minute, however it goes.
WORK_PATIENCE = 45.0
STOP_PATIENCE = 8.0
POLL_INTERVAL = 0.1
FOREIGN_FOLDERS = frozenset({"site-packages", "dist-packages"})

PROGRESS = """
select
  count(*) filter (where status = 'succeeded') as done,
  count(*) filter (where status = 'doing') as running,
  count(*) filter (where status in ('todo', 'doing')) as open,
  count(*) filter (where attempts > (status not in ('todo', 'doing'))::integer) as retried,
  count(*) filter (where rescues > 0) as rescued,
  (select format('%s files, %s lines', files, to_char(lines, 'FM999,999,999'))
     from demo_totals order by tick desc limit 1) as total
from procrastinate_jobs
where queue_name = 'files'
"""

SUMMARY = """
select
  count(*) as jobs,
  count(*) filter (where status = 'succeeded') as done,
  count(*) filter (where status = 'todo') as waiting,
  count(*) filter (where status = 'doing') as running,
  count(*) filter (where status not in ('todo', 'doing', 'succeeded')) as failed,
  min(attempts_log ->> -1) filter (where status not in ('todo', 'doing', 'succeeded')) as failure,
  count(*) filter (where attempts > 1) as retried,
  count(*) filter (where rescues > 0) as rescued,
  extract(epoch from max(finalized_at) - min(attempted_at))::float8 as seconds,
  percentile_cont(0.5) within group (order by extract(epoch from attempted_at - created_at))
    filter (where attempts = 1)::float8 as wait_in_line
from procrastinate_jobs
where queue_name = 'files'
"""

LATENCY = """
select
  count(*) as jobs,
  percentile_cont(0.5) within group (
    order by extract(epoch from attempted_at - coalesce(scheduled_at, created_at)) * 1000
  )::float8 as milliseconds
from procrastinate_jobs
where queue_name = 'totals' and attempted_at is not null
"""


class DemoFailed(Exception):  # noqa: N818  it ends the program, nobody catches it by type but main
    """The demo did not show what it should; the message says what is missing."""


@attrs.frozen
class Source:
    """A file to analyse."""

    path: str
    sha256: str


@attrs.define
class Worker:
    """A worker process and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def tail(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


def standard_library() -> list[Source]:
    """Return the Python files of the standard library whose text can be decoded."""
    root = Path(sysconfig.get_path("stdlib"))
    sources: list[Source] = []
    for path in sorted(root.rglob("*.py")):
        if not path.is_file() or FOREIGN_FOLDERS.intersection(path.relative_to(root).parts):
            continue
        # Some of Python's own tests are files in a broken encoding.
        with contextlib.suppress(SyntaxError, UnicodeDecodeError, PermissionError):
            with tokenize.open(path) as file:
                file.read()
            sources.append(Source(str(path), hashlib.sha256(path.read_bytes()).hexdigest()))
    return sources


def main() -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--patience", type=float, default=WORK_PATIENCE, help="seconds for the jobs, on a busy machine (%(default)g)"
    )
    patience = parser.parse_args().patience
    signal.signal(signal.SIGTERM, _interrupt)
    display = displays.create()
    try:
        # A failure ends the work, and is explained when all is cleaned up and the screen is quiet.
        with display:
            run(display, patience)
    except KeyboardInterrupt:
        print("Interrupted; everything was cleaned up.", file=sys.stderr)
        return 130
    except (DemoFailed, EmbeddedPostgresError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def run(display: displays.Display, patience: float) -> None:
    """Do everything, in this order."""
    display.note("Starting a private PostgreSQL in a temporary folder")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(PostgresServer())
        display.note(f"PostgreSQL {server.version} runs, with its default settings: every commit reaches the disk")
        sources = standard_library()
        deferred = defer_jobs(server.conninfo, sources)
        display.note(f"Deferred {deferred} jobs, one for each Python file in {sysconfig.get_path('stdlib')}")
        connection = stack.enter_context(
            psycopg.connect(server.conninfo, autocommit=True, row_factory=psycopg.rows.dict_row)
        )
        workers = stack.enter_context(started_workers(server.conninfo))
        display.note("Started two worker processes: " + ", ".join(f"{w.name} ({w.process.pid})" for w in workers))
        held = work_and_kill(connection, workers, len(sources), display, patience)
        stop(workers)
        report(connection, sources, held, display)


def defer_jobs(conninfo: str, sources: list[Source]) -> int:
    """Create the tables and defer a job for each file; return how many."""
    os.environ[DATABASE_VARIABLE] = conninfo
    from demo import app as application  # noqa: PLC0415  it reads where its database is when it is imported

    with application.app.open() as app:
        app.schema_manager.apply_schema()
        with psycopg.connect(conninfo) as connection:
            connection.execute(application.TABLES)
        jobs = [{"path": source.path, "number": number} for number, source in enumerate(sources, 1)]
        return len(application.analyse_file.batch_defer(*jobs))


@contextlib.contextmanager
def started_workers(conninfo: str) -> Iterator[list[Worker]]:
    """Start the workers as anybody would, with the command; end them with the block, however it ends."""
    workers: list[Worker] = []
    with tempfile.TemporaryDirectory(prefix="procrastinate-demo-") as folder:
        try:
            for name in WORKERS:
                log = Path(folder, f"{name}.log")
                with log.open("wb") as output:
                    process = subprocess.Popen(
                        [sys.executable, "-m", "procrastinate", "--app", "demo.app.app", "worker", "--name", name],
                        cwd=ROOT,
                        env={**os.environ, DATABASE_VARIABLE: conninfo},
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        # Ctrl-C is for this process alone, which then ends the workers in order.
                        start_new_session=True,
                    )
                workers.append(Worker(name, process, log))
            yield workers
        finally:
            # A second Ctrl-C must not leave half of it behind.
            ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)
            for worker in workers:
                if worker.process.poll() is None:
                    worker.process.kill()
                    worker.process.wait()
            signal.signal(signal.SIGINT, ignored)


def work_and_kill(
    connection: psycopg.Connection[dict[str, Any]],
    workers: list[Worker],
    files: int,
    display: displays.Display,
    patience: float,
) -> int:
    """Watch until no job is left, and kill a worker halfway; return how many jobs it held."""
    deadline = time.monotonic() + patience
    held = 0
    while time.monotonic() < deadline:
        found = one(connection, PROGRESS)
        alive = [worker for worker in workers if worker.process.poll() is None]
        display.progress(
            displays.Progress(
                files=files,
                done=found["done"],
                running=found["running"],
                retried=found["retried"],
                rescued=found["rescued"],
                workers=len(alive),
                total=found["total"] or "none yet",
            )
        )
        check_alive(workers, expected=[worker for worker in workers if not (held and worker.name == VICTIM)])
        if not found["open"]:
            return held
        if not held and found["done"] >= files // 2:
            held = kill(connection, next(worker for worker in workers if worker.name == VICTIM))
            if held:
                display.note(f"Killed worker {VICTIM} with SIGKILL while it held {held} jobs")
        time.sleep(POLL_INTERVAL)
    raise DemoFailed(
        f"the jobs were not done within {patience:g} seconds: {found['open']} of {files} are waiting or running"
        + "".join(f"\n--- the end of {worker.name}'s log:\n{worker.tail()}" for worker in workers)
    )


def check_alive(workers: list[Worker], expected: list[Worker]) -> None:
    for worker in workers:
        if worker in expected and worker.process.poll() is not None:
            raise DemoFailed(
                f"worker {worker.name} ended by itself with code {worker.process.returncode}; the end of its log:\n"
                + worker.tail()
            )


def kill(connection: psycopg.Connection[dict[str, Any]], victim: Worker) -> int:
    """Kill a worker if it holds jobs right now; return how many it held.

    It is paused first: between a look at what it holds and the kill, it could finish all of that.
    """
    victim.process.send_signal(signal.SIGSTOP)
    # A statement that it sent before may be on its way still.
    time.sleep(0.1)
    held = one(
        connection,
        "select count(*) as held from procrastinate_jobs j join procrastinate_workers w on w.id = j.worker_id "
        "where j.status = 'doing' and j.queue_name = 'files' and w.name = %s",
        victim.name,
    )["held"]
    victim.process.send_signal(signal.SIGKILL if held else signal.SIGCONT)
    if held:
        victim.process.wait()
    return held


def stop(workers: list[Worker]) -> None:
    """Ask the workers that are left to stop, and see that they do."""
    left = [worker for worker in workers if worker.process.poll() is None]
    for worker in left:
        worker.process.terminate()
    for worker in left:
        try:
            code = worker.process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            raise DemoFailed(
                f"worker {worker.name} did not stop within {STOP_PATIENCE:g} seconds:\n{worker.tail()}"
            ) from None
        if code != 0:
            raise DemoFailed(f"worker {worker.name} stopped with code {code}:\n{worker.tail()}")


def report(
    connection: psycopg.Connection[dict[str, Any]], sources: list[Source], held: int, display: displays.Display
) -> None:
    """Show the table, and check all that it promises."""
    jobs = one(connection, SUMMARY)
    latency = one(connection, LATENCY)
    analysed = {
        row["path"]: row for row in connection.execute("select path, lines, functions, sha256, runs from demo_files")
    }
    ticks = one(connection, "select count(*) as ticks, coalesce(max(runs), 0) as runs from demo_totals")
    missing = [source.path for source in sources if source.path not in analysed]
    wrong = [s.path for s in sources if s.path in analysed and analysed[s.path]["sha256"] != s.sha256]
    to_retry = len(sources) // FAIL_EVERY
    display.table(
        "What happened",
        [
            ("files of the standard library", f"{len(sources):,}", ""),
            ("jobs done", f"{jobs['done']:,}", "one for each file"),
            ("retried", f"{jobs['retried']:,}", f"every {FAIL_EVERY}th job fails on purpose, once"),
            ("rescued", f"{jobs['rescued']:,}", f"of {held} that worker {VICTIM} held when it was killed"),
            (
                "jobs per second",
                f"{jobs['done'] / (jobs['seconds'] or 1):,.0f}",
                f"in {jobs['seconds'] or 0:.1f} s, by 2 workers, then 1",
            ),
            (
                "p50 latency, from due to started",
                f"{latency['milliseconds'] or 0:,.0f} ms",
                f"of {latency['jobs']} periodic jobs, ahead of the line",
            ),
            (
                "p50 time in line, from deferred to started",
                f"{jobs['wait_in_line'] or 0:,.1f} s",
                "all files were deferred at once",
            ),
            ("running totals shown", f"{ticks['ticks']:,}", "by the periodic task"),
            ("lines", f"{sum(row['lines'] for row in analysed.values()):,}", ""),
            ("functions", f"{sum(row['functions'] or 0 for row in analysed.values()):,}", ""),
            (
                "files analysed at least once",
                f"{len(sources) - len(missing):,}",
                "each with the right hash" if not wrong else f"{len(wrong)} wrong",
            ),
            (
                "files analysed twice",
                f"{sum(row['runs'] > 1 for row in analysed.values()):,}",
                "where the killed worker had got as far as that",
            ),
            ("files lost", f"{len(missing):,}", ""),
            ("jobs left waiting or running", f"{jobs['waiting'] + jobs['running']:,}", ""),
            ("jobs failed", f"{jobs['failed']:,}", ""),
        ],
    )
    problems = [
        (not sources, "no source file was found"),
        (missing, f"{len(missing)} files were never analysed, such as {missing[:3]}"),
        (wrong, f"{len(wrong)} files were analysed wrongly, such as {wrong[:3]}"),
        (jobs["jobs"] != len(sources), f"there are {jobs['jobs']} jobs for {len(sources)} files"),
        (jobs["waiting"] or jobs["running"], f"{jobs['waiting']} jobs wait and {jobs['running']} run still"),
        (jobs["failed"], f"{jobs['failed']} jobs failed, the first with: {jobs['failure']}"),
        (jobs["retried"] != to_retry, f"{jobs['retried']} jobs were retried instead of {to_retry}"),
        (not held, f"worker {VICTIM} was not killed: it never held a job after half of the work"),
        (held and not jobs["rescued"], f"none of the {held} jobs was rescued"),
        (not ticks["ticks"], "the periodic task never ran"),
    ]
    found = [text for is_problem, text in problems if is_problem]
    if found:
        raise DemoFailed("\n".join(["", *(f"- {text}" for text in found)]))
    display.note(f"Every one of {len(sources):,} files was analysed at least once, and no job was lost.")


def one(connection: psycopg.Connection[dict[str, Any]], query: str, *arguments: Any) -> dict[str, Any]:
    """Return the one row of a query."""
    row = connection.execute(query, arguments or None).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return row


if __name__ == "__main__":
    sys.exit(main())
