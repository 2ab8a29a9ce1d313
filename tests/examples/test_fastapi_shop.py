"""The tests of the FastAPI example, without a web server."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from fastapi import HTTPException
from sqlalchemy.ext.asyncio import create_async_engine

from examples.fastapi import shop
from procrastinate import testing
from procrastinate.contrib.sqlalchemy import SQLAlchemyAsyncConnector

FORM = shop.OrderForm(customer="Ada", item="tea")


@pytest.fixture
def procrastinate_user_app():
    return shop.jobs


@pytest.fixture
async def engine(url):
    """The shop's sessions use a database of the test's own."""
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(shop.Base.metadata.create_all)
    shop.sessions.configure(bind=engine)
    yield engine
    shop.sessions.configure(bind=shop.engine)
    await engine.dispose()


@pytest.fixture
async def jobs(engine):
    """The shop's jobs are in that database, too."""
    with shop.jobs.replace_connector(SQLAlchemyAsyncConnector(engine)):
        async with shop.jobs.open_async():
            yield shop.jobs


async def test_an_order_and_its_job_are_committed_together(jobs):
    ids = await shop.place_order(FORM)

    [job] = await testing.assert_deferred_async(jobs, shop.send_confirmation, order_id=ids["order_id"])
    assert job.id == ids["job_id"]
    assert [row["status"] for row in await shop.list_orders()] == ["todo"]


async def test_a_declined_card_leaves_neither_order_nor_job(jobs):
    with pytest.raises(HTTPException) as refusal:
        await shop.place_order(FORM.model_copy(update={"decline_card": True}))

    assert refusal.value.status_code == 402
    assert await shop.list_orders() == []
    assert await testing.deferred_jobs_async(jobs) == []


async def test_a_worker_confirms_the_order(jobs):
    await shop.place_order(FORM)
    await jobs.run_worker_async(wait=False, install_signal_handlers=False)

    [row] = await shop.list_orders()
    assert (row["status"], row["confirmation"]) == ("succeeded", "Dear Ada, your tea is on its way.")


async def test_in_memory(procrastinate_app, engine):
    """The jobs are in memory, the orders are not."""
    ids = await shop.place_order(FORM)

    testing.assert_deferred(procrastinate_app, shop.send_confirmation, order_id=ids["order_id"])
    await procrastinate_app.run_worker_async(wait=False, install_signal_handlers=False)
    async with shop.sessions() as session:
        assert await session.scalar(sa.select(shop.Order.confirmation)) == "Dear Ada, your tea is on its way."
