"""What every connector to PostgreSQL does besides operations: opening, the user's own SQL, lost connections."""

from __future__ import annotations

import asyncio
import inspect
import json

import psycopg
import pytest

from conformance.conftest import CONNECTORS
from conformance.urls import as_url
from procrastinate import exceptions, types
from procrastinate.connector import BaseAsyncConnector
from procrastinate.schema import SchemaManager
from procrastinate.store import jobs, tables

JOB = jobs.jobs.Job(queue="q", task_name="t", lock=None, queueing_lock=None)
POOLED = sorted(CONNECTORS)


class Colourless:
    """A connector whose methods are coroutine functions, whatever its colour."""

    def __init__(self, connector):
        self._connector = connector
        self._is_async = isinstance(connector, BaseAsyncConnector)

    def __getattr__(self, name):
        if self._is_async:
            return getattr(self._connector, f"{name}_async")
        method = getattr(self._connector, name)

        async def call(*arguments, **options):
            return await asyncio.to_thread(method, *arguments, **options)

        return call


@pytest.fixture(params=POOLED)
def make(request):
    """Make a connector to a database; with settings of its own."""

    def make(database, **settings):
        return Colourless(CONNECTORS[request.param](database, **settings))

    make.kind = request.param
    return make


@pytest.fixture
async def connector(make, database):
    connector = make(database)
    await connector.open()
    yield connector
    await connector.close()


class TestOpening:
    async def test_again_and_again(self, make, database):
        connector = make(database)
        with pytest.raises(exceptions.AppNotOpen):
            await connector.run(tables.CheckConnection())
        with pytest.raises(exceptions.AppNotOpen):
            await connector.execute_query("select 1")
        await connector.close()
        for _ in range(2):
            await connector.open()
            await connector.open()
            assert await connector.run(tables.CheckConnection())
            await connector.close()
            await connector.close()
            with pytest.raises(exceptions.AppNotOpen):
                await connector.run(tables.CheckConnection())

    async def test_nobody_there(self, make, database, tmp_path):
        connector = make(f"host={tmp_path} dbname=nothing user=nobody", **FAST.get(make.kind, {}))
        for _ in range(2):
            with pytest.raises(exceptions.ConnectorException, match=r"No connection to the database: check .*PG\*"):
                await connector.open()
            with pytest.raises(exceptions.AppNotOpen):
                await connector.run(tables.CheckConnection())
        await connector.close()

    async def test_a_pool_of_the_callers(self, make, connector, database):
        (pool,) = {getattr(connector._connector, name) for name in ("pool", "engine") if has(connector, name)}
        second = make("host=/nowhere")
        await second.open(pool)
        assert await second.run(tables.CheckConnection())
        await second.close()
        with pytest.raises(exceptions.AppNotOpen):
            await second.run(tables.CheckConnection())
        assert await connector.run(tables.CheckConnection())

    async def test_what_is_no_pool(self, make, database):
        if "sqlalchemy" in make.kind:
            with pytest.raises(exceptions.ConnectorException, match="Engine"):
                await make(database).open(object())


# Do not wait for half a minute.
FAST = {"psycopg": {"timeout": 0.2}, "sync_psycopg": {"timeout": 0.2}}


def has(connector, name):
    return isinstance(inspect.getattr_static(connector._connector, name, None), property)


