"""`connection=`: every verb on the caller's own connection, of every kind, in the caller's own transaction."""

from __future__ import annotations

import asyncio
import datetime
import sqlite3

import psycopg
import pytest
import sqlalchemy
from sqlalchemy import orm

import procrastinate
from connections.callers import KINDS, done
from procrastinate import exceptions, testing
from procrastinate.jobs import Job, Status


@pytest.fixture
def app():
    """Never opened: the caller's connection is all that is needed."""
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo="host=/nowhere"))

    @app.task(name="task", queue="q")
    def task(a=0):
        pass

    return app


@pytest.fixture(params=KINDS)
async def caller(request, database):
    async with KINDS[request.param](database, autocommit=False) as caller:
        yield caller


@pytest.fixture(params=KINDS)
async def autocommit_caller(request, database):
    async with KINDS[request.param](database, autocommit=True) as caller:
        yield caller


async def defer(app, caller, queueing_lock=None, **arguments):
    deferrer = app.tasks["task"].configure(connection=caller.connection, queueing_lock=queueing_lock)
    return await caller.call(deferrer.defer, **arguments)


def stored(connection):
    return [row[0] for row in connection.execute("select id from procrastinate_jobs order by id")]


async def test_rolled_back_nothing_is_left(app, caller, connection):
    assert await defer(app, caller, a=1) == 1
    assert stored(connection) == []
    await caller.rollback()
    assert stored(connection) == []


async def test_committed_it_is_there_and_then_it_is_notified(app, caller, connection):
    connection.execute("listen procrastinate_any_queue_v1")
    await defer(app, caller, a=1)
    assert list(connection.notifies(timeout=0)) == []
    await caller.commit()
    assert stored(connection) == [1]
    (notification,) = connection.notifies(timeout=20, stop_after=1)
    assert '"job_id": 1' in notification.payload


@pytest.mark.parametrize("batch", [["taken"], ["free", "taken"], ["free", "free"]])
async def test_a_taken_queueing_lock_leaves_the_transaction_usable(app, caller, connection, batch):
    await defer(app, caller, queueing_lock="taken")
    jobs = [Job(queue="q", task_name="task", lock=None, queueing_lock=lock) for lock in batch]
    with pytest.raises(exceptions.AlreadyEnqueued):
        await caller.call(app.job_manager.batch_defer_jobs, jobs, connection=caller.connection)
    other = await defer(app, caller, queueing_lock="other")
    await caller.commit()
    assert stored(connection) == [1, other]


@pytest.mark.parametrize("batch", [["free", "taken"], ["free", "free"]])
async def test_where_each_statement_is_committed_a_batch_is_whole(app, autocommit_caller, connection, batch):
    caller = autocommit_caller
    await defer(app, caller, queueing_lock="taken")
    assert stored(connection) == [1]
    jobs = [Job(queue="q", task_name="task", lock=None, queueing_lock=lock) for lock in batch]
    with pytest.raises(exceptions.AlreadyEnqueued):
        await caller.call(app.job_manager.batch_defer_jobs, jobs, connection=caller.connection)
    assert stored(connection) == [1]
    other = await defer(app, caller)
    assert stored(connection) == [1, other]


async def test_a_transaction_block_where_each_statement_is_committed(app, autocommit_caller, connection):
    caller = autocommit_caller
    await done(caller.execute("begin"))
    jobs = [Job(queue="q", task_name="task", lock=None, queueing_lock=lock) for lock in "ab"]
    await caller.call(app.job_manager.batch_defer_jobs, jobs, connection=caller.connection)
    with pytest.raises(exceptions.AlreadyEnqueued):
        await caller.call(app.job_manager.batch_defer_jobs, jobs, connection=caller.connection)
    assert stored(connection) == []
    await done(caller.execute("commit"))
    assert stored(connection) == [1, 2]


