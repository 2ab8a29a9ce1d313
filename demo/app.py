"""The application: analyse source files, one job each, and keep what was found in tables of its own.

Nothing in here knows that it is watched, or that a worker will be killed.
"""

from __future__ import annotations

import ast
import atexit
import collections
import functools
import hashlib
import logging
import os
import threading
import warnings
from pathlib import Path

import psycopg_pool

import procrastinate
from demo.settings import DATABASE_VARIABLE, FAIL_EVERY

logger = logging.getLogger(__name__)

CONCURRENCY = 3
# The default is half a minute; a demo should not make anybody wait that long for the rescue.
STALLED_WORKER_TIMEOUT = 4.0
HEARTBEAT_INTERVAL = 0.5

TABLES = """
create table demo_files (
  path text primary key,
  lines integer not null,
  functions integer,  -- null: the file is meant not to parse
  branches integer,
  sha256 text not null,
  runs integer not null default 1
);
create table demo_totals (
  tick bigint primary key,
  files bigint not null,
  lines bigint not null,
  runs integer not null default 1
);
"""

# What the analysed files do is not this program's affair.
warnings.filterwarnings("ignore", category=SyntaxWarning)

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=os.environ.get(DATABASE_VARIABLE, "")),
    worker_defaults={
        "concurrency": CONCURRENCY,
        "update_heartbeat_interval": HEARTBEAT_INTERVAL,
        "stalled_worker_timeout": STALLED_WORKER_TIMEOUT,
    },
)


class FailedOnPurpose(Exception):  # noqa: N818  it is no error
    """What some jobs raise in their first attempt."""


@app.task(
    queue="files",
    pass_context=True,
    retry=procrastinate.RetryStrategy(max_attempts=3, wait=1, retry_exceptions=[FailedOnPurpose]),
)
def analyse_file(context: procrastinate.JobContext, *, path: str, number: int) -> None:
    """Analyse one file and store the result. Every so many files, the first attempt fails."""
    if number % FAIL_EVERY == 0 and context.job.attempts == 0:
        raise FailedOnPurpose(f"File {number} fails in its first attempt")
    found = analyse(Path(path).read_bytes())
    with pool().connection() as connection:
        # Jobs run at least once: storing the result a second time must be harmless.
        connection.execute(
            """
            insert into demo_files (path, lines, functions, branches, sha256)
            values (%(path)s, %(lines)s, %(functions)s, %(branches)s, %(sha256)s)
            on conflict (path) do update set runs = demo_files.runs + 1
            """,
            {"path": path, **found},
        )


@app.periodic(cron="* * * * * */2")
@app.task(queue="totals", priority=1)
def show_total(*, timestamp: int) -> None:
    """Add up what was found so far, every two seconds."""
    with pool().connection() as connection:
        total = connection.execute(
            """
            insert into demo_totals (tick, files, lines)
            select %s, count(*), coalesce(sum(lines), 0) from demo_files
            on conflict (tick) do update set runs = demo_totals.runs + 1
            returning files, lines
            """,
            (timestamp,),
        ).fetchone()
    logger.info("Running total: %s files, %s lines", *(total or ()))


# Python 3.11 counts the parser's recursion for all threads together: two that parse at once make it fail now and then.
parser = threading.Lock()


def parse(source: bytes) -> ast.Module:
    """Parse a Python file. Raises SyntaxError or ValueError."""
    with parser:
        while True:
            try:
                return ast.parse(source)
            except SystemError:
                # The worker wrote a traceback meanwhile, for which Python parses lines, and asks nobody's lock.
                continue


def analyse(source: bytes) -> dict[str, int | str | None]:
    """Count a Python file's lines, functions and branches, and compute its hash."""
    lines = len(source.splitlines())
    functions = branches = None
    try:
        tree = parse(source)
    except (SyntaxError, ValueError):
        pass
    else:
        kinds = collections.Counter(map(type, ast.walk(tree)))
        functions = sum(kinds[kind] for kind in (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        branches = sum(kinds[kind] for kind in (ast.If, ast.For, ast.While, ast.Try, ast.BoolOp, ast.IfExp))
    return {"lines": lines, "functions": functions, "branches": branches, "sha256": hashlib.sha256(source).hexdigest()}


@functools.cache
def pool() -> psycopg_pool.ConnectionPool:
    """Return the application's own connections, opened when a task first asks for them."""
    opened = psycopg_pool.ConnectionPool(os.environ[DATABASE_VARIABLE], min_size=1, max_size=CONCURRENCY, open=True)
    atexit.register(opened.close)
    return opened
