"""Starts an example's commands, the way one would in a terminal each, on a database; Ctrl+C ends them all.

The database is the one that DATABASE_URL names, or a private PostgreSQL that is gone at the end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from procrastinate.embedded import FAST_SETTINGS, PostgresServer

ROOT = Path(__file__).parent.parent
# Seconds for a process to end by itself once it was asked to.
PATIENCE = 15
POLL_INTERVAL = 0.1


def launch(tables: Sequence[str], *services: Sequence[str]) -> int:
    """Run the command that makes the tables, then the services until one ends; return its exit code.

    Commands are what follows `python -m`. Returns 0 after Ctrl+C or SIGTERM.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with database() as url:
            environment = {**os.environ, "DATABASE_URL": url}
            done = subprocess.run(command(tables), cwd=ROOT, env=environment, check=False)
            return done.returncode or serve(services, environment)
    except KeyboardInterrupt:
        return 0


@contextlib.contextmanager
def database() -> Generator[str]:
    """Give the URL of a running database."""
    if url := os.environ.get("DATABASE_URL"):
        yield url
        return
    with PostgresServer(settings=FAST_SETTINGS) as server:
        yield server.conninfo


def command(words: Sequence[str]) -> list[str]:
    """Complete a command."""
    return [sys.executable, "-m", *words]


def serve(services: Sequence[Sequence[str]], environment: dict[str, str]) -> int:
    """Run services until one ends, then end the others."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        processes += (subprocess.Popen(command(words), cwd=ROOT, env=environment) for words in services)
        while processes and all(process.poll() is None for process in processes):
            time.sleep(POLL_INTERVAL)
        return max((process.returncode or 0 for process in processes), default=0)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
