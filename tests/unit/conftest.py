"""An app without a database."""

import pytest

from procrastinate import App, testing


@pytest.fixture
def app():
    return App(connector=testing.InMemoryConnector())


@pytest.fixture
def rows(app):
    """The rows of the jobs that were deferred, by id."""
    return app.connector.jobs