async def test_the_other_verbs(app, caller, connection):
    manager, on_it = app.job_manager, {"connection": caller.connection}
    job_id = await defer(app, caller, a=1)
    assert await caller.call(manager.get_job_status, job_id, **on_it) is Status.TODO
    assert [job.task_kwargs for job in await caller.call(manager.list_jobs, **on_it)] == [{"a": 1}]
    for listing, name in ((manager.list_queues, "q"), (manager.list_tasks, "task")):
        assert [line["name"] for line in await caller.call(listing, **on_it)] == [name]
    assert await caller.call(manager.list_locks, **on_it) == []
    assert await caller.call(manager.cancel_job_by_id, job_id, **on_it)
    assert not await caller.call(manager.cancel_job_by_id, job_id, **on_it)
    now = datetime.datetime.now(datetime.UTC)
    with pytest.raises(exceptions.ConnectorException, match="invalid status"):
        await caller.call(manager.retry_job_by_id, job_id, now, **on_it)
    with pytest.raises(exceptions.NoResult):
        await caller.call(manager.get_job_status, 99, **on_it)
    await done(caller.execute("update procrastinate_jobs set status = 'failed'"))
    await caller.call(manager.retry_job_by_id, job_id, now, **on_it)
    assert await caller.call(manager.get_job_status, job_id, **on_it) is Status.TODO
    await caller.rollback()
    assert stored(connection) == []


async def test_a_refused_value_is_our_error(app, caller):
    jobs = [Job(queue="q" * 129, task_name="task", lock=None, queueing_lock=None)]
    with pytest.raises(exceptions.InvalidData):
        await caller.call(app.job_manager.batch_defer_jobs, jobs, connection=caller.connection)
    await caller.rollback()


@pytest.mark.parametrize("kind", ["psycopg_async", "asyncpg"])
async def test_no_verb_leaves_a_lock_timeout_behind(app, database, kind):
    """A worker's statements limit their waiting for the rest of the transaction, which is not theirs here."""
    async with KINDS[kind](database, autocommit=False) as caller:
        manager, on_it = app.job_manager, {"connection": caller.connection}
        await defer(app, caller)
        await defer(app, caller)
        await manager.cancel_job_by_id_async(1, **on_it)
        await manager.finish_job_by_id_async(2, Status.FAILED, delete_job=False, **on_it)
        await manager.retry_job_by_id_async(2, datetime.datetime.now(datetime.UTC), **on_it)
        await manager.get_job_status_async(1, **on_it)
        await manager.list_jobs_async(**on_it)
        await manager.list_queues_async(**on_it)
        await manager.list_jobs_to_abort_async(**on_it)
        await caller.execute("do $$ begin assert current_setting('lock_timeout') = '0', 'it was set'; end $$")


async def test_the_users_own_sql(app, caller):
    """In the transaction, and with the connector's JSON functions."""
    connector = app.connector
    colour = "_async" if caller.is_async else ""
    fetch_all = getattr(connector, f"execute_query_all{colour}_with_connection")
    fetch_one = getattr(connector, f"execute_query_one{colour}_with_connection")
    await done(caller.execute("create table orders (items jsonb)"))
    query = "insert into orders values (%(items)s) returning items"
    assert await done(fetch_one(caller.connection, query, items={"a": [1]})) == {"items": {"a": [1]}}
    assert await done(fetch_all(caller.connection, "select items from orders")) == [{"items": {"a": [1]}}]
    with pytest.raises(exceptions.NoResult):
        await done(fetch_one(caller.connection, "select from orders where false"))
    await caller.rollback()
    with pytest.raises(exceptions.ConnectorException, match="does not support external connections"):
        await done(
            getattr(testing.InMemoryConnector(), f"execute_query_one{colour}_with_connection")(object(), "select 1")
        )


async def test_the_other_colour(app, caller):
    deferrer = app.tasks["task"].configure(connection=caller.connection)
    if caller.is_async:
        with pytest.raises(exceptions.ConnectorException, match=r"was given an? .*A sync verb takes.*defer_async"):
            deferrer.defer()
    else:
        with pytest.raises(exceptions.ConnectorException, match=r"was given an? .*An async verb takes.*task\.defer\("):
            await deferrer.defer_async()


