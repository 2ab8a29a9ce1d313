"""A shop: each order is inserted together with the job that confirms it, in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

import procrastinate
from procrastinate.contrib.sqlalchemy import SQLAlchemyAsyncConnector

# One engine, and so one pool of connections, for the orders and for their jobs.
url = sa.make_url(os.environ.get("DATABASE_URL", "postgresql:///shop")).set(drivername="postgresql+psycopg")
engine = create_async_engine(url)
sessions = async_sessionmaker(engine, expire_on_commit=False)
jobs = procrastinate.App(connector=SQLAlchemyAsyncConnector(engine))


class Base(orm.DeclarativeBase):
    """The tables of the shop."""


class Order(Base):
    """What a customer wants."""

    __tablename__ = "orders"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    customer: orm.Mapped[str]
    item: orm.Mapped[str]
    confirmation: orm.Mapped[str | None]
    job_id: orm.Mapped[int | None] = orm.mapped_column(sa.BigInteger)


# Jobs are rows, too: what a query needs to know of their table.
job_table = sa.table("procrastinate_jobs", sa.column("id", sa.BigInteger), sa.column("status"))


@jobs.task(queue="mail", retry=3)
async def send_confirmation(order_id: int) -> None:
    """Confirm an order."""
    await asyncio.sleep(0.5)  # the mail server is slow today
    async with sessions.begin() as session:
        order = await session.get_one(Order, order_id)
        order.confirmation = f"Dear {order.customer}, your {order.item} is on its way."


async def insert_order(session: AsyncSession, customer: str, item: str) -> Order:
    """Insert an order and its job. They become visible, to workers too, when the session commits."""
    order = Order(customer=customer, item=item)
    session.add(order)
    await session.flush()  # gives the order its id
    order.job_id = await send_confirmation.configure(connection=session).defer_async(order_id=order.id)
    return order


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    """Open and close the jobs together with the web server."""
    async with jobs.open_async():
        yield
    await engine.dispose()


@contextlib.asynccontextmanager
async def lifespan_with_worker(app: FastAPI) -> AsyncGenerator[None]:
    """Also run a worker on the web server's event loop. A worker that fails is not left unnoticed by the group."""
    async with lifespan(app), asyncio.TaskGroup() as group:
        worker = group.create_task(jobs.run_worker_async(install_signal_handlers=False, shutdown_graceful_timeout=10))
        yield
        worker.cancel()  # ends when its running jobs have


app = FastAPI(lifespan=lifespan if os.environ.get("SHOP_WORKER") == "separate" else lifespan_with_worker)


class OrderForm(BaseModel):
    """What the page sends."""

    customer: str = Field(min_length=1)
    item: str = Field(min_length=1)
    decline_card: bool = False


@app.post("/orders", status_code=201)
async def place_order(form: OrderForm) -> dict[str, Any]:
    """Take an order, unless the customer's card is declined after all was inserted."""
    async with sessions.begin() as session:
        order = await insert_order(session, form.customer, form.item)
        ids = {"order_id": order.id, "job_id": order.job_id}
        if form.decline_card:
            raise HTTPException(402, ids)  # any exception rolls back
    return ids


@app.get("/orders")
async def list_orders() -> list[dict[str, Any]]:
    """Return orders and jobs. The join is a full one: an order without job would show, and a job without order."""
    query = (
        sa.select(Order.id.label("order_id"), Order.customer, Order.item, Order.confirmation)
        .add_columns(job_table.c.id.label("job_id"), job_table.c.status)
        .join_from(Order, job_table, Order.job_id == job_table.c.id, full=True)
        .order_by(job_table.c.id.desc())
    )
    async with sessions() as session:
        return [dict(row) for row in (await session.execute(query)).mappings()]


@app.get("/")
async def page() -> FileResponse:
    """Return the page, which asks for the rest."""
    return FileResponse(Path(__file__).parent.parent / "shop.html")