class TestQueries:
    async def test_rows_are_dictionaries(self, connector):
        assert await connector.execute_query_all("select 1 as a, 'x' as b union all select 2, 'y' order by a") == [
            {"a": 1, "b": "x"},
            {"a": 2, "b": "y"},
        ]
        assert await connector.execute_query_one("select %(a)s::int + %(a)s::int as a", a=2) == {"a": 4}
        with pytest.raises(exceptions.NoResult):
            await connector.execute_query_one("select 1 where false")
        assert await connector.execute_query_all("create table here (a int)") == []

    async def test_several_statements_and_percent_signs(self, connector):
        await connector.execute_query("create table here (a text); insert into here values ('100%')")
        assert await connector.execute_query_all("select * from here where a like '%0%'") == [{"a": "100%"}]
        query = "select a from here where a like '%0%' and a <> %(other)s"
        assert await connector.execute_query_all(query, other="%") == [{"a": "100%"}]

    async def test_what_exists_already(self, connector):
        # Told by the SQLSTATE of the driver's error.
        manager = SchemaManager(connector._connector)
        with pytest.raises(exceptions.ConnectorException, match="applied before"):
            await (manager.apply_schema_async() if connector._is_async else asyncio.to_thread(manager.apply_schema))

    async def test_json(self, connector):
        value = {"a": [1, {"b": None}], "c": "%"}
        query = "select %(value)s::jsonb as value, pg_typeof(%(value)s::jsonb)::text as type"
        assert await connector.execute_query_one(query, value=value) == {"value": value, "type": "jsonb"}
        found = await connector.execute_query_one("select %(values)s::jsonb[] as found", values=[value, {"d": 2}])
        assert [item if isinstance(item, dict) else json.loads(item) for item in found["found"]] == [value, {"d": 2}]
        found = await connector.execute_query_one("select '\"text\"'::jsonb as a, 'null'::jsonb as b, null::jsonb as c")
        assert found == {"a": "text", "b": None, "c": None}

    async def test_composites(self, connector):
        rows = [types.JobToDefer("q", "t", 5, None, None, {"a": n}, None) for n in range(2)]
        query = "select procrastinate_defer_jobs_v1(%(rows)s::procrastinate_job_to_defer_v1[]) as ids"
        assert await connector.execute_query_one(query, rows=rows) == {"ids": [1, 2]}
        assert [job.task_kwargs for job in await connector.run(jobs.ListJobs())] == [{"a": 0}, {"a": 1}]

    async def test_errors(self, connector):
        with pytest.raises(exceptions.ConnectorException, match="nothing"):
            await connector.execute_query("select * from nothing")
        await connector.execute_query("create table here (a int constraint the_only_one unique)")
        await connector.execute_query("insert into here values (%(a)s)", a=1)
        with pytest.raises(exceptions.UniqueViolation) as raised:
            await connector.execute_query("insert into here values (%(a)s)", a=1)
        assert raised.value.constraint_name == "the_only_one"
        assert raised.value.__cause__ is not None
        assert await connector.execute_query_all("select a from here") == [{"a": 1}]

    async def test_json_functions_of_the_users(self, make, database):
        connector = make(
            database,
            json_dumps=lambda value: json.dumps(value, default=str),
            json_loads=lambda text: [json.loads(text)],
        )
        await connector.open()
        await connector.run(jobs.DeferJobs(jobs=[JOB.evolve(task_kwargs={"a": int})]))
        assert [job.task_kwargs for job in await connector.run(jobs.ListJobs())] == [[{"a": str(int)}]]
        found = await connector.execute_query_one(
            "select args, %(b)s::jsonb as b from procrastinate_jobs", b={"c": int}
        )
        assert found == {"args": [{"a": str(int)}], "b": [{"c": str(int)}]}
        await connector.close()


async def test_the_caller_may_use_the_pool_in_transactions(make, connector):
    """We set connections to commit each statement, and set them back."""
    inner = connector._connector
    if make.kind == "psycopg":
        for _ in range(3):
            await connector.run(jobs.DeferJobs(jobs=[JOB]))
            async with inner.pool.connection() as own:
                assert not own.autocommit
    elif make.kind == "psycopg2":
        await connector.run(jobs.DeferJobs(jobs=[JOB]))
        own = inner.pool.getconn()
        assert not own.autocommit
        inner.pool.putconn(own)
    elif make.kind == "sqlalchemy_psycopg":
        await connector.run(jobs.DeferJobs(jobs=[JOB]))
        with inner.engine.connect() as own:
            assert await asyncio.to_thread(inner.run, jobs.DeferJobs(jobs=[JOB]), own) == [2]
            own.rollback()
        assert len(await connector.run(jobs.ListJobs())) == 1


