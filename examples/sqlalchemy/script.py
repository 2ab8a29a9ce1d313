"""Takes three orders, of which one is not paid for, and runs a worker until nothing is left to do."""

from __future__ import annotations

import sqlalchemy as sa

from examples.sqlalchemy.shop import Base, CardDeclined, Order, engine, jobs, place_order, sessions

# Jobs are rows, too: what a query needs to know of their table.
job_table = sa.table("procrastinate_jobs", sa.column("id", sa.BigInteger), sa.column("status"))


def create_tables() -> None:
    """Create the tables that are missing; in earnest, migrations would."""
    Base.metadata.create_all(engine)
    with jobs.open():
        jobs.schema_manager.upgrade()


def show(title: str) -> None:
    """Print orders and jobs. The join is a full one: an order without job would show, and a job without order."""
    query = (
        sa.select(Order.id, Order.item, job_table.c.id, job_table.c.status, Order.confirmation)
        .join_from(Order, job_table, Order.job_id == job_table.c.id, full=True)
        .order_by(job_table.c.id)
    )
    print(f"\n{title}")
    with sessions() as session:
        for order_id, item, job_id, status, confirmation in session.execute(query):
            print(f"  order {order_id}, {item}: job {job_id} is {status}, {confirmation or 'not confirmed'}")


create_tables()

with sessions.begin() as session:
    place_order(session, "Ada", "tea")
try:
    with sessions.begin() as session:
        place_order(session, "Bob", "honey", can_pay=False)
except CardDeclined as declined:
    print(f"Bob's card was declined: {declined}")
with sessions.begin() as session:
    place_order(session, "Cleo", "bread")

show("Before the worker:")
jobs.run_worker(wait=False)
show("After:")
engine.dispose()
