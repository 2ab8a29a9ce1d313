"""A shop: each order is inserted together with the job that confirms it, in one transaction."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask, Response, abort, make_response, request, send_file
from sqlalchemy import orm

import procrastinate

DATABASE_URL = os.environ.get("DATABASE_URL", "postgresql:///shop")
engine = sa.create_engine(sa.make_url(DATABASE_URL).set(drivername="postgresql+psycopg"))
sessions = orm.sessionmaker(engine)
# For the worker. The web server never opens it: it defers through its own sessions.
jobs = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=DATABASE_URL))
app = Flask(__name__)


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
def send_confirmation(order_id: int) -> None:
    """Confirm an order."""
    time.sleep(0.5)  # the mail server is slow today
    with sessions.begin() as session:
        order = session.get_one(Order, order_id)
        order.confirmation = f"Dear {order.customer}, your {order.item} is on its way."


def insert_order(session: orm.Session, customer: str, item: str) -> Order:
    """Insert an order and its job. They become visible, to workers too, when the session commits."""
    order = Order(customer=customer, item=item)
    session.add(order)
    session.flush()  # gives the order its id
    order.job_id = send_confirmation.configure(connection=session).defer(order_id=order.id)
    return order


@app.post("/orders")
def place_order() -> tuple[dict[str, Any], int]:
    """Take an order, unless the customer's card is declined after all was inserted."""
    form = request.get_json()
    if not (form.get("customer") and form.get("item")):
        abort(422, "An order needs a customer and an item")
    with sessions.begin() as session:
        order = insert_order(session, form["customer"], form["item"])
        ids = {"order_id": order.id, "job_id": order.job_id}
        if form.get("decline_card"):
            abort(make_response({"detail": ids}, 402))  # any exception rolls back
    return ids, 201


@app.get("/orders")
def list_orders() -> list[dict[str, Any]]:
    """Return orders and jobs. The join is a full one: an order without job would show, and a job without order."""
    query = (
        sa.select(Order.id.label("order_id"), Order.customer, Order.item, Order.confirmation)
        .add_columns(job_table.c.id.label("job_id"), job_table.c.status)
        .join_from(Order, job_table, Order.job_id == job_table.c.id, full=True)
        .order_by(job_table.c.id.desc())
    )
    with sessions() as session:
        return [dict(row) for row in session.execute(query).mappings()]


@app.get("/")
def page() -> Response:
    """Return the page, which asks for the rest."""
    return send_file(Path(__file__).parent.parent / "shop.html")


@app.cli.command()
def create_tables() -> None:
    """Create the tables that are missing; in earnest, migrations would."""
    Base.metadata.create_all(engine)
    with jobs.open():
        jobs.schema_manager.upgrade()