@pytest.mark.parametrize("wrong", [object(), "postgresql://", 1])
async def test_another_type(app, wrong):
    deferrer = app.tasks["task"].configure(connection=wrong)
    with pytest.raises(exceptions.ConnectorException, match=r"an object of type .*takes a psycopg\.Connection"):
        deferrer.defer()
    with pytest.raises(exceptions.ConnectorException, match=r"an object of type .*takes a psycopg\.AsyncConnection"):
        await deferrer.defer_async()


def test_another_database(app):
    engine = sqlalchemy.create_engine("sqlite://")
    with (
        engine.connect() as connection,
        pytest.raises(exceptions.ConnectorException, match=r"sqlite.*needs PostgreSQL"),
    ):
        app.tasks["task"].configure(connection=connection).defer()
    engine.dispose()
    with (
        orm.Session(engine) as session,
        pytest.raises(exceptions.ConnectorException, match=r"sqlite.*needs PostgreSQL"),
    ):
        app.tasks["task"].configure(connection=session).defer()
    with sqlite3.connect(":memory:") as connection, pytest.raises(exceptions.ConnectorException, match="sqlite3"):
        app.tasks["task"].configure(connection=connection).defer()
    connection.close()


def test_a_session_that_cannot_connect(app, tmp_path):
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://me@/nothing?host={tmp_path}")
    with orm.Session(engine) as session, pytest.raises(exceptions.ConnectionLost, match="No such file"):
        app.tasks["task"].configure(connection=session).defer()


async def test_in_memory_the_connection_does_not_matter(app):
    with app.replace_connector(testing.InMemoryConnector()):
        assert app.tasks["task"].configure(connection=object()).defer() == 1
        assert await app.tasks["task"].configure(connection=object()).defer_async() == 2


async def test_a_sync_verb_on_the_loops_own_thread(database, app):
    """It needs no loop: the connection is the caller's."""
    with app.replace_connector(procrastinate.PsycopgConnector(conninfo=database)):
        async with app.open_async():
            with psycopg.connect(database) as connection:
                assert app.tasks["task"].configure(connection=connection).defer() == 1
            assert await app.job_manager.get_job_status_async(1) is Status.TODO


async def test_whatever_the_apps_connector(database, app):
    with app.replace_connector(procrastinate.SyncPsycopgConnector(conninfo=database)):
        async with await psycopg.AsyncConnection.connect(database) as connection:
            assert await app.tasks["task"].configure(connection=connection).defer_async() == 1
        with pytest.raises(exceptions.SyncConnectorConfigurationError):
            await app.tasks["task"].defer_async()


@pytest.mark.parametrize("kind", ["psycopg_async", "asyncpg", "aiopg", "sqlalchemy_async_psycopg"])
async def test_cancelled_in_the_middle_of_a_batch(app, database, connection, kind):
    async with KINDS[kind](database, autocommit=True) as caller:
        await _cancel_in_the_middle_of_a_batch(app, caller, connection)
        assert stored(connection) == []
        if kind in ("psycopg_async", "asyncpg"):  # the others close the connection
            await defer(app, caller)
            assert len(stored(connection)) == 1


async def _cancel_in_the_middle_of_a_batch(app, caller, connection):
    jobs = [Job(queue="q", task_name="task", lock=None, queueing_lock=lock) for lock in "ab"]
    with connection.transaction():
        connection.execute("lock table procrastinate_jobs in exclusive mode")
        deferring = asyncio.create_task(app.job_manager.batch_defer_jobs_async(jobs, connection=caller.connection))
        while not connection.execute(
            "select from pg_locks where not granted and relation = 'procrastinate_jobs'::regclass"
        ).fetchall():
            await asyncio.sleep(0.01)
        deferring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await deferring
