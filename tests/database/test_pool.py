"""A pool whose connections the server has closed: whoever asks next is answered all the same."""

from __future__ import annotations

import asyncio

import pytest

import procrastinate

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
