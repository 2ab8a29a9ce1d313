"""The pytest plugin, in runs of its own, as users have it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

AN_APP = """
    import procrastinate

    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo="host=nowhere.invalid"))

    @app.task(name="send")
    def send(to):
        return to
"""
WITH_POSTGRES = """
    import procrastinate, psycopg, pytest

    @pytest.mark.parametrize("number", range(3))
    def test_sync(procrastinate_postgres, number):
        app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=procrastinate_postgres))
        with app.open():
            assert app.configure_task("t").defer() == 1

    async def test_async(procrastinate_postgres):
        app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=procrastinate_postgres))
        async with app.open_async():
            assert await app.configure_task("t").defer_async() == 1
            await app.run_worker_async(wait=False)

    def test_empty(procrastinate_postgres_empty):
        with psycopg.connect(procrastinate_postgres_empty) as connection:
            assert connection.execute("select to_regclass('procrastinate_jobs')").fetchone() == (None,)
"""


@pytest.fixture(autouse=True)
def without_server(monkeypatch):
    """Each run starts from an environment that names no server."""
    for name in list(os.environ):
        if name.startswith("PG"):
            monkeypatch.delenv(name)


@pytest.fixture
def named_server(postgres_server, database):
    """The server of this run, for those within it: to start another takes a second."""
    return database


def test_app_in_memory(pytester):
    pytester.makeini("[pytest]\nprocrastinate_app = my_app.app\npythonpath = .")
    pytester.makepyfile(
        my_app=AN_APP,
        test_it="""
        import my_app
        from procrastinate.testing import InMemoryConnector, assert_deferred

        def test_sync(procrastinate_app, procrastinate_connector):
            assert procrastinate_app is my_app.app
            assert isinstance(procrastinate_connector, InMemoryConnector)
            assert procrastinate_app.connector is procrastinate_connector
            my_app.send.defer(to="ann")
            assert_deferred(procrastinate_app, my_app.send, to="ann")
            procrastinate_app.run_worker(wait=False)
            assert procrastinate_connector.jobs[1]["status"] == "succeeded"

        async def test_async(procrastinate_app):
            assert await my_app.send.defer_async(to="bob") == 1
            await procrastinate_app.run_worker_async(wait=False)
            assert_deferred(procrastinate_app, my_app.send, to="bob")

        def test_afterwards():
            assert not isinstance(my_app.app.connector, InMemoryConnector)
        """,
    )
    pytester.runpytest_subprocess("-o", "asyncio_mode=auto").assert_outcomes(passed=3)


def test_readable_failure(pytester):
    pytester.makeini("[pytest]\nprocrastinate_app = my_app.app\npythonpath = .")
    pytester.makepyfile(
        my_app=AN_APP,
        test_it="""
        import my_app
        from procrastinate.testing import assert_deferred

        def test_it(procrastinate_app):
            my_app.send.defer(to="ann")
            assert_deferred(procrastinate_app, my_app.send, to="bob")
        """,
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">*assert_deferred(procrastinate_app, my_app.send, to=*bob*",
            "E*Expected 1 deferred job of send(to='bob'), found none.",
            "E*Deferred instead, the closest first:",
            "E*send[[]1](to='ann'): to='ann' instead of 'bob'",
            "test_it.py:6: AssertionError",
        ]
    )
    assert "found_in" not in result.stdout.str(), "our own frames are of no interest"


def test_app_by_a_fixture_and_its_json(pytester):
    pytester.makepyfile(
        """
        import datetime, json
        import procrastinate, pytest

        @pytest.fixture
        def procrastinate_user_app():
            return procrastinate.App(
                connector=procrastinate.PsycopgConnector(json_dumps=lambda value: json.dumps(value, default=str))
            )

        def test_it(procrastinate_app, procrastinate_connector):
            procrastinate_app.configure_task("t").defer(day=datetime.date(2030, 1, 1))
            assert procrastinate_connector.jobs[1]["args"] == {"day": "2030-01-01"}
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_import_paths(pytester):
    pytester.makeini("[pytest]\nprocrastinate_app = my_app.app\npythonpath = .")
    pytester.makepyfile(
        my_app="""
        import procrastinate
        app = procrastinate.App(connector=procrastinate.PsycopgConnector(), import_paths=["my_tasks"])
        """,
        my_tasks="""
        from my_app import app

        @app.task(name="elsewhere")
        def t():
            pass
        """,
        test_it="""
        def test_it(procrastinate_app):
            assert "elsewhere" in procrastinate_app.tasks
        """,
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("ini", "text"),
    [
        ("", "*Which app is tested? Name it in pytest's configuration, procrastinate_app = path.to.module.app*"),
        ("procrastinate_app = nothing.app", "*LoadFromPathError: nothing could not be imported*"),
    ],
)
def test_app_is_not_found(pytester, ini, text):
    pytester.makeini(f"[pytest]\n{ini}")
    pytester.makepyfile("def test_it(procrastinate_app): pass")
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([text])


