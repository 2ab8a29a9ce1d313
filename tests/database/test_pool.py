"""A pool whose connections the server has closed: whoever asks next is answered all the same."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import psycopg_pool
import pytest

import procrastinate
from procrastinate.connections.psycopg import lend_async

OTHERS = (
    "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity "
    "where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'"
)


@pytest.mark.parametrize("size", [1, 3])
def test_sync(database, connection, size):
    with procrastinate.App(
        connector=procrastinate.SyncPsycopgConnector(conninfo=database, min_size=size, max_size=size)
    ).open() as app:
        for number in range(1, 4):
            assert app.configure_task("task").defer() == number
            assert connection.execute(OTHERS).fetchone()[0] >= 1
        assert app.check_connection()


@pytest.mark.parametrize("size", [1, 3])
async def test_async(database, connection, size):
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=database, min_size=size, max_size=size))
    async with app.open_async():
        for number in range(1, 4):
            assert await app.configure_task("task").defer_async() == number
            assert (await asyncio.to_thread(connection.execute, OTHERS)).fetchone()[0] >= 1
        assert await app.check_connection_async()


async def test_an_operation_is_one_round_trip(database, connection):
    """Counted by the server: one transaction for each job, and nothing beside it."""
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=database, min_size=1, max_size=1))
    count = "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()"
    async with app.open_async():
        task = app.configure_task("task")
        await task.defer_async()
        await app.connector.execute_query_async("select pg_stat_force_next_flush()")
        before = connection.execute(count).fetchone()[0]
        for _ in range(50):
            await task.defer_async()
        await app.connector.execute_query_async("select pg_stat_force_next_flush()")
        after = connection.execute(count).fetchone()[0]
    assert 50 <= after - before < 60


async def test_one_who_is_cancelled_gives_the_connection_back(database):
    """At each moment of giving it back, while another client is at each moment of asking for it."""

    async def borrow(has_it, may_go):
        async with lend_async(pool):
            has_it.set()
            await may_go.wait()

    async def turns(count):
        for _ in range(count):
            await asyncio.sleep(0)

    async with psycopg_pool.AsyncConnectionPool(database, min_size=1, max_size=1, open=False, timeout=5) as pool:
        for before, after in itertools.product(range(5), repeat=2):
            has_it, may_go = asyncio.Event(), asyncio.Event()
            first = asyncio.create_task(borrow(has_it, may_go))
            await has_it.wait()
            has_it.clear()
            second = asyncio.create_task(borrow(has_it, may_go))
            await turns(before)
            may_go.set()
            await turns(after)
            first.cancel()
            await asyncio.wait([first])
            await second
            assert has_it.is_set()


async def test_without_a_size_it_grows_to_what_is_needed_at_a_time(database):
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=database))
    async with app.open_async():
        for _ in range(6):
            await app.configure_task("task").defer_async()
        pool = app.connector.pool
        assert pool.get_stats()["pool_size"] == 1
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(pool.connection())
            await app.configure_task("task").defer_async()
        assert (pool.get_stats()["pool_size"], pool.max_size) == (4, 4)


@pytest.mark.parametrize(("sizes", "expected"), [({}, (1, 4)), ({"max_size": 9}, (1, 9)), ({"min_size": 2}, (2, 2))])
def test_sizes_that_are_given_hold(database, sizes, expected):
    connector = procrastinate.SyncPsycopgConnector(conninfo=database, **sizes)
    with procrastinate.App(connector=connector).open():
        assert (connector.pool.min_size, connector.pool.max_size) == expected


async def test_a_pool_of_another_kind_has_its_own_sizes(database):
    connector = procrastinate.PsycopgConnector(
        conninfo=database, max_size=2, pool_factory=psycopg_pool.AsyncNullConnectionPool
    )
    async with procrastinate.App(connector=connector).open_async() as app:
        assert await app.configure_task("task").defer_async() == 1
