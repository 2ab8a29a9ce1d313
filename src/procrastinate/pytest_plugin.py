"""Fixtures for the tests of apps, loaded by pytest itself.

Everything that is heavier than this page is imported by the fixture that needs it: whoever does not use them pays
nothing.

===================================== ================================================================================
procrastinate_app                     the app, on an empty in-memory connector until the test ends
procrastinate_connector               that connector
procrastinate_user_app                the app as it is; overridden where the ini option `procrastinate_app` will not do
procrastinate_postgres                the conninfo of a fresh database with the schema
procrastinate_postgres_empty          the conninfo of a fresh database without it
procrastinate_postgres_server         the server on which these are made, one for each process of pytest-xdist
procrastinate_postgres_template       the name of the database of which each test gets a copy
procrastinate_postgres_version        the major version of that server where it is an embedded one
===================================== ================================================================================
"""

# ruff: noqa: PLC0415  imports outside the top level: see above

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from procrastinate.app import App
    from procrastinate.embedded import PostgresServer
    from procrastinate.fresh_databases import NamedServer
    from procrastinate.testing import InMemoryConnector

__all__ = [
    "procrastinate_app",
    "procrastinate_connector",
    "procrastinate_postgres",
    "procrastinate_postgres_empty",
    "procrastinate_postgres_server",
    "procrastinate_postgres_template",
    "procrastinate_postgres_version",
    "procrastinate_user_app",
    "pytest_addoption",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini options."""
    parser.addini("procrastinate_app", "The app that is tested: module.attribute", default="")
    parser.addini(
        "procrastinate_postgres",
        "The PostgreSQL server for tests, as conninfo or URL (default: the PG* variables, or an embedded server)",
        default="",
    )
    parser.addini(
        "procrastinate_postgres_version",
        "The major version of the embedded PostgreSQL server (default: the newest there is)",
        default="",
    )


@pytest.fixture
def procrastinate_user_app(pytestconfig: pytest.Config) -> App:
    """The app that is tested, as the program made it: override this fixture where the ini option will not do."""
    from procrastinate.app import App

    path: str = pytestconfig.getini("procrastinate_app")
    if not path:
        pytest.fail(
            "Which app is tested? Name it in pytest's configuration, procrastinate_app = path.to.module.app, or write "
            "a fixture procrastinate_user_app that returns it",
            pytrace=False,
        )
    return App.from_path(path)


@pytest.fixture
def procrastinate_connector(procrastinate_user_app: App) -> InMemoryConnector:
    """The empty connector that the app uses during the test; it reads and writes JSON as the app's own does."""
    from procrastinate.testing import InMemoryConnector

    own = procrastinate_user_app.connector
    return InMemoryConnector(json_dumps=own.json_dumps, json_loads=own.json_loads)


@pytest.fixture
def procrastinate_app(procrastinate_user_app: App, procrastinate_connector: InMemoryConnector) -> Iterator[App]:
    """The app, which reaches no database during the test: its jobs go to `procrastinate_connector`."""
    with procrastinate_user_app.replace_connector(procrastinate_connector) as app:
        app.perform_import_paths()
        yield app


@pytest.fixture(scope="session")
def procrastinate_postgres_version(pytestconfig: pytest.Config) -> int | None:
    """The major version of the embedded server, None for the newest there is."""
    version: str = pytestconfig.getini("procrastinate_postgres_version")
    if version and not version.isdecimal():
        pytest.fail(f"procrastinate_postgres_version is a number such as 17, not {version!r}", pytrace=False)
    return int(version) if version else None


@pytest.fixture(scope="session")
def procrastinate_postgres_server(
    pytestconfig: pytest.Config, procrastinate_postgres_version: int | None
) -> Iterator[PostgresServer | NamedServer]:
    """A running server, in whose `conninfo` databases may be created."""
    from procrastinate import exceptions
    from procrastinate.fresh_databases import running_server

    conninfo: str | None = pytestconfig.getini("procrastinate_postgres") or None
    with contextlib.ExitStack() as until_the_end:
        try:
            server = until_the_end.enter_context(running_server(conninfo, procrastinate_postgres_version))
        except exceptions.EmbeddedPostgresError as error:
            pytest.fail(
                f"{error}\nOr name a server for tests: in the PG* variables, or in pytest's configuration, "
                "procrastinate_postgres = postgresql://…",
                pytrace=False,
            )
        yield server


@pytest.fixture(scope="session")
def procrastinate_postgres_template(procrastinate_postgres_server: PostgresServer | NamedServer) -> Iterator[str]:
    """The name of a database with the schema, of which each test gets a copy; nobody may stay connected to it."""
    from procrastinate.fresh_databases import template_with_schema

    with template_with_schema(procrastinate_postgres_server) as name:
        yield name


@pytest.fixture
def procrastinate_postgres(
    procrastinate_postgres_server: PostgresServer | NamedServer, procrastinate_postgres_template: str
) -> Iterator[str]:
    """The conninfo of a fresh database with the schema, dropped after the test whoever is connected."""
    from procrastinate.fresh_databases import new_database

    with new_database(procrastinate_postgres_server, procrastinate_postgres_template) as conninfo:
        yield conninfo


@pytest.fixture
def procrastinate_postgres_empty(procrastinate_postgres_server: PostgresServer | NamedServer) -> Iterator[str]:
    """The conninfo of a fresh database without the schema, dropped after the test whoever is connected."""
    from procrastinate.fresh_databases import new_database

    with new_database(procrastinate_postgres_server) as conninfo:
        yield conninfo
