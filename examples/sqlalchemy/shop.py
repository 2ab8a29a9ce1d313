"""A shop: each order is inserted together with the job that confirms it, in one transaction."""

from __future__ import annotations

import os

import sqlalchemy as sa
from sqlalchemy import orm

import procrastinate
from procrastinate.contrib.sqlalchemy import SQLAlchemyAsyncConnector

url = sa.make_url(os.environ.get("DATABASE_URL", "postgresql:///shop")).set(drivername="postgresql+psycopg")
engine = sa.create_engine(url)
sessions = orm.sessionmaker(engine)
# Workers are async inside, and have an engine of their own. Sync code can use this connector, too.
jobs = procrastinate.App(connector=SQLAlchemyAsyncConnector(url))


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


class CardDeclined(Exception):  # noqa: N818  it is no error of ours
    """The customer cannot pay."""


@jobs.task(queue="mail", retry=3)
def send_confirmation(order_id: int) -> None:
    """Confirm an order. A plain function: the worker runs it in a thread."""
    with sessions.begin() as session:
        order = session.get_one(Order, order_id)
        order.confirmation = f"Dear {order.customer}, your {order.item} is on its way."


def place_order(session: orm.Session, customer: str, item: str, *, can_pay: bool = True) -> Order:
    """Insert an order and its job. They become visible, to workers too, when the session commits."""
    order = Order(customer=customer, item=item)
    session.add(order)
    session.flush()  # gives the order its id
    order.job_id = send_confirmation.configure(connection=session).defer(order_id=order.id)
    if not can_pay:
        raise CardDeclined(f"order {order.id} and job {order.job_id} were inserted, and are rolled back")
    return order
