"""The connectors that must behave alike."""

from __future__ import annotations

import asyncio
import contextlib

import psycopg
import pytest

from conformance.urls import as_url
from procrastinate.connector import BaseAsyncConnector, BaseConnector
from procrastinate.contrib.aiopg import AiopgConnector
from procrastinate.contrib.asyncpg import AsyncpgConnector
from procrastinate.contrib.psycopg2 import Psycopg2Connector
from procrastinate.contrib.sqlalchemy import (
    SQLAlchemyAsyncConnector,
    SQLAlchemyConnector,
    SQLAlchemyPsycopg2Connector,
)
from procrastinate.fresh_databases import new_database
from procrastinate.psycopg_connector import PsycopgConnector
from procrastinate.store import workers
from procrastinate.sync_psycopg_connector import SyncPsycopgConnector
from procrastinate.testing import InMemoryConnector


class Store:
    """A connector of any colour, asked in the same way; and the hands that move time where no operation can."""

    def __init__(self, connector: BaseConnector, database: str | None = None):
        self.connector = connector
        self.database = database

    async def ask(self, operation):
        if not isinstance(self.connector, BaseAsyncConnector):
            return await asyncio.to_thread(self.connector.run, operation)
        return await self.connector.run_async(operation)

    async def worker(self) -> int:
        return await self.ask(workers.RegisterWorker())

    def change_job(self, job_id, **changes):
        if self.database is None:
            self.connector.jobs[job_id].update(changes)
        else:
            columns = ", ".join(f"{column} = %s" for column in changes)
            self._execute(f"update procrastinate_jobs set {columns} where id = %s", [*changes.values(), job_id])

    def set_heartbeat(self, worker_id, at):
        if self.database is None:
            self.connector.workers[worker_id] = at
        else:
            self._execute("update procrastinate_workers set last_heartbeat = %s where id = %s", [at, worker_id])

    def job(self, job_id):
        """The row of a job, None if there is none."""
        if self.database is None:
            return self.connector.jobs.get(job_id)
        with psycopg.connect(self.database, row_factory=psycopg.rows.dict_row) as connection:
            return connection.execute("select * from procrastinate_jobs where id = %s", [job_id]).fetchone()

    def events(self, job_id):
        """What happened to a job, without when."""
        if self.database is None:
            return [event["type"] for event in self.connector.events.get(job_id, [])]
        query = "select type::text from procrastinate_events where job_id = %s order by id"
        with psycopg.connect(self.database) as connection:
            return [event for (event,) in connection.execute(query, [job_id])]

    def _execute(self, query, arguments):
        with psycopg.connect(self.database, autocommit=True) as connection:
            connection.execute(query, arguments)


# One way to make each connector, from the conninfo of a database and more settings.
SMALL = {"min_size": 1, "max_size": 2}
ENGINE = {"pool_size": 2}
CONNECTORS = {
    "psycopg": lambda database, **more: PsycopgConnector(conninfo=database, **{**SMALL, **more}),
    "asyncpg": lambda database, **more: AsyncpgConnector(as_url(database), **{**SMALL, **more}),
    "sqlalchemy_async_psycopg": lambda database, **more: SQLAlchemyAsyncConnector(
        as_url(database, "psycopg"), **{**ENGINE, **more}
    ),
    "sqlalchemy_async_asyncpg": lambda database, **more: SQLAlchemyAsyncConnector(
        as_url(database, "asyncpg"), **{**ENGINE, **more}
    ),
    "aiopg": lambda database, **more: AiopgConnector(dsn=database, maxsize=2, **more),
    "sync_psycopg": lambda database, **more: SyncPsycopgConnector(conninfo=database, **{**SMALL, **more}),
    "sqlalchemy_psycopg": lambda database, **more: SQLAlchemyConnector(
        as_url(database, "psycopg"), **{**ENGINE, **more}
    ),
    "sqlalchemy_psycopg2": lambda database, **more: SQLAlchemyPsycopg2Connector(
        dsn=as_url(database), **{**ENGINE, **more}
    ),
    "psycopg2": lambda database, **more: Psycopg2Connector(dsn=database, maxconn=2, **more),
}
LISTENING = ["psycopg", "asyncpg", "sqlalchemy_async_psycopg", "sqlalchemy_async_asyncpg", "aiopg"]


# Takes two milliseconds. A `truncate` takes six, a fresh database thirty.
CLEAR = """
    delete from procrastinate_jobs;
    delete from procrastinate_periodic_defers;
    delete from procrastinate_workers;
    delete from procrastinate_chores;
    alter sequence procrastinate_jobs_id_seq restart;
    alter sequence procrastinate_workers_id_seq restart;
    alter sequence procrastinate_periodic_defers_id_seq restart;
"""


@pytest.fixture(scope="session")
def shared_database(postgres_server, template_database):
    """The conninfo of the database that the stores share, one after another."""
    with new_database(postgres_server, template_database) as conninfo:
        yield conninfo


@pytest.fixture(scope="session")
def cleaner(shared_database):
    with psycopg.connect(shared_database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def cleared_database(shared_database, cleaner):
    cleaner.execute(CLEAR)
    return shared_database


@contextlib.asynccontextmanager
async def opened(kind, request):
    if kind == "memory":
        yield Store(InMemoryConnector())
        return
    database = request.getfixturevalue("cleared_database")
    connector = CONNECTORS[kind](database)
    if isinstance(connector, BaseAsyncConnector):
        await connector.open_async()
        yield Store(connector, database)
        await connector.close_async()
    else:
        await asyncio.to_thread(connector.open)
        yield Store(connector, database)
        await asyncio.to_thread(connector.close)


@pytest.fixture(params=["memory", *CONNECTORS])
async def store(request):
    async with opened(request.param, request) as store:
        yield store


@pytest.fixture(params=["memory", *LISTENING])
async def listening_store(request):
    """A connector that can listen."""
    async with opened(request.param, request) as store:
        yield store
