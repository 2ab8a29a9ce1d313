"""Worker processes, and waiting for what they do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

import procrastinate

TESTS = Path(__file__).parent.parent
LAUNCH = """
import json, logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
from worker.sample_app import app
app.run_worker(**json.loads(sys.argv[1]))
"""


@contextlib.contextmanager
def worker_process(dsn: str, options: str = "{}") -> Iterator[subprocess.Popen[str]]:
    """Start a worker of the sample app in a process of its own; it is killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, options],
        env={
            **os.environ,
            "SAMPLE_DSN": dsn,
            "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextlib.asynccontextmanager
async def worker_of(app: procrastinate.App, **options: Any) -> AsyncIterator[asyncio.Task[None]]:
    """A worker that goes on until the end of the block, and then ends by itself."""
    task = asyncio.create_task(app.run_worker_async(install_signal_handlers=False, **options))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=20)
        assert task.done()


def eventually(check: Callable[[], Any], seconds: float = 20) -> Any:
    """Return the first true answer of `check`; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (answer := check()):
        assert time.monotonic() < deadline, f"did not happen within {seconds} s: {check}"
        time.sleep(0.02)
    return answer


def row(connection: psycopg.Connection[Any], query: str, *values: Any) -> tuple[Any, ...]:
    """Return the one row of a query."""
    found = connection.execute(query, values).fetchone()  # type: ignore[call-overload]
    assert found is not None
    return found


def statuses(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """Count the jobs by status."""
    query = "select status::text, count(*) from procrastinate_jobs group by status"
    return dict(connection.execute(query).fetchall())


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now
