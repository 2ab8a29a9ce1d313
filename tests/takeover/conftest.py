"""Databases as the other implementation leaves them, made up from what can be seen of one."""

from __future__ import annotations

import psycopg
import pytest

from takeover import support


@pytest.fixture
def old_database(empty_database):
    """The conninfo of a fresh database with the tables of the other implementation, and no job."""
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute((support.HERE / "old_schema.sql").read_bytes())
    return empty_database


@pytest.fixture
def old(old_database):
    """A connection to `old_database` that commits each statement by itself."""
    with psycopg.connect(old_database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def manager(old_database):
    """A schema manager on `old_database`."""
    with support.opened(old_database) as manager:
        yield manager
