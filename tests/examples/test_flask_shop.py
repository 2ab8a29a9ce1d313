"""The tests of the Flask example, with its test client."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

import procrastinate
from examples.flask import shop
from procrastinate import testing

FORM = {"customer": "Ada", "item": "tea"}


@pytest.fixture
def procrastinate_user_app():
    return shop.jobs


@pytest.fixture
def client():
    return shop.app.test_client()


def use(engine):
    """The shop's sessions use a database of the test's own."""
    shop.Base.metadata.create_all(engine)
    shop.sessions.configure(bind=engine)
    yield engine
    shop.sessions.configure(bind=shop.engine)
    engine.dispose()


@pytest.fixture
def jobs(procrastinate_postgres, url):
    """Orders and jobs are in one database."""
    connector = procrastinate.PsycopgConnector(conninfo=procrastinate_postgres, min_size=1)
    for _ in use(sa.create_engine(url)):
        with shop.jobs.replace_connector(connector):
            yield shop.jobs


@pytest.fixture
def memory(procrastinate_app):
    """Orders and jobs are in memory."""
    # One connection for all threads: each would get a database of its own.
    engine = sa.create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    for _ in use(engine):
        yield procrastinate_app


def test_an_order_and_its_job_are_committed_together(jobs, client):
    ids = client.post("/orders", json=FORM).json

    with jobs.open():
        [job] = testing.assert_deferred(jobs, shop.send_confirmation, order_id=ids["order_id"])
    assert job.id == ids["job_id"]
    assert [row["status"] for row in client.get("/orders").json] == ["todo"]


def test_a_declined_card_leaves_neither_order_nor_job(jobs, client):
    assert client.post("/orders", json={**FORM, "decline_card": True}).status_code == 402

    assert client.get("/orders").json == []
    with jobs.open():
        assert testing.deferred_jobs(jobs) == []


def test_a_worker_confirms_the_order(jobs, client):
    client.post("/orders", json=FORM)
    jobs.run_worker(wait=False, install_signal_handlers=False)

    [row] = client.get("/orders").json
    assert (row["status"], row["confirmation"]) == ("succeeded", "Dear Ada, your tea is on its way.")


def test_in_memory(memory, client):
    ids = client.post("/orders", json=FORM).json

    testing.assert_deferred(memory, shop.send_confirmation, order_id=ids["order_id"])
    memory.run_worker(wait=False, install_signal_handlers=False)
    with shop.sessions() as session:
        assert session.scalar(sa.select(shop.Order.confirmation)) == "Dear Ada, your tea is on its way."


def test_an_order_without_an_item_is_refused(memory, client):
    assert client.post("/orders", json={"customer": "Ada"}).status_code == 422
    testing.assert_deferred(memory, None, count=0)
