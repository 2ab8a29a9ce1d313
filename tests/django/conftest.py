"""A Django project in this process, whose databases are fresh for each test that asks for `db`."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import django.conf
import psycopg.conninfo
import pytest
from asgiref.sync import SyncToAsync
from django.core.management import call_command
from django.db import connections
from django.test import override_settings
from sample_site import settings as sample_settings

import django
from procrastinate.contrib.django import procrastinate_app
from procrastinate.fresh_databases import new_database

HERE = Path(__file__).parent

if not django.conf.settings.configured:
    django.conf.settings.configure(**{name: value for name, value in vars(sample_settings).items() if name.isupper()})
    django.setup()


def parameters(conninfo):
    """What Django calls the parts of a conninfo."""
    parts = psycopg.conninfo.conninfo_to_dict(conninfo)
    names = {"NAME": "dbname", "HOST": "host", "PORT": "port", "USER": "user", "PASSWORD": "password"}
    return {ours: str(parts.get(theirs) or "") for ours, theirs in names.items()}


def use(conninfo, alias="default"):
    """Have Django use a database, in all threads that connect from now on."""
    connections.settings[alias].update(parameters(conninfo))
    connections[alias].settings_dict.update(parameters(conninfo))


def close_all():
    """Close what this thread has open, and the one in which Django runs the ORM for async code."""
    connections.close_all()
    SyncToAsync.single_thread_executor.submit(connections.close_all).result()


@pytest.fixture(scope="session")
def migrated_template(postgres_server):
    """The name of a database that `migrate` made."""
    with new_database(postgres_server) as conninfo:
        use(conninfo)
        call_command("migrate", verbosity=0, run_syncdb=True)
        connections.close_all()
        yield parameters(conninfo)["NAME"]


@pytest.fixture
def db(postgres_server, migrated_template):
    """The conninfo of Django's database, which has all tables."""
    with new_database(postgres_server, migrated_template) as conninfo:
        use(conninfo)
        yield conninfo
        close_all()


@pytest.fixture
def other_db(postgres_server, migrated_template):
    """The conninfo of Django's second database, which has all tables too."""
    with new_database(postgres_server, migrated_template) as conninfo:
        use(conninfo, "other")
        yield conninfo
        close_all()


@pytest.fixture
def empty_db(postgres_server):
    """The conninfo of Django's database, without any table."""
    with new_database(postgres_server) as conninfo:
        use(conninfo)
        yield conninfo
        close_all()


@pytest.fixture
def close_connections():
    """Close Django's connections: `close_connections()`."""
    return close_all


@pytest.fixture
def use_database():
    """Have one of Django's databases be another: `use_database(conninfo, alias)`."""
    return use


@pytest.fixture
def app():
    """The app of the project."""
    return procrastinate_app.current_app


@pytest.fixture
def work(app):
    """Run jobs until none is left."""

    def work(**options):
        app.run_worker(**{"wait": False, "install_signal_handlers": False, "listen_notify": False, **options})

    return work


@pytest.fixture
def settings():
    """Change settings until the test ends: `settings(NAME=value)`."""
    with ExitStack() as stack:
        yield lambda **values: stack.enter_context(override_settings(**values))


@pytest.fixture
def environment(db):
    """The environment of a process of the project on Django's database."""
    names = {f"SAMPLE_{name}": value for name, value in parameters(db).items()}
    return {**os.environ, **names, "DJANGO_SETTINGS_MODULE": "sample_site.settings", "PYTHONPATH": str(HERE)}