def test_databases_on_the_server_of_the_ini_option(pytester, named_server):
    pytester.makeini(f"[pytest]\nprocrastinate_postgres = {named_server}\nasyncio_mode = auto")
    pytester.makepyfile(WITH_POSTGRES)
    pytester.runpytest_subprocess().assert_outcomes(passed=5)


def test_databases_on_the_server_of_the_variables_in_several_processes(pytester, named_server, monkeypatch):
    monkeypatch.setenv("PGHOST", "nowhere.invalid")
    monkeypatch.setenv("PROCRASTINATE_TEST_SERVER", named_server)
    pytester.makeini("[pytest]\nasyncio_mode = auto")
    # libpq reads the variables; conninfo goes before them, so the name of the server stands where only it is read.
    pytester.makeconftest(
        """
        import os
        from psycopg.conninfo import conninfo_to_dict

        parts = conninfo_to_dict(os.environ["PROCRASTINATE_TEST_SERVER"])
        variables = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}
        for name, variable in variables.items():
            if name in parts:
                os.environ[variable] = str(parts[name])
        """
    )
    pytester.makepyfile(WITH_POSTGRES)
    pytester.runpytest_subprocess("-n", "2").assert_outcomes(passed=5)


def test_databases_on_an_embedded_server(pytester, postgres_version):
    pytester.makeini(f"[pytest]\nprocrastinate_postgres_version = {postgres_version}\nasyncio_mode = auto")
    pytester.makepyfile(WITH_POSTGRES)
    pytester.runpytest_subprocess().assert_outcomes(passed=5)


@pytest.mark.parametrize(
    ("ini", "texts"),
    [
        ("procrastinate_postgres_version = 7", ["*No PostgreSQL 7 server*", "*Or name a server for tests*"]),
        ("procrastinate_postgres_version = latest", ["*is a number such as 17, not 'latest'*"]),
        ("procrastinate_postgres = host=/nowhere", ["*No database could be created for a test*"]),
    ],
)
def test_no_server(pytester, ini, texts):
    pytester.makeini(f"[pytest]\n{ini}")
    pytester.makepyfile("def test_it(procrastinate_postgres): pass")
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(texts)


def test_who_does_not_use_it_pays_nothing(pytester):
    pytester.makepyfile(
        """
        import sys

        def test_it():
            heavy = {"app", "testing", "fresh_databases", "embedded", "jobs"}
            assert not {f"procrastinate.{name}" for name in heavy} & sys.modules.keys()
            assert not {"psycopg", "psycopg_pool", "croniter", "click"} & sys.modules.keys()
            assert "procrastinate.pytest_plugin" in sys.modules
        """
    )
    pytester.runpytest_subprocess("-p", "no:asyncio", "-W", "error").assert_outcomes(passed=1)


def test_it_can_be_switched_off(pytester):
    pytester.makepyfile("def test_it(procrastinate_app): pass")
    result = pytester.runpytest_subprocess("-p", "no:procrastinate")
    result.stdout.fnmatch_lines(["*fixture 'procrastinate_app' not found*"])


def test_fixtures_are_listed_with_what_they_give(pytester):
    shown = subprocess.run([sys.executable, "-m", "pytest", "--fixtures"], capture_output=True, text=True, check=False)
    assert "The conninfo of a fresh database with the schema" in shown.stdout