async def test_what_commits_by_itself_leaves_the_notification_to_who_is_about_to_notify(connector, database):
    async with (
        await psycopg.AsyncConnection.connect(database, autocommit=True) as listening,
        await psycopg.AsyncConnection.connect(database) as ringing,
    ):
        await listening.execute("listen procrastinate_any_queue_v1")
        await ringing.execute("select pg_advisory_xact_lock(hashtextextended('q', 8080))")
        await connector.run(jobs.DeferJob(job=JOB))
        await connector.run(jobs.DeferAlike(job=JOB, arguments=[{}, {}]))
        await connector.run(jobs.DeferJobs(jobs=[JOB, JOB]))
        await ringing.commit()
        last = await connector.run(jobs.DeferJob(job=JOB))
        async for notification in listening.notifies(timeout=20, stop_after=1):
            assert json.loads(notification.payload)["job_id"] == last[0]
            return
        pytest.fail("nobody notified")


async def test_connections_that_the_server_closed_meanwhile_are_replaced(connector, connection):
    await asyncio.gather(*[connector.run(tables.CheckConnection()) for _ in range(3)])
    others = "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    pids = [pid for (pid,) in connection.execute(others)]
    connection.execute("select pg_terminate_backend(pid) from unnest(%s::int[]) as u (pid)", [pids])
    while connection.execute("select from pg_stat_activity where pid = any (%s)", [pids]).fetchall():
        await asyncio.sleep(0.01)
    # The sockets are closed a moment after the entries are gone.
    async with asyncio.timeout(20):
        while True:
            try:
                assert await connector.run(tables.CheckConnection())
                break
            except exceptions.ConnectionLost:
                await asyncio.sleep(0.01)
    for _ in range(3):
        assert await connector.run(tables.CheckConnection())


SCHEMAS = ["jobs", "Our Jobs", 'a"b', "it's", "100%", "%(a)s", "a.b", "é$"]


class TestSchema:
    @pytest.mark.parametrize("schema", SCHEMAS)
    async def test_applied_and_used(self, make, empty_database, schema):
        if make.kind not in ("psycopg", "asyncpg", "psycopg2", "sqlalchemy_async_asyncpg") and schema != SCHEMAS[0]:
            pytest.skip("the same code")
        connectors = [make(empty_database, schema=name) for name in (schema, "other")]
        for connector in connectors:
            await connector.open()
            assert not await connector.run(tables.CheckConnection())
            if connector._is_async:
                assert not await SchemaManager(connector._connector).is_applied_async()
                await SchemaManager(connector._connector).apply_schema_async()
                assert await SchemaManager(connector._connector).is_applied_async()
            else:
                await asyncio.to_thread(SchemaManager(connector._connector).apply_schema)
            assert await connector.run(tables.CheckConnection())
        first, second = connectors
        assert await first.run(jobs.DeferJobs(jobs=[JOB, JOB])) == [1, 2]
        assert await second.run(jobs.DeferJobs(jobs=[JOB.evolve(queueing_lock="one")])) == [1]
        with pytest.raises(exceptions.AlreadyEnqueued):
            await second.run(jobs.DeferJobs(jobs=[JOB.evolve(queueing_lock="one")]))
        assert (await first.run(jobs.CancelJob(job_id=1, abort=False, delete=False))).changed
        assert [job.status for job in await first.run(jobs.ListJobs())] == ["cancelled", "todo"]
        assert [job.status for job in await second.run(jobs.ListJobs())] == ["todo"]
        with psycopg.connect(empty_database) as connection:
            assert connection.execute("select to_regclass('procrastinate_jobs')").fetchone() == (None,)
        for connector in connectors:
            await connector.close()

    @pytest.mark.parametrize(
        ("schema", "reason"),
        [("", "not empty"), ("a$$b", r"\$\$"), ("x" * 64, "63 bytes"), ("a\0", "NUL"), (5, "text")],
    )
    def test_what_is_no_name(self, make, schema, reason):
        with pytest.raises(ValueError, match=reason):
            make("host=/nowhere", schema=schema)


def test_every_kind_has_a_url():
    assert as_url("host=/tmp user=me dbname=a", "asyncpg") == "postgresql+asyncpg://me@/a?host=%2Ftmp"
