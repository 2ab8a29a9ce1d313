"""Several instances in one database, each in a schema of its own."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

import procrastinate
from conformance.conftest import CONNECTORS
from conformance.urls import as_url
from connections.callers import KINDS
from procrastinate import jobs
from procrastinate.contrib.asyncpg import AsyncpgConnector

OPTIONS = {"install_signal_handlers": False, "fetch_job_polling_interval": 1000, "abort_job_polling_interval": 1000}
PATIENCE = 20
SCHEMAS = ["jobs", 'It\'s "100%" ours']


def make_app(kind, database, schema, results):
    app = procrastinate.App(connector=CONNECTORS[kind](database, schema=schema))

    @app.task(name="work", lock="one at a time")
    async def work(n):
        results.append(n)

    @app.task(name="wait")
    async def wait():
        results.append("waits")
        await asyncio.Event().wait()

    return app


@pytest.mark.parametrize("kind", ["psycopg", "asyncpg"])
async def test_instances_know_nothing_of_each_other(kind, empty_database):
    results = {schema: [] for schema in SCHEMAS}
    first, second = (make_app(kind, empty_database, schema, results[schema]) for schema in SCHEMAS)
    async with first.open_async(), second.open_async(), asyncio.timeout(PATIENCE):
        for app in (first, second):
            await app.schema_manager.apply_schema_async()
        for n in range(3):
            await first.tasks["work"].defer_async(n=n)
        await second.tasks["work"].defer_async(n=10)
        assert [len(await app.job_manager.list_jobs_async()) for app in (first, second)] == [3, 1]
        assert await first.job_manager.cancel_job_by_id_async(1)
        assert await second.job_manager.get_job_status_async(1) is jobs.Status.TODO
        await first.run_worker_async(wait=False, **OPTIONS)
        assert (results[SCHEMAS[0]], results[SCHEMAS[1]]) == ([1, 2], [])
        await second.run_worker_async(wait=False, **OPTIONS)
        assert results[SCHEMAS[1]] == [10]


@pytest.mark.parametrize("kind", ["psycopg", "asyncpg"])
async def test_an_abort_is_for_one_of_them(kind, empty_database):
    """The notification reaches both, and their jobs have the same id."""
    results = {schema: [] for schema in SCHEMAS}
    first, second = apps = [make_app(kind, empty_database, schema, results[schema]) for schema in SCHEMAS]
    async with first.open_async(), second.open_async(), asyncio.timeout(PATIENCE):
        for app in apps:
            await app.schema_manager.apply_schema_async()
        workers = [asyncio.create_task(app.run_worker_async(**OPTIONS)) for app in apps]
        assert [await app.tasks["wait"].defer_async() for app in apps] == [1, 1]
        while not all(results.values()):
            await asyncio.sleep(0.01)
        assert await first.job_manager.cancel_job_by_id_async(1, abort=True)
        while await first.job_manager.get_job_status_async(1) is not jobs.Status.ABORTED:
            await asyncio.sleep(0.01)
        assert await second.job_manager.get_job_status_async(1) is jobs.Status.DOING
        assert await second.job_manager.cancel_job_by_id_async(1, abort=True)
        while await second.job_manager.get_job_status_async(1) is not jobs.Status.ABORTED:
            await asyncio.sleep(0.01)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


@pytest.mark.parametrize("kind", ["psycopg", "psycopg2", "asyncpg", "sqlalchemy_session_psycopg2"])
async def test_on_the_callers_connection(kind, empty_database):
    """Whose search_path does not matter: names are qualified."""
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=empty_database, schema=SCHEMAS[1]))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
    async with KINDS[kind](empty_database, autocommit=False) as caller:
        deferrer = app.configure_task("work", connection=caller.connection, queueing_lock="one")
        assert await caller.call(deferrer.defer) == 1
        await caller.commit()
    with psycopg.connect(empty_database) as connection:
        name = psycopg.sql.Identifier(SCHEMAS[1], "procrastinate_events")
        query = psycopg.sql.SQL("select type::text from {}").format(name)
        assert connection.execute(query).fetchall() == [("deferred",)]


async def test_a_schema_that_is_there_for_somebody_who_may_create_none(empty_database):
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("create schema jobs")
        connection.execute("create role clerk")
        connection.execute("grant usage, create on schema jobs to clerk")
    app = procrastinate.App(
        connector=procrastinate.SyncPsycopgConnector(
            conninfo=empty_database, kwargs={"options": "-c role=clerk"}, schema="jobs"
        )
    )
    try:
        with app.open():
            app.schema_manager.apply_schema()
            assert app.check_connection()
    finally:
        with psycopg.connect(empty_database, autocommit=True) as connection:
            connection.execute("drop owned by clerk")
            connection.execute("drop role clerk")


@pytest.mark.parametrize("kind", ["psycopg", "asyncpg"])
async def test_by_the_search_path(kind, empty_database):
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("create schema one")
        if kind == "psycopg":
            connector = procrastinate.PsycopgConnector(conninfo=empty_database, options="-c search_path=one")
        else:
            connector = AsyncpgConnector(as_url(empty_database), server_settings={"search_path": "one"})
        app = procrastinate.App(connector=connector)
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            assert await app.configure_task("work").defer_async() == 1
        assert connection.execute("select count(*) from one.procrastinate_jobs").fetchone() == (1,)
