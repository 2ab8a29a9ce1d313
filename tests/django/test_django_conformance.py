"""Every operation on Django's connection: what each connector must be able to do."""

import psycopg
import pytest

from conformance import test_inspection, test_operations
from conformance.conftest import CLEAR, Store
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.fresh_databases import new_database

for module in (test_operations, test_inspection):
    for name, value in vars(module).items():
        takes_store = "store" in getattr(getattr(value, "__code__", None), "co_varnames", ())
        if name.startswith("Test") or (name.startswith("test_") and takes_store):
            globals()[name] = value


@pytest.fixture(scope="module")
def shared_database(postgres_server, migrated_template):
    """The conninfo of the database that the tests use one after another."""
    with new_database(postgres_server, migrated_template) as conninfo:
        yield conninfo


@pytest.fixture
def store(shared_database, use_database, close_connections):
    with psycopg.connect(shared_database, autocommit=True) as cleaner:
        cleaner.execute(CLEAR)
    use_database(shared_database, "default")
    yield Store(DjangoConnector(), shared_database)
    close_connections()
