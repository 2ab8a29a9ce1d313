"""Fixtures of the acceptance tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from acceptance_tools import Commands, Table


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
