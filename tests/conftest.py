"""The PostgreSQL that the tests run on, and a fresh database for each test that asks for one.

Without PG* variables it is an embedded server, one for each process of pytest-xdist, of the major version that
PROCRASTINATE_TEST_PG names. With them it is the server that they name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from procrastinate.embedded import FAST_SETTINGS, PostgresServer

_NAMING_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGSERVICE", "PGUSER")


@dataclasses.dataclass(frozen=True)
class NamedServer:
    """The server that the PG* variables name: libpq reads them itself."""

    conninfo: str = ""


@pytest.fixture(scope="session")
def postgres_version() -> int:
    """The major version of the embedded server."""
    return int(os.environ.get("PROCRASTINATE_TEST_PG", "18"))


@pytest.fixture(scope="session")
def postgres_server(postgres_version: int) -> Iterator[PostgresServer | NamedServer]:
    """A running server; its `conninfo` may create databases."""
    if any(name in os.environ for name in _NAMING_VARIABLES):
        yield NamedServer()
        return
    # In memory, WAL must not pile up.
    settings = {**FAST_SETTINGS, "max_wal_size": "512MB"}
    with PostgresServer(version=postgres_version, settings=settings, temporary_root=_roomy_memory()) as server:
        yield server


@pytest.fixture(scope="session")
def template_database(postgres_server: PostgresServer | NamedServer) -> Iterator[str]:
    """The name of a database with the schema, to be cloned; nobody may stay connected to it."""
    with _new_database(postgres_server, template="template0") as name:
        # Not imported above: most of what this file is for works without the schema.
        schema = importlib.import_module("procrastinate.schema").SchemaManager.get_schema()
        with _connect(postgres_server, name) as connection:
            connection.execute(schema)
        yield name


@pytest.fixture
def database(postgres_server: PostgresServer | NamedServer, template_database: str) -> Iterator[str]:
    """The conninfo of a fresh database with the schema, dropped after the test whoever is connected."""
    with _new_database(postgres_server, template_database) as name:
        yield make_conninfo(postgres_server.conninfo, dbname=name)


@pytest.fixture
def empty_database(postgres_server: PostgresServer | NamedServer) -> Iterator[str]:
    """The conninfo of a fresh database without the schema, dropped after the test whoever is connected."""
    with _new_database(postgres_server, template="template0") as name:
        yield make_conninfo(postgres_server.conninfo, dbname=name)


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    """A connection to `database` that commits each statement by itself."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def _roomy_memory() -> Path | None:
    """A folder in memory: on some disks, creating a database's 300 files takes most of a test's time."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK | os.X_OK) and shutil.disk_usage(memory).free >= 2 * 2**30:
        return memory
    return None


@contextlib.contextmanager
def _new_database(server: PostgresServer | NamedServer, template: str) -> Iterator[str]:
    name = f"procrastinate_test_{secrets.token_hex(8)}"
    # Measured with fsync off: 8 ms, against 11 ms if the copy goes through the WAL.
    create = sql.SQL("create database {} template {} strategy file_copy")
    with _connect(server) as administration:
        administration.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield name
    finally:
        with _connect(server) as administration:
            administration.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def _connect(server: PostgresServer | NamedServer, database: str | None = None) -> psycopg.Connection:
    changes = {} if database is None else {"dbname": database}
    return psycopg.connect(server.conninfo, autocommit=True, **changes)
