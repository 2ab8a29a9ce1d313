"""The tests of the SQLAlchemy example, and its script from end to end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from examples.sqlalchemy import shop
from procrastinate import testing
from procrastinate.contrib.sqlalchemy import SQLAlchemyAsyncConnector

ROOT = Path(__file__).parents[2]
OUTPUT = """\
Bob's card was declined: order 2 and job 2 were inserted, and are rolled back

Before the worker:
  order 1, tea: job 1 is todo, not confirmed
  order 3, bread: job 3 is todo, not confirmed

After:
  order 1, tea: job 1 is succeeded, Dear Ada, your tea is on its way.
  order 3, bread: job 3 is succeeded, Dear Cleo, your bread is on its way.
"""


@pytest.fixture
def procrastinate_user_app():
    return shop.jobs


def use(engine):
    """The shop's sessions use a database of the test's own."""
    shop.Base.metadata.create_all(engine)
    shop.sessions.configure(bind=engine)
    yield engine
    shop.sessions.configure(bind=shop.engine)
    engine.dispose()


@pytest.fixture
def jobs(url):
    """Orders and jobs are in one database."""
    for _ in use(sa.create_engine(url)):
        with shop.jobs.replace_connector(SQLAlchemyAsyncConnector(url)):
            yield shop.jobs


@pytest.fixture
def memory(procrastinate_app):
    """Orders and jobs are in memory."""
    # One connection for all threads: each would get a database of its own.
    engine = sa.create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    for _ in use(engine):
        yield procrastinate_app


def orders():
    with shop.sessions() as session:
        return list(session.execute(sa.select(shop.Order.id, shop.Order.job_id, shop.Order.confirmation)))


def test_an_order_and_its_job_are_committed_together(jobs):
    with shop.sessions.begin() as session:
        shop.place_order(session, "Ada", "tea")

    with jobs.open():
        [job] = testing.assert_deferred(jobs, shop.send_confirmation, order_id=1)
    assert orders() == [(1, job.id, None)]


def test_a_declined_card_leaves_neither_order_nor_job(jobs):
    with pytest.raises(shop.CardDeclined), shop.sessions.begin() as session:
        shop.place_order(session, "Ada", "tea", can_pay=False)

    assert orders() == []
    with jobs.open():
        assert testing.deferred_jobs(jobs) == []


def test_a_worker_confirms_the_order(jobs):
    with shop.sessions.begin() as session:
        shop.place_order(session, "Ada", "tea")
    jobs.run_worker(wait=False, install_signal_handlers=False)

    assert orders() == [(1, 1, "Dear Ada, your tea is on its way.")]


def test_in_memory(memory):
    with shop.sessions.begin() as session:
        shop.place_order(session, "Ada", "tea")

    testing.assert_deferred(memory, shop.send_confirmation, order_id=1)
    memory.run_worker(wait=False, install_signal_handlers=False)
    assert orders() == [(1, 1, "Dear Ada, your tea is on its way.")]


@pytest.mark.timeout(120)
def test_the_script_on_a_database_that_it_starts_itself():
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    done = subprocess.run(
        [sys.executable, "-m", "examples.sqlalchemy"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == OUTPUT
