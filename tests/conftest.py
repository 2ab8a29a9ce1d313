"""The PostgreSQL that the tests run on, and a fresh database for each test that asks for one.

They are those of the plugin that users have, under shorter names. Without PG* variables the server is an embedded one,
of the major version that PROCRASTINATE_TEST_PG names.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psycopg
import pytest

from procrastinate.embedded import PostgresServer
from procrastinate.fresh_databases import NamedServer

# A shell starts what it runs in the background with SIGINT ignored, and so would be the workers that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres_version() -> int:
    """The major version of the embedded server."""
    return int(os.environ.get("PROCRASTINATE_TEST_PG", "18"))


@pytest.fixture(scope="session")
def procrastinate_postgres_version(postgres_version: int) -> int:
    return postgres_version


@pytest.fixture(scope="session")
def postgres_server(procrastinate_postgres_server: PostgresServer | NamedServer) -> PostgresServer | NamedServer:
    """A running server; its `conninfo` may create databases."""
    return procrastinate_postgres_server


@pytest.fixture(scope="session")
def template_database(procrastinate_postgres_template: str) -> str:
    """The name of a database with the schema, to be cloned; nobody may stay connected to it."""
    return procrastinate_postgres_template


@pytest.fixture
def database(procrastinate_postgres: str) -> str:
    """The conninfo of a fresh database with the schema, dropped after the test whoever is connected."""
    return procrastinate_postgres


@pytest.fixture
def empty_database(procrastinate_postgres_empty: str) -> str:
    """The conninfo of a fresh database without the schema, dropped after the test whoever is connected."""
    return procrastinate_postgres_empty


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    """A connection to `database` that commits each statement by itself."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection
