"""Fixtures of the acceptance tests."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from acceptance_tools import Commands, InProcess, Running, Table, wait_until


@pytest.fixture
def make_commands(tmp_path: Path) -> Iterator[Callable[[str | None], Commands]]:
    made: list[Commands] = []

    def make(dsn: str | None) -> Commands:
        made.append(Commands(tmp_path, dsn))
        return made[-1]

    yield make
    for commands in made:
        commands.kill_all()


@pytest.fixture
def procrastinate_command(make_commands, database: str) -> Commands:
    """The command line, on `database`."""
    return make_commands(database)


@pytest.fixture
def jobs_table(connection: psycopg.Connection) -> Table:
    return Table(connection)


@pytest.fixture
def insert_job(jobs_table: Table) -> Callable[..., int]:
    """Insert a job with these columns, and return its id."""
    return jobs_table.insert


@pytest.fixture
def held(
    procrastinate_command: Commands, jobs_table: Table, tmp_path: Path
) -> Callable[..., tuple[Running, str, Path]]:
    """Start a worker on a job that runs until the file is there; return the worker, the job's id and the file."""

    def start(task: str, *options: str) -> tuple[Running, str, Path]:
        gate = tmp_path / "gate"
        job_id = procrastinate_command.run("defer", task, f"path={gate}").stdout
        worker = procrastinate_command.start("worker", *options)
        # Not only claimed: what has not begun is given back when the worker stops.
        wait_until(Path(f"{gate}.begun").exists, what="a job that runs")
        return worker, job_id, gate

    return start


@pytest.fixture
def offline(make_commands):
    """The command line, without a database and without an app."""
    commands = make_commands(None)
    del commands.environment["PROCRASTINATE_APP"]
    return commands


@pytest.fixture
def in_process(monkeypatch, tmp_path, request):
    """The command line without a process of its own, on `database` where the test asks for that."""
    for name in list(os.environ):
        if name.startswith("PROCRASTINATE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    handler = signal.getsignal(signal.SIGINT)
    yield InProcess(request.getfixturevalue("database") if "connection" in request.fixturenames else "")
    signal.signal(signal.SIGINT, handler)
    sys.modules.pop("recorder", None)
