"""The connectors that must behave alike."""

from __future__ import annotations

import asyncio
import contextlib

import psycopg
import pytest

from procrastinate.connector import BaseConnector
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
        if isinstance(self.connector, SyncPsycopgConnector):
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


@contextlib.asynccontextmanager
async def opened(kind, request):
    if kind == "memory":
        yield Store(InMemoryConnector())
        return
    database = request.getfixturevalue("database")
    if kind == "psycopg":
        connector = PsycopgConnector(conninfo=database, min_size=1, max_size=2)
        await connector.open_async()
        yield Store(connector, database)
        await connector.close_async()
    else:
        connector = SyncPsycopgConnector(conninfo=database, min_size=1, max_size=2)
        await asyncio.to_thread(connector.open)
        yield Store(connector, database)
        await asyncio.to_thread(connector.close)


@pytest.fixture(params=["memory", "psycopg", "sync_psycopg"])
async def store(request):
    async with opened(request.param, request) as store:
        yield store


@pytest.fixture(params=["memory", "psycopg"])
async def listening_store(request):
    """A connector that can listen."""
    async with opened(request.param, request) as store:
        yield store
